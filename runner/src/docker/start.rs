//! Starting a replica: create, start, inspect.
//! Holds: a start that fails leaves no container behind, as far as the engine answers at all; what it makes after we gave
//! up on it is `created`, and a list says so. What exists already is a state, not an error.

use std::sync::Arc;

use bollard::query_parameters::{CreateContainerOptions, StartContainerOptions};
use tidegate_config::{
    name::ReplicaId,
    spec::{ObservedState, StartSpec, Target},
};
use tokio::time::timeout;

use super::{body, inner::Inner, labels, mounts, network, removal, secrets};
use crate::{
    Error, Event, Kind, Result,
    call::{Failed, UNDO, WRITE},
};

/// Makes and starts a replica, and tells where it is reached.
pub(super) async fn start(inner: &Arc<Inner>, spec: &StartSpec) -> Result<()> {
    if let Target::Host(host) = &spec.target
        && *host != inner.host
    {
        let words = format!("{} is to run on {host}, and this engine is {}'s", spec.id, inner.host);
        return Err(Error::new(Kind::Permanent, words));
    }
    match attempt(inner, spec).await {
        Err(Trouble::NetworkGone) => {
            tracing::warn!(network = inner.network.name, "the network went away; making it again");
            inner.network.forget();
            attempt(inner, spec).await.map_err(|trouble| trouble.into_error(inner))
        }
        outcome => outcome.map_err(|trouble| trouble.into_error(inner)),
    }
}

/// The error for a start that the engine refused.
pub(super) fn refused(inner: &Inner, id: &ReplicaId, failed: Failed) -> Error {
    if let Some(full) = network::full(&inner.network.name, &failed.words) {
        return full;
    }
    let words = failed.words.to_ascii_lowercase();
    // What the image or the file is at fault for comes with any status, by the engine's version.
    let permanent = [
        "executable file not found",
        "no such file or directory",
        "permission denied",
        "not a directory",
        "exec format error",
        "invalid mount config",
        "unable to find user",
        "no matching entries in passwd file",
        "cannot assign requested address",
        "storage-opt is supported only",
    ];
    let what = format!("start {id}");
    let lasting = permanent.iter().any(|p| words.contains(p)) || failed.is(400);
    if lasting { failed.permanent(what) } else { failed.during(what) }
}

enum Trouble {
    NetworkGone,
    Other(Error),
}

impl Trouble {
    fn into_error(self, inner: &Inner) -> Error {
        match self {
            Self::NetworkGone => {
                let network = &inner.network.name;
                Error::new(Kind::Retryable, format!("the network {network} went away, twice"))
            }
            Self::Other(error) => error,
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

async fn attempt(inner: &Arc<Inner>, spec: &StartSpec) -> std::result::Result<(), Trouble> {
    inner.ready().await?;
    mounts::check(&spec.launch, inner.reaching.local)?;
    mounts::check_files(&spec.launch).await?;
    let facts = inner.images.facts(&spec.digest).await?.ok_or_else(|| no_image(spec))?;
    let secrets = secrets::read(&spec.launch.secrets).await?;
    let body = body::create(&inner.instance, spec, &facts.user, &secrets, &inner.place())?;
    let name = labels::container(&inner.instance, &spec.id);
    let options = CreateContainerOptions { name: Some(name), ..CreateContainerOptions::default() };
    let container =
        match inner.api.call("create", WRITE, inner.api.create_container(Some(options), body)).await {
            Ok(made) => made.id,
            Err(failed) if failed.is(409) => return existing(inner, spec, failed).await,
            Err(failed) if network_gone(&failed) => return Err(Trouble::NetworkGone),
            Err(failed) if failed.is(404) => return Err(no_image(spec).into()),
            Err(failed) => {
                if failed.status.is_none() {
                    // It may have been made all the same.
                    undo(inner, &spec.id).await;
                }
                return Err(refused(inner, &spec.id, failed).into());
            }
        };
    inner.made(&container);
    launch(inner, &spec.id, &container).await
}

/// Starts a container that is there, and tells where it is reached or how it ended.
async fn launch(inner: &Arc<Inner>, id: &ReplicaId, container: &str) -> std::result::Result<(), Trouble> {
    let call = inner.api.start_container(container, None::<StartContainerOptions>);
    if let Err(failed) = inner.api.call("start", WRITE, call).await
        && !failed.is(304)
    {
        // Without this, it would stay `created` for ever.
        discard(inner, id, container).await;
        let gone = network_gone(&failed);
        return Err(if gone { Trouble::NetworkGone } else { refused(inner, id, failed).into() });
    }
    match inner.inspect_event(container).await? {
        // Answered, and not done: it would stay `created` for ever.
        Some(Event::Resync) => {
            discard(inner, id, container).await;
            let words = format!("start {id}: the engine said that it had started it, and had not");
            return Err(Error::new(Kind::Retryable, words).into());
        }
        Some(event) => inner.events.tell(event),
        None => return Err(Error::new(Kind::Gone, format!("{id} went away while it was started")).into()),
    }
    Ok(())
}

/// The name is taken: by an earlier call for the same replica, or by somebody else.
async fn existing(inner: &Arc<Inner>, spec: &StartSpec, failed: Failed) -> std::result::Result<(), Trouble> {
    let what = format!("start {}", spec.id);
    let Some(found) = inner.find(&spec.id).await? else {
        let name = labels::container(&inner.instance, &spec.id);
        let taken = inner.inspect(&name).await.map_err(|f| f.during(&what))?.is_some();
        // One that is gone by now was on its way out.
        return Err(if taken { failed.permanent(what) } else { failed.during(what) }.into());
    };
    if found.state == Some(ObservedState::Created) {
        return launch(inner, &spec.id, &found.container).await;
    }
    if let Some(event) = inner.inspect_event(&found.container).await? {
        inner.events.tell(event);
    }
    Ok(())
}

/// Removes what a failed start may have left, if the engine lets us.
async fn undo(inner: &Inner, id: &ReplicaId) {
    match timeout(UNDO, inner.find(id)).await {
        Ok(Ok(Some(found))) => discard(inner, id, &found.container).await,
        Ok(Ok(None)) => {}
        Ok(Err(_)) | Err(_) => {
            tracing::debug!(%id, "a start failed and the engine does not say whether it left a container");
        }
    }
}

async fn discard(inner: &Inner, id: &ReplicaId, container: &str) {
    let call = inner.api.remove_container(container, Some(removal()));
    if let Err(left) = inner.api.call("remove", UNDO, call).await
        && !left.is(404)
    {
        tracing::warn!(%id, error = left.words, "a start failed and its container could not be removed");
    }
}

pub(super) fn network_gone(failed: &Failed) -> bool {
    failed.is(404) && failed.words.to_ascii_lowercase().contains("network")
}

fn no_image(spec: &StartSpec) -> Error {
    let words = format!("no such image: {} ({})", spec.launch.image, spec.digest.short());
    Error::new(Kind::NoImage, words)
}
