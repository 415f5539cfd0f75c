//! What images are: asked of their registries, for a cluster cannot be. Nodes are told the digest, so that nobody runs
//! another one. With `pull = "never"` nobody is asked: nodes have what the name means, or they say that they have not.

use std::collections::HashMap;

use parking_lot::Mutex;
use tidegate_config::{
    model::Images as Settings,
    spec::{Digest, Pull, StartSpec},
};

use crate::{Error, Kind, Prepared, Result, embedded::images::describe};

/// What the digest of an image begins with that only its name tells.
const NAMED: &str = "named:";
/// Images that are in files, which nodes cannot read.
const FILES: [&str; 3] = ["docker-archive:", "oci-archive:", "oci:"];

/// An image as nodes look for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// `NAME@DIGEST`, or the name alone.
    pub name: String,
    /// Whether nodes may fetch it.
    pub may_fetch: bool,
    /// Who runs it; `None`: nobody knows.
    pub user: Option<String>,
}

/// Images that were asked for, by their digests.
pub(super) struct Images {
    settings: Settings,
    known: Mutex<HashMap<Digest, Known>>,
}

impl Images {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, known: Mutex::default() }
    }

    /// Says what an image is.
    pub(super) async fn prepare(&self, image: &str, pull: Pull) -> Result<Prepared> {
        if FILES.iter().any(|kind| image.starts_with(kind)) {
            let words = format!("nodes take images from registries, and {image} is in a file");
            return Err(Error::new(Kind::Permanent, words));
        }
        if pull == Pull::Never {
            let digest = Digest(format!("{NAMED}{image}"));
            return Ok(Prepared { digest, exposed: Vec::new(), healthcheck: None });
        }
        let found = describe(image, &self.settings).await?;
        let user = Some(found.config.config.user.clone().unwrap_or_default());
        let known = Known { name: found.pinned, may_fetch: true, user };
        self.known.lock().insert(found.digest.clone(), known);
        Ok(Prepared {
            digest: found.digest,
            exposed: found.config.exposed(),
            healthcheck: found.config.healthcheck(),
        })
    }

    /// The image of a replica, as nodes look for it.
    ///
    /// # Errors
    /// [`Kind::NoImage`] for one that was not asked for.
    pub(super) fn known(&self, spec: &StartSpec) -> Result<Known> {
        if let Some(name) = spec.digest.0.strip_prefix(NAMED) {
            return Ok(Known { name: name.to_owned(), may_fetch: false, user: None });
        }
        self.known.lock().get(&spec.digest).cloned().ok_or_else(|| {
            let words =
                format!("nobody has asked for the image {} ({})", spec.launch.image, spec.digest.short());
            Error::new(Kind::NoImage, words)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_config::spec::{Launch, Revision, Target};

    fn spec(digest: Digest) -> StartSpec {
        StartSpec {
            id: "api-3-17".parse().expect("valid"),
            revision: Revision("r1".into()),
            launch: Launch::of("api:1"),
            digest,
            port: 80,
            target: Target::Host("k".parse().expect("valid")),
        }
    }

    #[tokio::test]
    async fn what_may_not_be_fetched_is_known_by_its_name() {
        let images = Images::new(Settings::default());
        let prepared = images.prepare("api:1", Pull::Never).await.expect("nobody is asked");
        let known = images.known(&spec(prepared.digest)).expect("its name says it");
        assert_eq!(known, Known { name: "api:1".into(), may_fetch: false, user: None });
        let other = images.known(&spec(Digest("sha256:ab".into()))).expect_err("nobody asked for it");
        assert_eq!(other.kind, Kind::NoImage);
    }

    #[tokio::test]
    async fn files_are_refused() {
        let images = Images::new(Settings::default());
        for image in ["docker-archive:/a.tar", "oci:/a", "oci-archive:/a.tar"] {
            let error = images.prepare(image, Pull::Missing).await.expect_err("it is a file");
            assert!(error.kind == Kind::Permanent && error.message.contains("registries"), "{error}");
        }
    }
}
