//! `make bench-density`: two hundred replicas of the sample service at once on our own engine: how long they take, what
//! they cost together with their shims, and that nothing of them is left.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use anyhow::{Context, ensure};
use e2e::{
    client::{Session, empty},
    debian,
    engine::Engine,
    process::Gateway,
    remains::{self, Remains},
};
use futures_util::future::join_all;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tidegate::control::status::ReplicaStatus;
use tokio::time::Instant;

/// How long all of them may take to start, and to go.
const WITHIN: Duration = Duration::from_secs(300);

const PAUSE: Duration = Duration::from_millis(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let wanted: usize = std::env::var("N").ok().filter(|n| !n.is_empty()).map_or(Ok(200), |n| n.parse())?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("tidegate.toml");
    fs::write(&file, config(0, wanted)?)?;
    let mut gateway = Gateway::start(&file).await?;
    let measured = measure(&gateway, &file, wanted).await;
    let left = leave(&mut gateway, &file, wanted).await;
    // Whatever happened, nothing stays; and what a bug left is counted before.
    let stopped = gateway.stop().await;
    let (measured, mut leaked) = (measured?, left?);
    if let Err(error) = stopped {
        eprintln!("{error:#}");
        leaked += 1;
    }
    println!(
        "density replicas={wanted} healthy={} rss_mib_per_replica={:.2} start_ms_per_replica={:.1} leaked={leaked}",
        measured.healthy, measured.memory, measured.start,
    );
    ensure!(measured.healthy == wanted && leaked == 0, "not all is well");
    Ok(())
}

fn config(min: usize, max: usize) -> anyhow::Result<String> {
    let image = debian::images()?.join("echo.tar");
    let parallel = std::env::var("PARALLEL").unwrap_or_else(|_| "8".to_owned());
    let text = format!(
        "[services.echo]\nimage = \"docker-archive:{}\"\nscaling = {{ min = {min}, max = {max}, idle = \"1s\" }}\n\
         resources = {{ memory = \"64MiB\", reserve = {{ memory = \"1MiB\" }} }}\n",
        image.display()
    );
    Ok(Engine::Embedded.on(&text, &format!("parallel_starts = {parallel}\n")))
}

struct Measured {
    healthy: usize,
    /// MiB for each.
    memory: f64,
    /// Milliseconds for each.
    start: f64,
}

async fn measure(gateway: &Gateway, file: &Path, wanted: usize) -> anyhow::Result<Measured> {
    let begun = Instant::now();
    apply(gateway, file, &config(wanted, wanted)?)?;
    let all = until(gateway, "all are ready", |replicas| {
        replicas.iter().filter(|replica| replica.phase == "ready").count() == wanted
    })
    .await?;
    let each = |whole: f64| whole / wanted as f64;
    let start = each(begun.elapsed().as_secs_f64() * 1e3);
    let answers = join_all(all.iter().map(answers)).await;
    for failed in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        eprintln!("{failed:#}");
    }
    let memory = memory(&remains::pids(&gateway.instance()?));
    eprintln!(
        "{} processes of {wanted} replicas and their shims: {:.0} MiB, counting each shared page once (each process: {:.0} MiB)",
        memory.processes, memory.shared, memory.resident
    );
    Ok(Measured {
        healthy: answers.iter().filter(|answer| answer.is_ok()).count(),
        memory: each(memory.shared),
        start,
    })
}

/// Asks a replica at its own address.
async fn answers(replica: &ReplicaStatus) -> anyhow::Result<()> {
    let address = replica.address.as_ref().context("an address")?.parse()?;
    let request = http::Request::get("/").header("host", "replica").body(empty())?;
    let asked = async { Session::http1(address).await.ask(request).await };
    let answer = tokio::time::timeout(Duration::from_secs(30), asked).await;
    let answer = answer.with_context(|| format!("{} does not answer", replica.id))??;
    ensure!(answer.status == 200, "{}: {}", replica.id, answer.status);
    Ok(())
}

#[derive(Default)]
struct Memory {
    processes: usize,
    /// MiB, a page that n processes share counted as an n-th for each (Pss).
    shared: f64,
    /// MiB, such a page counted for each (Rss).
    resident: f64,
}

fn memory(pids: &[u32]) -> Memory {
    pids.iter().fold(Memory { processes: pids.len(), ..Memory::default() }, |sum, pid| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let field = |name: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name));
            let kib =
                line.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse::<f64>().ok());
            kib.unwrap_or(0.0) / 1024.0
        };
        Memory { shared: sum.shared + field("Pss:"), resident: sum.resident + field("Rss:"), ..sum }
    })
}

/// To zero, and the gateway's end; then what is left of the replicas. What the engine keeps ready for the next ones goes
/// with [`Gateway::stop`], which looks for itself.
async fn leave(gateway: &mut Gateway, file: &Path, wanted: usize) -> anyhow::Result<usize> {
    let instance = gateway.instance()?;
    let before: BTreeSet<u32> = remains::pids(&instance).into_iter().collect();
    let begun = Instant::now();
    apply(gateway, file, &config(0, wanted)?)?;
    // Not before the new file holds: a service that always has to run does not sleep.
    until(gateway, "some have gone", |replicas| replicas.len() < wanted.max(1)).await?;
    gateway.sleep("echo").await?;
    eprintln!("all gone after {:.1} s", begun.elapsed().as_secs_f64());
    let alive = remains::pids(&instance).into_iter().filter(|pid| before.contains(pid)).count();
    gateway.terminate().await?;
    let folders = gateway.state().join(remains::FOLDER).join("replicas");
    let folders = fs::read_dir(folders).map_or(0, Iterator::count);
    remains::purge(gateway.state(), &instance).await?;
    let left = Remains::of(&instance, gateway.state());
    if alive + folders + left.count() > 0 {
        eprintln!("left over: {alive} processes and {folders} folders of replicas, {left:?}");
    }
    Ok(alive + folders + left.count())
}

fn apply(gateway: &Gateway, file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, text)?;
    Ok(kill(Pid::from_raw(i32::try_from(gateway.pid())?), Signal::SIGHUP)?)
}

async fn until(
    gateway: &Gateway,
    what: &str,
    holds: impl Fn(&[ReplicaStatus]) -> bool,
) -> anyhow::Result<Vec<ReplicaStatus>> {
    let begun = Instant::now();
    loop {
        let service = gateway.services().await?.into_iter().next().context("the service")?;
        if holds(&service.replicas) {
            return Ok(service.replicas);
        }
        ensure!(
            begun.elapsed() < WITHIN,
            "not within {WITHIN:?}: {what}; {} replicas: {}",
            service.replicas.len(),
            service.reason
        );
        tokio::time::sleep(PAUSE).await;
    }
}
