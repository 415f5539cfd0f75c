//! Starting a replica: one service. Holds: a start that fails leaves neither service nor secrets behind, as far as the
//! swarm answers at all. What exists already is a state, not an error.

use bollard::models::ServiceSpec;
use tidegate_config::spec::{Profile, Pull, StartSpec};

use super::{
    body::{self, Given},
    inner::Inner,
    secrets as files,
};
use crate::{
    Error, Kind, Result,
    call::{Failed, WRITE},
    credentials,
    docker::{
        body::refuse_root,
        images::{Facts, for_engine},
        labels, secrets,
    },
};

/// Makes a replica's service. Where it runs is found by looking.
pub(super) async fn start(inner: &Inner, spec: &StartSpec) -> Result<()> {
    let host = spec.target.host();
    if *host != inner.options.host {
        let words = format!("{} is to run on {host}, and this swarm is {}", spec.id, inner.options.host);
        return Err(Error::new(Kind::Permanent, words));
    }
    body::check(spec)?;
    if spec.launch.profile == Profile::Strict && !inner.forbids_new_privileges().await? {
        let words = "the strict profile needs engines that can forbid new privileges to services: version 27 or newer";
        return Err(Error::new(Kind::Permanent, words));
    }
    let facts = inner.images.facts(&spec.digest).await?.ok_or_else(|| no_image(spec))?;
    refuse_root(&spec.launch, &facts.user)?;
    let values = secrets::read(&spec.launch.secrets).await?;
    let image = image(spec, &facts);
    let made = match files::make(inner, &spec.id, &spec.launch.secret_files).await {
        Ok(made) => made,
        // By an earlier call for the same replica, which may have got further.
        Err(error) if inner.find(&spec.id).await?.is_some() => {
            tracing::debug!(%error, "the service is there already");
            inner.started.notify_one();
            return Ok(());
        }
        Err(error) => {
            forget_files(inner, spec).await;
            return Err(error);
        }
    };
    let from = Given { image: &image, secrets: &values, files: &made, resolvers: &inner.resolvers.now() };
    let service = body::service(&inner.options.instance, spec, &from);
    create(inner, spec, service).await
}

async fn create(inner: &Inner, spec: &StartSpec, service: ServiceSpec) -> Result<()> {
    // Nodes that have to fetch it ask the registry with them.
    let credentials = credentials::of(&spec.launch.image).await?.map(for_engine);
    let call = inner.api.create_service(service, credentials);
    match inner.api.call("service create", WRITE, call).await {
        Ok(_) => {
            inner.started.notify_one();
            Ok(())
        }
        Err(failed) if failed.is(409) => existing(inner, spec, failed).await,
        Err(failed) => {
            forget_files(inner, spec).await;
            Err(refused(spec, failed))
        }
    }
}

/// The name is taken: by an earlier call for the same replica, or by somebody else.
async fn existing(inner: &Inner, spec: &StartSpec, failed: Failed) -> Result<()> {
    if inner.find(&spec.id).await?.is_some() {
        inner.started.notify_one();
        return Ok(());
    }
    forget_files(inner, spec).await;
    let what = format!("start {}", spec.id);
    let name = labels::container(&inner.options.instance, &spec.id);
    let taken = inner.inspect(&name).await.map_err(|f| f.during(&what))?.is_some();
    // One that is gone by now was on its way out.
    Err(if taken { failed.permanent(what) } else { failed.during(what) })
}

async fn forget_files(inner: &Inner, spec: &StartSpec) {
    if spec.launch.secret_files.is_empty() {
        return;
    }
    if let Err(left) = files::remove(inner, &spec.id).await {
        tracing::warn!(replica = %spec.id, error = %left, "a start failed and its secrets could not be removed");
    }
}

/// The image as nodes look for it: by name and digest, or by its id where it has none or none may be fetched.
fn image(spec: &StartSpec, facts: &Facts) -> String {
    let by_id = || spec.digest.0.clone();
    if spec.launch.pull == Pull::Never {
        return by_id();
    }
    facts.pinned(&spec.launch.image).map_or_else(by_id, str::to_owned)
}

/// What the file is at fault for never passes by itself.
fn refused(spec: &StartSpec, failed: Failed) -> Error {
    let words = failed.words.to_ascii_lowercase();
    let lasting = ["invalid", "rpc error: code = invalidargument"].iter().any(|w| words.contains(w));
    let what = format!("start {}", spec.id);
    if lasting { failed.permanent(what) } else { failed.during(what) }
}

fn no_image(spec: &StartSpec) -> Error {
    let words = format!("no such image: {} ({})", spec.launch.image, spec.digest.short());
    Error::new(Kind::NoImage, words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_config::spec::{Digest, Launch, Revision, Target};

    #[test]
    fn images_are_named_so_that_nobody_fetches_another() {
        let digests = ["other/api@sha256:11", "reg:5000/api@sha256:22"].map(String::from).to_vec();
        for (image_name, pull, digests, expected) in [
            ("reg:5000/api:1", Pull::Missing, digests.clone(), "reg:5000/api@sha256:22"),
            ("reg:5000/api", Pull::Always, digests.clone(), "reg:5000/api@sha256:22"),
            ("elsewhere/api:1", Pull::Missing, digests.clone(), "other/api@sha256:11"),
            ("reg:5000/api:1", Pull::Never, digests, "sha256:ab"),
            ("api:1", Pull::Missing, vec![], "sha256:ab"),
        ] {
            let spec = StartSpec {
                id: "api-3-17".parse().expect("valid"),
                revision: Revision("r1".into()),
                launch: Launch { pull, ..Launch::of(image_name) },
                digest: Digest("sha256:ab".into()),
                port: 80,
                target: Target::Host("swarm".parse().expect("valid")),
            };
            let facts = Facts { digests, ..Facts::default() };
            assert_eq!(image(&spec, &facts), expected, "{image_name} {pull:?}");
        }
    }
}
