//! Which versions of a service run: the good one, and a newer one that is being tried.
//! Asked by [`decide`](crate::decide).

use serde::{Deserialize, Serialize};
use tidegate_config::spec::{Revision, Version};

use crate::snapshot::{Image, Snapshot};

/// Which versions run, and how requests are shared between them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mix {
    /// The good version, which new replicas are of; `None` while nobody knows what the image is.
    pub main: Option<Version>,
    /// A newer one, and the percentage of requests that it gets (100: all, once enough of it is ready).
    pub trial: Option<(Version, u8)>,
}

/// What is known of a service's versions; small, and kept over restarts of the gateway.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Release {
    /// The version that has proven itself.
    pub good: Option<Version>,
    /// Earlier good ones, latest first.
    pub kept: Vec<Version>,
    /// The version that was taken back, and why. It is not tried again until the settings or the image change.
    pub rejected: Option<Rejected>,
}

/// A version that was taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rejected {
    /// Which.
    pub revision: Revision,
    /// Why, for people.
    pub why: String,
}

/// There is no version to go back to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no earlier version to go back to")]
pub struct NoEarlier;

impl Release {
    /// Goes back to the last kept version, or to a named one; the one that is left is not tried again by itself.
    ///
    /// # Errors
    /// When nothing is kept, or not that one.
    pub fn roll_back(&mut self, to: Option<&Revision>) -> Result<Revision, NoEarlier> {
        let at = match to {
            Some(to) => self.kept.iter().position(|version| version.revision == *to),
            None => (!self.kept.is_empty()).then_some(0),
        };
        let version = self.kept.remove(at.ok_or(NoEarlier)?);
        let revision = version.revision.clone();
        let left = self.good.replace(version);
        if let Some(left) = left {
            let why = "rolled back by hand".to_owned();
            self.rejected = Some(Rejected { revision: left.revision.clone(), why });
            self.kept.insert(0, left);
        }
        Ok(revision)
    }

    /// Tries a version again that was taken back.
    pub fn forgive(&mut self) {
        self.rejected = None;
    }
}

/// The version that the settings name, once some host has its image.
#[must_use]
pub fn wanted(seen: &Snapshot) -> Option<Version> {
    seen.hosts.iter().find_map(|host| match &host.image {
        Image::Present { digest, revision, port } => Some(Version {
            revision: revision.clone(),
            launch: seen.service.launch.clone(),
            digest: digest.clone(),
            port: *port,
        }),
        Image::Unknown | Image::Pulling | Image::Failed { .. } => None,
    })
}
