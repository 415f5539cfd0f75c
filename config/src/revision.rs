//! Names a version of a service's launch settings. Called by the control loop, once the image's digest is known.

use std::fmt::Write;

use sha2::{Digest as _, Sha256};

use crate::spec::{Digest, Launch, Revision};

/// The first 12 hex digits of a hash over everything that a replica is started with. The same settings have the same
/// revision after a restart, which is how running replicas are recognised.
#[must_use]
pub fn revision(launch: &Launch, digest: &Digest) -> Revision {
    let settings = serde_json::to_vec(&without_rules(launch)).expect("launch settings are plain values");
    let mut hash = Sha256::new();
    hash.update(&settings);
    hash.update([0]);
    hash.update(digest.0.as_bytes());
    let mut text = String::new();
    for byte in &hash.finalize()[..6] {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
    }
    Revision(text)
}

/// Whether two launch settings start the same thing from the same content.
#[must_use]
pub fn same_revision(a: &Launch, b: &Launch) -> bool {
    a == b || without_rules(a) == without_rules(b)
}

/// Without what is about the service and not about one replica of it.
fn without_rules(launch: &Launch) -> Launch {
    let mut launch = launch.clone();
    launch.volumes.iter_mut().for_each(|volume| volume.shared = false);
    launch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Volume;

    #[test]
    fn a_revision_follows_settings_and_content() {
        let digest = |text: &str| Digest(text.to_owned());
        let first = revision(&Launch::of("a:1"), &digest("sha256:1"));
        assert_eq!(first, revision(&Launch::of("a:1"), &digest("sha256:1")));
        assert_eq!((first.0.len(), first.0.chars().all(|c| c.is_ascii_hexdigit())), (12, true));
        assert_ne!(first, revision(&Launch::of("a:1"), &digest("sha256:2")));
        assert_ne!(first, revision(&Launch { port: Some(1), ..Launch::of("a:1") }, &digest("sha256:1")));
    }

    /// Each new launch setting is left out of the hashed text where it has its default: replicas of an earlier version of
    /// Tidegate are recognised.
    #[test]
    fn a_revision_outlives_new_settings() {
        const TEXT: &str = r#"{"image":"a:1","pull":"missing","command":[],"args":[],"env":{},"secrets":{},"working_dir":null,"user":null,"port":null,"protocol":"http1","volumes":[],"resources":{"memory":536870912,"cpu":null,"pids":1024,"reserve":{"memory":67108864,"cpu":0.0}},"profile":"default"}"#;
        let launch = Launch::of("a:1");
        assert_eq!(serde_json::to_string(&launch).expect("plain values"), TEXT);
        assert_eq!(revision(&launch, &Digest("sha256:1".to_owned())).0, "cf3da4bd637c");
    }

    #[test]
    fn sharing_a_volume_restarts_nothing() {
        let launch = |shared, read_only| {
            let volume = Volume { source: "data".into(), target: "/data".into(), read_only, shared };
            Launch { volumes: vec![volume], ..Launch::of("a:1") }
        };
        let digest = Digest("sha256:1".to_owned());
        assert_eq!(revision(&launch(true, false), &digest), revision(&launch(false, false), &digest));
        assert!(same_revision(&launch(true, false), &launch(false, false)));
        assert!(!same_revision(&launch(false, true), &launch(false, false)));
    }
}
