//! What a container of ours carries so that the next gateway knows it again: a name and labels, both ways.
//! Holds: ours is what has the instance's label *and* its name; images can carry labels, names they cannot.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use bollard::models::{ContainerState, ContainerStateStatusEnum as State};
use tidegate_config::{
    name::ReplicaId,
    spec::{Digest, Exit, ObservedState, Revision, StartSpec},
};

use crate::InstanceId;

/// The instance that made it.
pub(crate) const INSTANCE: &str = "dev.tidegate.instance";
const SERVICE: &str = "dev.tidegate.service";
const REPLICA: &str = "dev.tidegate.replica";
const REVISION: &str = "dev.tidegate.revision";
const PORT: &str = "dev.tidegate.port";
const DIGEST: &str = "dev.tidegate.digest";

/// Labels as the engine has them.
pub(crate) type Labels = HashMap<String, String>;

/// What a container of ours says about itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stamp {
    pub id: ReplicaId,
    pub revision: Revision,
    pub digest: Digest,
    pub port: u16,
}

/// The name of the container of a replica.
pub(crate) fn container(instance: &InstanceId, id: &ReplicaId) -> String {
    format!("tg-{}-{id}", instance.short())
}

/// The name of the instance's network.
pub(crate) fn network(instance: &InstanceId) -> String {
    format!("tg-{}", instance.short())
}

/// The labels of a new container.
pub(crate) fn stamp(instance: &InstanceId, spec: &StartSpec) -> Labels {
    [
        (INSTANCE, instance.to_string()),
        (SERVICE, spec.id.service().to_string()),
        (REPLICA, spec.id.to_string()),
        (REVISION, spec.revision.to_string()),
        (PORT, spec.port.to_string()),
        (DIGEST, spec.digest.0.clone()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// What a container says about itself, if it is ours. `name` may have the slash that the engine puts before it.
pub(crate) fn read(instance: &InstanceId, name: &str, labels: &Labels) -> Option<Stamp> {
    let get = |key: &str| labels.get(key).map(String::as_str);
    let id: ReplicaId = get(REPLICA)?.parse().ok()?;
    let ours = get(INSTANCE)? == instance.as_str()
        && name.strip_prefix('/').unwrap_or(name) == container(instance, &id);
    ours.then_some(())?;
    Some(Stamp {
        revision: Revision(get(REVISION)?.to_owned()),
        digest: Digest(get(DIGEST)?.to_owned()),
        port: get(PORT)?.parse().ok()?,
        id,
    })
}

/// What a container is doing. `None`: it is being removed, or is in a state that we never put it in.
pub(crate) fn state(state: &ContainerState) -> Option<ObservedState> {
    Some(match state.status? {
        State::CREATED => ObservedState::Created,
        State::RUNNING | State::STOPPING | State::RESTARTING => ObservedState::Running,
        State::PAUSED => ObservedState::Frozen,
        State::EXITED | State::DEAD => ObservedState::Exited(exit(state)),
        State::REMOVING | State::EMPTY => return None,
    })
}

/// How a container's process ended.
pub(crate) fn exit(state: &ContainerState) -> Exit {
    Exit {
        code: state.exit_code.unwrap_or(-1),
        out_of_memory: state.oom_killed.unwrap_or(false),
        disrupted: false,
        message: state.error.clone().filter(|words| !words.is_empty()),
    }
}

/// When a container was made, from either form that the engine gives.
pub(crate) fn created(text: Option<&str>, seconds: Option<i64>) -> SystemTime {
    let from_text = text.and_then(|t| humantime::parse_rfc3339(t).ok());
    let from_seconds = || {
        let seconds = seconds.and_then(|s| u64::try_from(s).ok())?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    };
    from_text.or_else(from_seconds).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_config::spec::{Launch, Target};

    fn instance() -> InstanceId {
        InstanceId::from_bits(0x1234_5678 << 96)
    }

    fn spec() -> StartSpec {
        StartSpec {
            id: "api-3-17".parse().expect("valid"),
            revision: Revision("r1".into()),
            launch: Launch::of("api:1"),
            digest: Digest("sha256:ab".into()),
            port: 8080,
            target: Target::Host("local".parse().expect("valid")),
        }
    }

    #[test]
    fn a_stamp_reads_back() {
        let labels = stamp(&instance(), &spec());
        let seen = read(&instance(), "/tg-12345678-api-3-17", &labels).expect("ours");
        assert_eq!(
            (seen.id, seen.revision, seen.digest, seen.port),
            (spec().id, spec().revision, spec().digest, 8080)
        );
    }

    #[test]
    fn ours_needs_label_and_name() {
        let ours = stamp(&instance(), &spec());
        let other_instance = stamp(&InstanceId::from_bits(7), &spec());
        let mut no_port = ours.clone();
        no_port.remove(PORT);
        for (name, labels, expected) in [
            ("tg-12345678-api-3-17", &ours, true),
            ("tg-12345678-api-3-18", &ours, false),
            ("api", &ours, false),
            ("tg-12345678-api-3-17", &other_instance, false),
            ("tg-12345678-api-3-17", &no_port, false),
            ("tg-12345678-api-3-17", &Labels::new(), false),
        ] {
            assert_eq!(read(&instance(), name, labels).is_some(), expected, "{name} {labels:?}");
        }
    }

    #[test]
    fn states_translate() {
        let seen = |status, code, oom| ContainerState {
            status: Some(status),
            exit_code: Some(code),
            oom_killed: Some(oom),
            ..ContainerState::default()
        };
        let exited = |code, out_of_memory| {
            ObservedState::Exited(Exit { code, out_of_memory, disrupted: false, message: None })
        };
        for (given, expected) in [
            (seen(State::CREATED, 0, false), Some(ObservedState::Created)),
            (seen(State::RUNNING, 0, false), Some(ObservedState::Running)),
            (seen(State::PAUSED, 0, false), Some(ObservedState::Frozen)),
            (seen(State::EXITED, 7, false), Some(exited(7, false))),
            (seen(State::EXITED, 137, true), Some(exited(137, true))),
            (seen(State::REMOVING, 0, false), None),
        ] {
            assert_eq!(state(&given), expected, "{:?}", given.status);
        }
    }

    #[test]
    fn times_read_in_both_forms() {
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        assert_eq!(created(Some("1970-01-02T00:00:00.000000000Z"), None), expected);
        assert_eq!(created(None, Some(86_400)), expected);
        assert_eq!(created(None, None), SystemTime::UNIX_EPOCH);
    }
}
