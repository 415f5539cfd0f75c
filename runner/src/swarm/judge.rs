//! What a task of Swarm's says of a replica. Asked after every look at the swarm; a pure reading of its words.
//! Holds: a task on a node that is down has ended, whatever its last word was. Absent: calls, time.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use bollard::models::{Node, NodeState, Task, TaskState};
use tidegate_config::spec::Exit;

use crate::cluster::Standing;

/// What tasks need to know of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub name: String,
    pub address: Option<IpAddr>,
    pub down: bool,
}

/// The swarm's nodes, by Swarm's ids.
pub(super) type Places = HashMap<String, Place>;

/// The nodes as a list tells them. `own`: the address of those that tell none; `here`: the manager is on this machine, so
/// that loopback leads to it.
pub(super) fn places(nodes: &[Node], own: Option<IpAddr>, here: bool) -> Places {
    let place = |node: &Node| {
        let told = node.status.as_ref().and_then(|status| status.addr.as_deref());
        let manager = node.manager_status.as_ref().and_then(|status| status.addr.as_deref());
        let usable = |ip: &IpAddr| !ip.is_unspecified() && (here || !ip.is_loopback());
        let addresses = [told.and_then(ip), manager.and_then(ip)];
        let name = node.description.as_ref().and_then(|about| about.hostname.clone());
        let place = Place {
            name: name.unwrap_or_default(),
            address: addresses.into_iter().flatten().find(usable).or(own),
            down: node.status.as_ref().and_then(|status| status.state) == Some(NodeState::DOWN),
        };
        Some((node.id.clone()?, place))
    };
    nodes.iter().filter_map(place).collect()
}

/// How the replica of this task stands; `port` is its own.
pub(super) fn standing(task: &Task, places: &Places, port: u16) -> Standing {
    let place = task.node_id.as_ref().and_then(|id| places.get(id));
    let status = task.status.as_ref();
    let state = status.and_then(|status| status.state).unwrap_or(TaskState::NEW);
    let words = status.and_then(|status| status.err.clone()).filter(|words| !words.is_empty());
    match state {
        TaskState::COMPLETE
        | TaskState::SHUTDOWN
        | TaskState::FAILED
        | TaskState::REJECTED
        | TaskState::REMOVE
        | TaskState::ORPHANED => {
            Standing::Ended(Exit { disrupted: is_told_to_end(state), ..ended(task, words) })
        }
        _ if place.is_some_and(|place| place.down) => Standing::Ended(lost(place)),
        TaskState::RUNNING => Standing::Running(place.and_then(|place| address(task, place, port))),
        TaskState::NEW | TaskState::ALLOCATED | TaskState::PENDING => {
            words.map_or(Standing::Coming, Standing::Stuck)
        }
        TaskState::ASSIGNED
        | TaskState::ACCEPTED
        | TaskState::PREPARING
        | TaskState::READY
        | TaskState::STARTING => Standing::Coming,
    }
}

/// The newest of a service's tasks: somebody else may have had it started again.
pub(super) fn newest<'t>(tasks: impl Iterator<Item = &'t Task>) -> Option<&'t Task> {
    // RFC 3339 in UTC: later is greater.
    tasks.max_by(|a, b| a.created_at.cmp(&b.created_at))
}

fn ended(task: &Task, words: Option<String>) -> Exit {
    let container = task.status.as_ref().and_then(|status| status.container_status.as_ref());
    let code = container.and_then(|container| container.exit_code);
    // What only repeats the code says nothing.
    let message = words.filter(|words| !words.starts_with("task: non-zero exit"));
    let told = code.filter(|code| *code != 0 || message.is_none());
    Exit { code: told.unwrap_or(-1), out_of_memory: false, disrupted: false, message }
}

/// Whether the swarm has ended a task, as where its node is drained, and it did not end by itself.
fn is_told_to_end(state: TaskState) -> bool {
    matches!(state, TaskState::SHUTDOWN | TaskState::REMOVE | TaskState::ORPHANED)
}

fn lost(place: Option<&Place>) -> Exit {
    let name = place.map_or("", |place| place.name.as_str());
    Exit {
        code: -1,
        out_of_memory: false,
        disrupted: true,
        message: Some(format!("its node {name} is down")),
    }
}

fn address(task: &Task, place: &Place, port: u16) -> Option<SocketAddr> {
    let ports = task.status.as_ref()?.port_status.as_ref()?.ports.as_ref()?;
    let ours = ports.iter().find(|p| p.target_port == Some(i64::from(port)))?;
    let published = u16::try_from(ours.published_port?).ok().filter(|port| *port != 0)?;
    Some(SocketAddr::new(place.address?, published))
}

/// `HOST` or `HOST:PORT`.
fn ip(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::{
        ContainerStatus, EndpointPortConfig, ManagerStatus, NodeDescription, NodeStatus, PortStatus,
        TaskStatus,
    };

    fn nodes(down: bool) -> Places {
        let place = Place { name: "h2".into(), address: "10.0.0.2".parse().ok(), down };
        Places::from([("n2".to_owned(), place)])
    }

    fn task(state: TaskState, err: &str, code: Option<i64>) -> Task {
        let port = |target, published| EndpointPortConfig {
            target_port: Some(target),
            published_port: Some(published),
            ..EndpointPortConfig::default()
        };
        let ports = Some(vec![port(81, 30_001), port(80, 30_000), port(80, 30_000)]);
        Task {
            node_id: Some("n2".into()),
            status: Some(TaskStatus {
                state: Some(state),
                err: Some(err.into()),
                container_status: Some(ContainerStatus { exit_code: code, ..ContainerStatus::default() }),
                port_status: Some(PortStatus { ports }),
                ..TaskStatus::default()
            }),
            ..Task::default()
        }
    }

    fn exit(code: i64, message: Option<&str>) -> Standing {
        Standing::Ended(Exit {
            code,
            out_of_memory: false,
            disrupted: false,
            message: message.map(String::from),
        })
    }

    /// It has ended for no fault of its own.
    fn disrupted(code: i64, message: Option<&str>) -> Standing {
        let message = message.map(String::from);
        Standing::Ended(Exit { code, out_of_memory: false, disrupted: true, message })
    }

    #[test]
    fn tasks_say_how_replicas_stand() {
        let running = || Standing::Running("10.0.0.2:30000".parse().ok());
        let full = "no suitable node (insufficient resources on 3 nodes)";
        for (state, err, code, down, expected) in [
            (TaskState::NEW, "", None, false, Standing::Coming),
            (TaskState::PENDING, "", None, false, Standing::Coming),
            (TaskState::PENDING, full, None, false, Standing::Stuck(full.into())),
            (TaskState::PREPARING, "", None, false, Standing::Coming),
            (TaskState::RUNNING, "", Some(0), false, running()),
            (TaskState::RUNNING, "", Some(0), true, disrupted(-1, Some("its node h2 is down"))),
            (TaskState::ASSIGNED, "", None, true, disrupted(-1, Some("its node h2 is down"))),
            (TaskState::FAILED, "task: non-zero exit (137)", Some(137), false, exit(137, None)),
            (TaskState::FAILED, "task: non-zero exit (137)", Some(137), true, exit(137, None)),
            (TaskState::COMPLETE, "", Some(0), false, exit(0, None)),
            (TaskState::SHUTDOWN, "", Some(143), false, disrupted(143, None)),
            (TaskState::REJECTED, "No such image: x", None, false, exit(-1, Some("No such image: x"))),
            (TaskState::REJECTED, "No such image: x", Some(0), false, exit(-1, Some("No such image: x"))),
        ] {
            let seen = standing(&task(state, err, code), &nodes(down), 80);
            assert_eq!(seen, expected, "{state:?} {err} {down}");
        }
        let other = standing(&task(TaskState::RUNNING, "", None), &nodes(false), 82);
        assert_eq!(other, Standing::Running(None), "no port of ours");
    }

    #[test]
    fn the_newest_task_counts() {
        let at =
            |time: &str, slot| Task { created_at: Some(time.into()), slot: Some(slot), ..Task::default() };
        let tasks =
            [at("2026-01-01T00:00:01Z", 1), at("2026-01-01T00:00:03Z", 3), at("2026-01-01T00:00:02Z", 2)];
        assert_eq!(newest(tasks.iter()).and_then(|task| task.slot), Some(3));
        assert_eq!(newest([].iter()), None);
    }

    #[test]
    fn nodes_are_reached_at_what_they_tell() {
        let own = Some("192.0.2.1".parse().expect("an address"));
        for (told, manager, own, here, expected) in [
            ("10.0.0.2", None, None, false, Some("10.0.0.2")),
            ("0.0.0.0", Some("10.0.0.1:2377"), None, false, Some("10.0.0.1")),
            ("0.0.0.0", None, own, false, Some("192.0.2.1")),
            ("0.0.0.0", Some("0.0.0.0:2377"), None, false, None),
            ("127.0.0.1", None, None, true, Some("127.0.0.1")),
            ("127.0.0.1", None, None, false, None),
            ("", None, None, true, None),
        ] {
            let node = Node {
                id: Some("n1".into()),
                description: Some(NodeDescription {
                    hostname: Some("h1".into()),
                    ..NodeDescription::default()
                }),
                status: Some(NodeStatus {
                    state: Some(NodeState::READY),
                    addr: Some(told.into()),
                    ..NodeStatus::default()
                }),
                manager_status: manager
                    .map(|addr| ManagerStatus { addr: Some(addr.into()), ..ManagerStatus::default() }),
                ..Node::default()
            };
            let place = Place {
                name: "h1".into(),
                address: expected.map(|ip| ip.parse().expect("an address")),
                down: false,
            };
            assert_eq!(places(&[node], own, here)["n1"], place, "{told} {manager:?}");
        }
    }
}
