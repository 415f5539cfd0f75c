//! `make bench-control`: what ten thousand services cost while nobody calls them, and how many replicas are started per second
//! when everybody does. The engine is scripted and answers at once; all else is the real path, from a client's connection over
//! the queue, the decision, the start and the probe to the answer of a replica with a socket of its own. Clients, gateway and
//! replicas are one process.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::world::World;
use futures_util::{StreamExt, stream};

const SERVICES: usize = 10_000;
/// Services that are called for the first time.
const STARTS: usize = 4000;
/// Clients that wait at once.
const CLIENTS: usize = 200;
/// The idle gateway is watched for so long, after as much time to become quiet.
const WATCHED: Duration = Duration::from_secs(10);
/// CPU time per second of time for all services that are idle.
const WANTED_IDLE: Duration = Duration::from_millis(20);
/// What Dirigent reports.
const WANTED_STARTS: f64 = 2500.0;

#[tokio::main]
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
async fn main() -> anyhow::Result<()> {
    // Each replica has a socket, and each client two ends of one.
    let (_, most) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, most, most)?;
    let empty = memory()?;
    let world = World::new(&config()).await;
    tokio::time::sleep(WATCHED).await;
    let each = (memory()? - empty) / SERVICES as f64 / 1024.0;
    let before = cpu()?;
    tokio::time::sleep(WATCHED).await;
    let idle = (cpu()? - before).div_f64(WATCHED.as_secs_f64());
    println!(
        "idle services={SERVICES} cpu_ms_per_s={:.1} wanted={} kib_per_service={each:.1}",
        idle.as_secs_f64() * 1e3,
        WANTED_IDLE.as_millis()
    );
    let begun = Instant::now();
    let answers = stream::iter(0..STARTS).map(|number| {
        let world = &world;
        async move { world.get(&format!("s{number}"), "/").await.status }
    });
    let statuses: Vec<u16> = answers.buffer_unordered(CLIENTS).collect().await;
    let per_second = STARTS as f64 / begun.elapsed().as_secs_f64();
    let errors = statuses.iter().filter(|status| **status != 200).count();
    println!(
        "control services={SERVICES} idle_cpu_ms_per_s={:.1} kib_per_service={each:.1} starts={STARTS} errors={errors} starts_per_s={per_second:.0} ratio_dirigent={:.2}",
        idle.as_secs_f64() * 1e3,
        per_second / WANTED_STARTS
    );
    ensure!(errors == 0, "{errors} first requests were not answered with 200");
    world.stop().await;
    Ok(())
}

fn config() -> String {
    let service =
        |number| format!("[services.s{number}]\nimage = \"echo:1\"\nscaling = {{ concurrency = 10 }}\n");
    let host = "hosts = [{ name = 'local', capacity = { cpu = 4096, memory = '4096GiB' } }]\n".to_owned();
    std::iter::once(host).chain((0..SERVICES).map(service)).collect()
}

/// Bytes of this process that are in memory.
fn memory() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a line VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0)
}

/// Time that this process has had a processor.
fn cpu() -> anyhow::Result<Duration> {
    let used = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF)?;
    let time = |of: nix::sys::time::TimeVal| {
        Duration::from_secs(of.tv_sec().unsigned_abs()) + Duration::from_micros(of.tv_usec().unsigned_abs())
    };
    Ok(time(used.user_time()) + time(used.system_time()))
}
