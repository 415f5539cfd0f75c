//! Secrets that become files: kept by the swarm for as long as the replica that they are for.
//! Holds: each is one replica's alone and goes with it; names and labels say whose it is, never what it is.

use std::collections::{BTreeMap, HashMap};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bollard::{models::SecretSpec, query_parameters::ListSecretsOptions};
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
    let wanted = marks(inner, id).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    let options = ListSecretsOptions { filters: Some(HashMap::from([("label".to_owned(), wanted)])) };
    let listed = inner.api.call("secret list", READ, inner.api.list_secrets(Some(options))).await;
    let listed = listed.map_err(|f| f.during(format!("list the secret files of {id}")))?;
    for secret in listed.into_iter().filter_map(|secret| secret.id) {
        match inner.api.call("secret remove", WRITE, inner.api.delete_secret(&secret)).await {
            Err(failed) if !failed.is(404) => {
                return Err(failed.during(format!("remove a secret file of {id}")));
            }
            _ => {}
        }
    }
    Ok(())
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
