//! Which versions a service has had: the good one, earlier ones, and the one that was taken back. Moved on by
//! [`decide`](crate::decide) through [`rollout`](crate::rollout); kept over restarts of the gateway.
//! Absent: the trial itself, which begins again after a restart.

use serde::{Deserialize, Serialize};
use tidegate_config::spec::{Revision, Version};

use crate::snapshot::{Image, Snapshot};

/// Why a version was taken back that somebody went back from.
pub(crate) const BY_HAND: &str = "rolled back by hand";

/// What is known of a service's versions; small, and kept over restarts of the gateway.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Release {
    /// The version that has proven itself.
    pub good: Option<Version>,
    /// Earlier good ones, latest first.
    pub kept: Vec<Version>,
    /// The version of the settings, if it was taken back, and why. It is not tried again until they or the image change.
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
    /// Goes back to the last kept version, or to a named one, while none is being tried (see
    /// [`Memory::roll_back`](crate::Memory::roll_back)); the settings' version is not tried again by itself.
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
        match &self.rejected {
            // Back to the version of the settings.
            Some(rejected) if rejected.revision == revision => self.rejected = None,
            // The version of the settings stays the one that is not to be tried.
            Some(_) => {}
            None => {
                self.rejected = left.as_ref().map(|left| Rejected::by_hand(left.revision.clone()));
            }
        }
        if let Some(left) = left {
            self.kept.insert(0, left);
        }
        Ok(revision)
    }

    /// Tries a version again that was taken back.
    pub fn forgive(&mut self) {
        self.rejected = None;
    }

    /// A version has proven itself.
    pub(crate) fn promote(&mut self, version: Version) {
        self.kept.retain(|kept| kept.revision != version.revision);
        if let Some(before) = self.good.replace(version) {
            self.kept.insert(0, before);
        }
        self.rejected = None;
    }
}

impl Rejected {
    pub(crate) fn by_hand(revision: Revision) -> Self {
        Self { revision, why: BY_HAND.to_owned() }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::version;

    /// The good version, the kept ones, and the rejected one.
    fn release(good: &str, kept: &[&str], rejected: Option<&str>) -> Release {
        Release {
            good: Some(version(good)),
            kept: kept.iter().copied().map(version).collect(),
            rejected: rejected.map(|revision| Rejected::by_hand(Revision(revision.into()))),
        }
    }

    #[test]
    fn going_back() {
        // Before; where to; after. The file names r3 all the time.
        type Row<'a> = (Release, Option<&'a str>, Option<Release>);
        let rows: [Row<'_>; 7] = [
            (release("r3", &["r2", "r1"], None), None, Some(release("r2", &["r3", "r1"], Some("r3")))),
            (release("r3", &["r2", "r1"], None), Some("r1"), Some(release("r1", &["r3", "r2"], Some("r3")))),
            // Further back: the file's version stays the one that is not tried.
            (
                release("r2", &["r3", "r1"], Some("r3")),
                Some("r1"),
                Some(release("r1", &["r2", "r3"], Some("r3"))),
            ),
            // Forward to the file's version again.
            (release("r2", &["r3", "r1"], Some("r3")), Some("r3"), Some(release("r3", &["r2", "r1"], None))),
            (release("r3", &[], None), None, None),
            (release("r3", &["r2"], None), Some("r9"), None),
            (Release::default(), None, None),
        ];
        for (n, (before, to, expected)) in rows.into_iter().enumerate() {
            let mut after = before.clone();
            let to = to.map(|to| Revision(to.into()));
            let answer = after.roll_back(to.as_ref());
            assert_eq!(answer.is_ok(), expected.is_some(), "row {n}");
            assert_eq!(after, expected.unwrap_or(before), "row {n}");
        }
    }

    #[test]
    fn what_is_promoted_is_not_kept_as_well() {
        let mut found = release("r2", &["r3", "r1"], None);
        found.promote(version("r3"));
        assert_eq!(found, release("r3", &["r2", "r1"], None));
    }
}
