//! `make bench-churn`: replicas, engines and the gateway are killed at random, from a seed, under a steady load over
//! many services; a supervisor starts the gateway again at once, as a service manager would.
//! `DURATION=60s` shortens it, `SEED=7` draws other kills, `KILLS=1` prints them. Requests that were inside a killed
//! gateway, or met its closed port, are counted apart. Last line: `churn requests= errors= availability= ...`.

mod kills;
mod tally;

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::Context;
use e2e::{
    chaos::{
        IMAGE, ROOT,
        certs::Authority,
        gateway::{Gateway, Setup},
        host::{self, Host, Options},
        leaks::{self, Engines},
        load::{Aim, Load},
        run::run,
    },
    eventually::eventually,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};

use crate::{kills::Killer, tally::Outcome};

const SERVICES: usize = 20;
const RATE: f64 = 200.0;

/// Percent; a run below it fails.
const WANTED: f64 = 99.99;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    // Scripts are named from the root; cargo starts benches in their package.
    std::env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let passed = tokio::select! {
        passed = churn() => passed?,
        _ = interrupt.recv() => return Ok(ExitCode::from(130)),
        _ = terminate.recv() => return Ok(ExitCode::from(143)),
    };
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn churn() -> anyhow::Result<bool> {
    let seed = number("SEED", 1);
    let time = Duration::from_secs(number("DURATION", 600));
    let hosts = hosts().await?;
    let engines = engines(&hosts)?;
    let mut gateway = Gateway::start(Setup::new(config(&hosts))).await?;
    warm(&gateway).await?;
    println!("churn: seed={seed} seconds={} services={SERVICES} hosts={}", time.as_secs(), hosts.len());
    let load = Load::start(aim(&gateway));
    let mut killer = Killer::new(seed, hosts);
    let until = Instant::now() + time;
    while Instant::now() < until {
        killer.pause(&mut gateway, until).await?;
        killer.strike(&mut gateway, &engines).await?;
    }
    killer.pause(&mut gateway, Instant::now() + Duration::from_secs(10)).await?;
    let outcome = Outcome::of(&load.stop().await, &killer.gateway_kills);
    let leaked = leaks::check(&gateway, &engines).await?;
    gateway.terminate().await?;
    println!("churn: {}", killer.summary());
    for (reason, count) in &outcome.reasons {
        println!("churn: {count} x {reason}");
    }
    for leak in &leaked {
        println!("churn: {leak}");
    }
    println!("churn {outcome} leaked={}", leaked.len());
    Ok(outcome.availability() >= WANTED && leaked.is_empty())
}

/// Two: containers outlive the engine of the first, and end with that of the second.
async fn hosts() -> anyhow::Result<Vec<Host>> {
    let authority = Authority::new(&host::certs())?;
    authority.gateway()?;
    let image = Path::new(ROOT).join("echo.tar");
    if !image.exists() {
        run(&format!("docker save --output {} {IMAGE}", image.display()))
            .context("scripts/image makes it")?;
    }
    let mut hosts = Vec::new();
    for (number, live_restore) in [(1, true), (2, false)] {
        let host = Host::up(number, &authority, Options { live_restore, ..Options::default() }).await?;
        host.load(&image)?;
        hosts.push(host);
    }
    Ok(hosts)
}

fn engines(hosts: &[Host]) -> anyhow::Result<Engines> {
    hosts.iter().map(|host| Ok((host.name(), host.docker()?))).collect()
}

/// A quarter has two replicas always, a quarter has one, half fall asleep when nobody calls.
fn config(hosts: &[Host]) -> String {
    let mut config: String = hosts.iter().map(Host::config).collect();
    for number in 0..SERVICES {
        let scaling = match number % 4 {
            0 => "min = 2\nmax = 3",
            1 => "min = 1\nmax = 3",
            _ => "idle = \"5s\"\nmax = 2",
        };
        config += &format!(
            "[services.s{number}]\nimage = \"{IMAGE}\"\npull = \"never\"\n\
             [services.s{number}.resources]\nmemory = \"32MiB\"\n[services.s{number}.scaling]\n{scaling}\n"
        );
    }
    config
}

async fn warm(gateway: &Gateway) -> anyhow::Result<()> {
    eventually("every service that is to run runs", async || {
        let services = gateway.services().await?;
        Ok(services
            .iter()
            .all(|service| service.want as usize <= service.replicas.len() && service.state != "starting"))
    })
    .await?;
    sleep(Duration::from_secs(1)).await;
    Ok(())
}

fn aim(gateway: &Gateway) -> Aim {
    let mut aim = Aim::at(gateway.address(), "s0").rate(RATE).workers(150);
    aim.hosts = (0..SERVICES).map(|number| format!("s{number}.localhost")).collect();
    aim
}

/// A count, or a length of time in seconds, from the environment.
fn number(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    digits.parse().map_or(default, |count: u64| count * if unit == "m" { 60 } else { 1 })
}
