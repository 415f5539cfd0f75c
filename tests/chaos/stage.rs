//! What modes share: certificates, the image, hosts on demand, and how long things last.

use std::{path::Path, time::Duration};

use anyhow::Context;
use bollard::{Docker, query_parameters::RemoveContainerOptions};
use e2e::{
    chaos::{
        IMAGE, ROOT,
        certs::Authority,
        gateway::{Gateway, Setup},
        host::{self, Host, Options},
        leaks::{self, Engines},
        run::run,
        verdict::Verdict,
    },
    eventually::eventually,
};

/// The stage of a run.
pub(crate) struct Stage {
    authority: Authority,
}

impl Stage {
    pub(crate) fn set() -> anyhow::Result<Self> {
        let authority = Authority::new(&host::certs())?;
        authority.gateway()?;
        let image = Path::new(ROOT).join("echo.tar");
        if !image.exists() {
            run(&format!("docker save --output {} {IMAGE}", image.display()))
                .context("scripts/image makes it")?;
        }
        Ok(Self { authority })
    }

    /// A host with the image.
    pub(crate) async fn host(&self, number: u8, options: Options) -> anyhow::Result<Host> {
        let host = Host::up(number, &self.authority, options).await?;
        host.load(&Path::new(ROOT).join("echo.tar"))?;
        Ok(host)
    }

    /// How long the soak lasts.
    pub(crate) fn soak(&self) -> Duration {
        span("SOAK", Duration::from_secs(600))
    }
}

/// A length of time from the environment, as in `60s` or `10m`.
pub(crate) fn span(name: &str, default: Duration) -> Duration {
    let Ok(text) = std::env::var(name) else { return default };
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "m" => 60,
        "h" => 3600,
        _ => 1,
    };
    digits.parse().map_or(default, |count: u64| Duration::from_secs(count * seconds))
}

/// A count from the environment.
pub(crate) fn count(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A service of the sample image; `keys` are its own, `scaling` those of its table.
pub(crate) fn service(name: &str, keys: &str, scaling: &str) -> String {
    format!(
        "[services.{name}]\nimage = \"{IMAGE}\"\npull = \"never\"\n{keys}\n[services.{name}.scaling]\n{scaling}\n"
    )
}

/// A gateway with this file over this machine's engine.
pub(crate) async fn gateway(config: String) -> anyhow::Result<Gateway> {
    Gateway::start(Setup::new(config)).await
}

/// The engines of hosts.
pub(crate) fn engines(hosts: &[&Host]) -> anyhow::Result<Engines> {
    hosts.iter().map(|host| Ok((host.name(), host.docker()?))).collect()
}

/// Waits until so many replicas of a service are ready.
pub(crate) async fn ready(gateway: &Gateway, service: &str, count: usize) -> anyhow::Result<()> {
    let what = format!("{count} replicas of {service} are ready");
    let waited = eventually(&what, async || Ok(gateway.in_phase(service, "ready").await? >= count)).await;
    match waited {
        Ok(()) => Ok(()),
        Err(error) => Err(error.context(format!("{:?}", gateway.service(service).await?.reason))),
    }
}

/// The end of every mode: engines and gateway agree, nothing is left in `created`, and the gateway ends well.
pub(crate) async fn close(
    mut gateway: Gateway,
    engines: &Engines,
    verdict: &mut Verdict,
) -> anyhow::Result<()> {
    verdict.problems(leaks::check(&gateway, engines).await?);
    gateway.terminate().await
}

/// The same over this machine's engine.
pub(crate) async fn close_local(gateway: Gateway, verdict: &mut Verdict) -> anyhow::Result<()> {
    close(gateway, &leaks::local()?, verdict).await
}

/// The containers of a service that run, by name.
pub(crate) async fn running(
    gateway: &Gateway,
    engines: &Engines,
    service: &str,
) -> anyhow::Result<Vec<(String, String)>> {
    let all = leaks::containers(engines, &gateway.instance()?).await?;
    let mine =
        gateway.service(service).await?.replicas.into_iter().map(|replica| replica.id).collect::<Vec<_>>();
    let ours = all.into_iter().filter(|found| mine.contains(&found.replica) && found.state == "running");
    Ok(ours.map(|found| (found.host, found.name)).collect())
}

/// Removes a container as a stranger would.
pub(crate) async fn kill(docker: &Docker, name: &str) -> anyhow::Result<()> {
    let options = RemoveContainerOptions { force: true, ..Default::default() };
    Ok(docker.remove_container(name, Some(options)).await?)
}
