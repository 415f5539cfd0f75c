//! Looks for containers that nobody knows of: what the engines hold for an instance against what `ps` says.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Context;
use bollard::{Docker, query_parameters::ListContainersOptions};
use tokio::time::{Duration, Instant, sleep};

use super::gateway::Gateway;

/// How long the two may differ: removals take their time, lost events are made good within 30 s.
const SETTLE: Duration = Duration::from_secs(45);

/// The engines of a mode, by their names in the file.
pub type Engines = BTreeMap<String, Docker>;

/// This machine's engine alone.
///
/// # Errors
/// When it cannot be used.
pub fn local() -> anyhow::Result<Engines> {
    Ok(BTreeMap::from([("local".to_owned(), Docker::connect_with_local_defaults()?)]))
}

/// A container of an instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The engine that has it.
    pub host: String,
    /// Its name.
    pub name: String,
    /// The replica that its label names.
    pub replica: String,
    /// `running`, `created`, `exited`, ...
    pub state: String,
}

/// Every container that carries an instance's label.
///
/// # Errors
/// When an engine does not answer.
pub async fn containers(engines: &Engines, instance: &str) -> anyhow::Result<Vec<Found>> {
    let label = format!("dev.tidegate.instance={instance}");
    let mut found = Vec::new();
    for (host, docker) in engines {
        let filters = HashMap::from([("label".to_owned(), vec![label.clone()])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let list =
            docker.list_containers(Some(options)).await.with_context(|| format!("the engine of {host}"))?;
        found.extend(list.into_iter().map(|container| Found {
            host: host.clone(),
            name: container.names.unwrap_or_default().concat().trim_start_matches('/').to_owned(),
            replica: container.labels.unwrap_or_default().remove("dev.tidegate.replica").unwrap_or_default(),
            state: container.state.map(|state| state.to_string()).unwrap_or_default(),
        }));
    }
    found.sort();
    Ok(found)
}

/// Waits until engines and gateway agree; what is leaked or missing if they do not.
///
/// # Errors
/// When the gateway or an engine does not answer.
pub async fn check(gateway: &Gateway, engines: &Engines) -> anyhow::Result<Vec<String>> {
    let instance = gateway.instance()?;
    let begun = Instant::now();
    loop {
        let differences = differences(gateway, engines, &instance).await?;
        if differences.is_empty() || begun.elapsed() > SETTLE {
            return Ok(differences);
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn differences(gateway: &Gateway, engines: &Engines, instance: &str) -> anyhow::Result<Vec<String>> {
    let known: BTreeSet<(String, String)> = gateway
        .services()
        .await?
        .into_iter()
        .flat_map(|service| service.replicas)
        .map(|replica| (replica.host, replica.id))
        .collect();
    let found = containers(engines, instance).await?;
    let there: BTreeSet<(String, String)> =
        found.iter().map(|found| (found.host.clone(), found.replica.clone())).collect();
    let leaked = there.difference(&known).map(|(host, replica)| format!("leaked {replica} on {host}"));
    let missing =
        known.difference(&there).map(|(host, replica)| format!("{replica} on {host} has no container"));
    let created = found.iter().filter(|found| found.state == "created");
    let created = created.map(|found| format!("{} on {} is still created", found.replica, found.host));
    Ok(leaked.chain(missing).chain(created).collect())
}
