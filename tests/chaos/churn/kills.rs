//! Who is killed when: drawn from a seed. Also the supervisor of the gateway.

use std::time::Duration;

use anyhow::Context;
use bollard::query_parameters::KillContainerOptions;
use e2e::chaos::{
    gateway::Gateway,
    host::Host,
    leaks::{self, Engines},
};
use nix::sys::signal::Signal;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::{Instant, sleep};

/// How often the supervisor looks.
const GLANCE: Duration = Duration::from_millis(20);

/// The killer.
pub(crate) struct Killer {
    chance: SmallRng,
    hosts: Vec<Host>,
    talks: bool,
    replicas: u32,
    engines: u32,
    unasked: u32,
    /// When the gateway was killed.
    pub(crate) gateway_kills: Vec<Instant>,
}

impl Killer {
    pub(crate) fn new(seed: u64, hosts: Vec<Host>) -> Self {
        let talks = std::env::var_os("KILLS").is_some();
        let chance = SmallRng::seed_from_u64(seed);
        Self { chance, hosts, talks, replicas: 0, engines: 0, unasked: 0, gateway_kills: Vec::new() }
    }

    /// Waits for the next instant to strike, and starts the gateway again whenever it has ended by itself.
    pub(crate) async fn pause(&mut self, gateway: &mut Gateway, until: Instant) -> anyhow::Result<()> {
        let next = Instant::now() + Duration::from_millis(self.chance.random_range(2000..8000));
        while Instant::now() < next.min(until) {
            if gateway.ended()? {
                self.unasked += 1;
                self.gateway_kills.push(Instant::now());
                gateway.launch()?;
            }
            sleep(GLANCE).await;
        }
        Ok(())
    }

    /// Kills somebody.
    pub(crate) async fn strike(&mut self, gateway: &mut Gateway, engines: &Engines) -> anyhow::Result<()> {
        match self.chance.random_range(0..10) {
            0..6 => self.replica(gateway, engines).await,
            6..8 => self.engine().await,
            _ => self.gateway(gateway).await,
        }
    }

    async fn replica(&mut self, gateway: &Gateway, engines: &Engines) -> anyhow::Result<()> {
        let all = leaks::containers(engines, &gateway.instance()?).await?;
        let running: Vec<_> = all.into_iter().filter(|found| found.state == "running").collect();
        if running.is_empty() {
            return Ok(());
        }
        let victim = &running[self.chance.random_range(0..running.len())];
        self.say(&format!("replica {}", victim.replica));
        // It may have ended by itself since.
        drop(engines[&victim.host].kill_container(&victim.name, None::<KillContainerOptions>).await);
        self.replicas += 1;
        Ok(())
    }

    async fn engine(&mut self) -> anyhow::Result<()> {
        let at = self.chance.random_range(0..self.hosts.len());
        self.say(&format!("engine of {}", self.hosts[at].name()));
        self.hosts[at].end(Signal::SIGKILL).await?;
        self.hosts[at].start().await.context("the engine after its end")?;
        self.engines += 1;
        Ok(())
    }

    async fn gateway(&mut self, gateway: &mut Gateway) -> anyhow::Result<()> {
        self.say("gateway");
        self.gateway_kills.push(Instant::now());
        gateway.crash().await?;
        gateway.launch()
    }

    fn say(&self, victim: &str) {
        if self.talks {
            println!("churn: kill {victim}");
        }
    }

    /// How many of each.
    pub(crate) fn summary(&self) -> String {
        let gateways = self.gateway_kills.len();
        format!(
            "killed replicas={} engines={} gateways={gateways}; the gateway ended by itself {} times",
            self.replicas, self.engines, self.unasked
        )
    }
}
