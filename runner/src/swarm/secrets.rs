//! Secrets that become files: kept by the swarm for as long as the replica that they are for.
//! Holds: each is one replica's alone and goes with it, at the latest when the next sweep finds it alone; names and labels
//! say whose it is, never what it is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bollard::{
    models::{Secret as Kept, SecretSpec},
    query_parameters::ListSecretsOptions,
};
use sha2::{Digest as _, Sha256};
use tidegate_config::{name::ReplicaId, spec::Secret};

use super::{body::SwarmSecret, inner::Inner};
use crate::{
    Error, Kind, Result,
    call::{READ, WRITE},
    docker::labels,
};

/// What Swarm takes.
const LARGEST: usize = 500 * 1024;
/// Between two looks for secrets of replicas that are gone: longer than any start takes from its secrets to its service.
pub(super) const SWEEP: Duration = Duration::from_secs(60);
/// The replica that a secret is for.
const REPLICA: &str = "dev.tidegate.replica";

/// Gives the swarm the files of a replica.
pub(super) async fn make(
    inner: &Inner,
    id: &ReplicaId,
    files: &BTreeMap<String, Secret>,
) -> Result<Vec<(String, SwarmSecret)>> {
    let mut made = Vec::new();
    for (name, secret) in files {
        let value = read(name, secret).await?;
        let spec = SecretSpec {
            name: Some(swarm_name(inner, id, name)),
            labels: Some(marks(inner, id)),
            data: Some(STANDARD.encode(value)),
            ..SecretSpec::default()
        };
        let known = spec.name.clone().unwrap_or_default();
        let call = inner.api.call("secret create", WRITE, inner.api.create_secret(spec)).await;
        let answer = call.map_err(|f| f.during(format!("give the swarm the secret file {name}")))?;
        made.push((name.clone(), SwarmSecret { id: answer.id, name: known }));
    }
    Ok(made)
}

/// Removes the files of a replica. What a service still uses the swarm keeps.
pub(super) async fn remove(inner: &Inner, id: &ReplicaId) -> Result<()> {
    for secret in list(inner, marks(inner, id)).await?.into_iter().filter_map(|secret| secret.id) {
        delete(inner, &secret).await?;
    }
    Ok(())
}

/// Secrets that had no replica at the last look, by their ids: a replica's secrets are there a moment before it is.
#[derive(Debug, Default)]
pub(super) struct Alone(BTreeSet<String>);

/// Removes secrets that have had no replica since the last look: of a gateway that was killed between two steps.
pub(super) async fn sweep(inner: &Inner, replicas: &BTreeSet<ReplicaId>, alone: &mut Alone) -> Result<()> {
    let ours = [(labels::INSTANCE.to_owned(), inner.options.instance.to_string())].into();
    for secret in alone.still(&list(inner, ours).await?, replicas) {
        tracing::info!(host = %inner.options.host, secret, "a secret file belongs to no replica and is removed");
        delete(inner, &secret).await?;
    }
    Ok(())
}

impl Alone {
    /// Those without a replica, now as at the last look.
    fn still(&mut self, kept: &[Kept], replicas: &BTreeSet<ReplicaId>) -> Vec<String> {
        let without = |secret: &Kept| {
            let said = secret.spec.as_ref()?.labels.as_ref()?.get(REPLICA)?.parse::<ReplicaId>().ok()?;
            secret.id.clone().filter(|_| !replicas.contains(&said))
        };
        let now: BTreeSet<String> = kept.iter().filter_map(without).collect();
        let before = std::mem::replace(&mut self.0, now);
        self.0.intersection(&before).cloned().collect()
    }
}

async fn list(inner: &Inner, marks: HashMap<String, String>) -> Result<Vec<Kept>> {
    let wanted = marks.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    let options = ListSecretsOptions { filters: Some(HashMap::from([("label".to_owned(), wanted)])) };
    let listed = inner.api.call("secret list", READ, inner.api.list_secrets(Some(options))).await;
    listed.map_err(|f| f.during("list the secret files"))
}

async fn delete(inner: &Inner, secret: &str) -> Result<()> {
    match inner.api.call("secret remove", WRITE, inner.api.delete_secret(secret)).await {
        Err(failed) if !failed.is(404) => Err(failed.during("remove a secret file")),
        _ => Ok(()),
    }
}

async fn read(name: &str, secret: &Secret) -> Result<Vec<u8>> {
    let file = secret.file.display();
    let refuse = |why: &dyn std::fmt::Display| {
        Error::new(Kind::Permanent, format!("the secret file {name} cannot be read from {file}: {why}"))
    };
    let value = tokio::fs::read(&secret.file).await.map_err(|error| refuse(&error))?;
    match value.len() {
        0 => Err(refuse(&"it is empty, and Swarm takes no empty secret")),
        1..=LARGEST => Ok(value),
        _ => Err(refuse(&"it is larger than Swarm takes (500 KiB)")),
    }
}

/// Swarm's names are short and everybody's: this one is as long as it needs to be.
fn swarm_name(inner: &Inner, id: &ReplicaId, name: &str) -> String {
    let hash = Sha256::digest(format!("{}/{id}/{name}", inner.options.instance).as_bytes());
    let hex: String = hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("tg-{}-{hex}", inner.options.instance.short())
}

fn marks(inner: &Inner, id: &ReplicaId) -> HashMap<String, String> {
    [(labels::INSTANCE, inner.options.instance.to_string()), (REPLICA, id.to_string())]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_goes_that_was_alone_twice() {
        let kept = |number: u64| {
            let labels = Some(HashMap::from([(REPLICA.to_owned(), format!("api-3-{number}"))]));
            let spec = Some(SecretSpec { labels, ..SecretSpec::default() });
            Kept { id: Some(format!("s{number}")), spec, ..Kept::default() }
        };
        let replicas = |numbers: &[u64]| -> BTreeSet<ReplicaId> {
            numbers.iter().map(|number| format!("api-3-{number}").parse().expect("valid")).collect()
        };
        let mut alone = Alone::default();
        for (numbers, running, gone) in [
            (&[1_u64, 2, 3] as &[_], &[1_u64] as &[_], &[] as &[&str]),
            // The second's start got on.
            (&[1, 2, 3], &[1, 2], &["s3"]),
            (&[1, 2, 4], &[1], &[]),
            (&[1, 2, 4], &[1, 4], &["s2"]),
            (&[1], &[], &[]),
        ] {
            let kept: Vec<_> = numbers.iter().map(|number| kept(*number)).collect();
            assert_eq!(alone.still(&kept, &replicas(running)), gone, "{numbers:?} {running:?}");
        }
        let foreign = Kept { id: Some("x".to_owned()), ..Kept::default() };
        assert_eq!(alone.still(&[foreign], &replicas(&[])), [""; 0]);
    }
}
