//! What a pod says of a replica. Asked after every change of it; a pure reading of its words.
//! Holds: whatever ends a pod is told with its reason, if anybody gave one. Absent: calls, time.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, Pod, PodStatus};
use tidegate_config::spec::Exit;

use crate::cluster::Standing;

/// Why a container does not come to run, and will not of itself. The kubelet would go on trying; we start another one.
const HOPELESS: [&str; 10] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];
/// Reasons for an end that say no more than its code does.
const PLAIN: [&str; 3] = ["Error", "Completed", "OOMKilled"];

/// How the replica of this pod stands; `port` is its own.
pub(super) fn standing(pod: &Pod, port: u16) -> Standing {
    let empty = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&empty);
    let container = status.container_statuses.iter().flatten().find_map(|container| container.state.as_ref());
    let over = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
    if let Some(ended) = container.and_then(|state| state.terminated.as_ref()) {
        return Standing::Ended(exit(ended, disturbed(status).or_else(|| deleted(pod))));
    }
    if over || pod.metadata.deletion_timestamp.is_some() {
        let ended = disturbed(status).or_else(|| deleted(pod));
        let Disturbed { words, by_cluster } =
            ended.unwrap_or_else(|| Disturbed { words: "its pod has ended".to_owned(), by_cluster: false });
        return Standing::Ended(Exit {
            code: -1,
            out_of_memory: false,
            disrupted: by_cluster,
            message: Some(words),
        });
    }
    if let Some(words) = container.and_then(hopeless) {
        return Standing::Ended(Exit {
            code: -1,
            out_of_memory: false,
            disrupted: false,
            message: Some(words),
        });
    }
    // Nobody else has the pod's address, so that it is of use before the kubelet has told that the container runs.
    if let Some(ip) = status.pod_ip.as_deref().and_then(|ip| ip.parse().ok()) {
        return Standing::Running(Some(SocketAddr::new(ip, port)));
    }
    unschedulable(status).map_or(Standing::Coming, Standing::Stuck)
}

/// What is wrong with a pod's node, while the pod runs there: Kubernetes says then that the pod is not ready, and its kubelet,
/// which is not heard any more, had said that its containers are.
pub(super) fn trouble(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let is = |kind: &str, status: &str| {
        conditions.iter().any(|condition| condition.type_ == kind && condition.status == status)
    };
    let unheard = is("ContainersReady", "True") && is("Ready", "False") || is("Ready", "Unknown");
    (unheard && pod.metadata.deletion_timestamp.is_none()).then(|| "its node is not ready".to_owned())
}

/// Why a pod ends that did not end by itself.
struct Disturbed {
    words: String,
    /// Whether it was for no fault of its own.
    by_cluster: bool,
}

fn exit(ended: &ContainerStateTerminated, disturbed: Option<Disturbed>) -> Exit {
    let reason = ended.reason.as_deref().filter(|reason| !PLAIN.contains(reason));
    let own = reason.map(|reason| said(reason, ended.message.as_deref()));
    let out_of_memory = ended.reason.as_deref() == Some("OOMKilled");
    Exit {
        code: i64::from(ended.exit_code),
        out_of_memory,
        disrupted: !out_of_memory && disturbed.as_ref().is_some_and(|disturbed| disturbed.by_cluster),
        message: disturbed.map(|disturbed| disturbed.words).or(own),
    }
}

/// Eviction, preemption, a drained or lost node.
fn disturbed(status: &PodStatus) -> Option<Disturbed> {
    if let Some(reason) = status.reason.as_deref() {
        return Some(told(reason, status.message.as_deref()));
    }
    let condition = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True")?;
    Some(told(condition.reason.as_deref().unwrap_or("disturbed"), condition.message.as_deref()))
}

/// Its pod was deleted, and not by the cluster, which would say why.
fn deleted(pod: &Pod) -> Option<Disturbed> {
    let by_somebody = || Disturbed { words: "somebody deleted its pod".to_owned(), by_cluster: true };
    pod.metadata.deletion_timestamp.is_some().then(by_somebody)
}

/// A kubelet also evicts who writes more than it may: that is its own fault.
fn told(reason: &str, message: Option<&str>) -> Disturbed {
    let by_kubelet = matches!(reason, "Evicted" | "TerminationByKubelet");
    let too_much = message.is_some_and(|message| message.contains("exceed"));
    Disturbed { words: said(reason, message), by_cluster: !(by_kubelet && too_much) }
}

fn hopeless(state: &ContainerState) -> Option<String> {
    let waiting = state.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().filter(|reason| HOPELESS.contains(reason))?;
    Some(said(reason, waiting.message.as_deref()))
}

/// Why no node takes it.
fn unschedulable(status: &PodStatus) -> Option<String> {
    let condition = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    })?;
    Some(condition.message.clone().unwrap_or_else(|| "no node takes it".to_owned()))
}

/// A reason as people read it, with what there is to add.
fn said(reason: &str, message: Option<&str>) -> String {
    let words = match reason {
        "PreemptionByScheduler" => "preempted by a pod of higher priority",
        "EvictionByEvictionAPI" => "evicted, as when a node is drained",
        "DeletionByTaintManager" => "evicted from a node that is not ready or is tainted",
        "DeletionByPodGC" => "its node is gone",
        // The node's own word, in the pod's status, says why.
        "TerminationByKubelet" | "Evicted" => "evicted by its node",
        "NodeLost" => "its node is lost",
        "Terminated" | "NodeShutdown" | "Shutdown" => "its node shuts down",
        "Preempting" => "preempted by a pod that its node cannot do without",
        "NodeAffinity" => "its node does not have the labels any more",
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" => "its node cannot fetch the image",
        "ErrImageNeverPull" => "its node does not have the image and may not fetch it",
        other => other,
    };
    match message.map(str::trim).filter(|message| !message.is_empty()) {
        Some(message) => format!("{words}: {message}"),
        None => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// How a pod with this status stands.
    fn judged(status: Value, deleted: bool) -> Standing {
        let mut pod = json!({ "metadata": {}, "status": status });
        if deleted {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        standing(&serde_json::from_value(pod).expect("a pod"), 80)
    }

    fn container(state: &Value) -> Value {
        let status = json!([{ "name": "replica", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": state }]);
        json!({ "phase": "Running", "podIP": "10.0.0.2", "containerStatuses": status })
    }

    fn ended(code: i64, out_of_memory: bool, message: Option<&str>) -> Standing {
        Standing::Ended(Exit { code, out_of_memory, disrupted: false, message: message.map(str::to_owned) })
    }

    /// It has ended for no fault of its own.
    fn disrupted(message: &str) -> Standing {
        Standing::Ended(Exit {
            code: -1,
            out_of_memory: false,
            disrupted: true,
            message: Some(message.to_owned()),
        })
    }

    fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
        json!([{ "type": kind, "status": status, "reason": reason, "message": message }])
    }

    #[test]
    fn pods_on_their_way_wait_or_say_why() {
        let full = "0/1 nodes are available: 1 Insufficient memory.";
        for (status, expected) in [
            (json!({}), Standing::Coming),
            (json!({ "phase": "Pending" }), Standing::Coming),
            (json!({ "conditions": condition("PodScheduled", "True", "", "") }), Standing::Coming),
            (
                json!({ "conditions": condition("PodScheduled", "False", "Unschedulable", full) }),
                Standing::Stuck(full.into()),
            ),
            (
                json!({ "conditions": condition("PodScheduled", "False", "SchedulingGated", "wait") }),
                Standing::Coming,
            ),
        ] {
            assert_eq!(judged(status.clone(), false), expected, "{status}");
        }
    }

    #[test]
    fn a_pod_is_reached_as_soon_as_it_has_an_address() {
        let running = Standing::Running("10.0.0.2:80".parse().ok());
        for state in [json!({ "waiting": { "reason": "ContainerCreating" } }), json!({ "running": {} })] {
            assert_eq!(judged(container(&state), false), running, "{state}");
        }
    }

    #[test]
    fn disturbances_are_told_in_words() {
        let by = |reason: &str| json!({ "podIP": "10.0.0.2", "conditions": condition("DisruptionTarget", "True", reason, "why") });
        let of = |reason: &str| json!({ "phase": "Failed", "reason": reason, "message": "why" });
        for (status, words) in [
            (by("PreemptionByScheduler"), "preempted by a pod of higher priority"),
            (by("EvictionByEvictionAPI"), "evicted, as when a node is drained"),
            (by("DeletionByTaintManager"), "evicted from a node that is not ready or is tainted"),
            (by("DeletionByPodGC"), "its node is gone"),
            (by("TerminationByKubelet"), "evicted by its node"),
            (by("SomethingNew"), "SomethingNew"),
            (of("NodeLost"), "its node is lost"),
            (of("Terminated"), "its node shuts down"),
            (of("NodeShutdown"), "its node shuts down"),
            (of("Preempting"), "preempted by a pod that its node cannot do without"),
            (of("NodeAffinity"), "its node does not have the labels any more"),
        ] {
            let expected = format!("{words}: why");
            assert_eq!(judged(status.clone(), true), disrupted(&expected), "{status}");
        }
    }

    #[test]
    fn a_node_that_is_not_heard_is_trouble_and_no_end() {
        for (containers, pod, deleted, expected) in [
            ("True", "True", false, false),
            ("True", "False", false, true),
            ("True", "Unknown", false, true),
            // Its own doing, or on its way out: nothing to do with the node.
            ("False", "False", false, false),
            ("True", "False", true, false),
        ] {
            let conditions =
                [condition("ContainersReady", containers, "", ""), condition("Ready", pod, "", "")];
            let conditions: Vec<_> =
                conditions.iter().flat_map(|one| one.as_array().cloned()).flatten().collect();
            let mut status = container(&json!({ "running": {} }));
            status["conditions"] = json!(conditions);
            let mut told = json!({ "metadata": {}, "status": status });
            if deleted {
                told["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            let told: Pod = serde_json::from_value(told).expect("a pod");
            assert_eq!(trouble(&told).is_some(), expected, "{containers} {pod} {deleted}");
            assert_eq!(matches!(standing(&told, 80), Standing::Running(_)), !deleted, "{containers} {pod}");
        }
    }

    #[test]
    fn ends_are_told_with_their_reason() {
        let terminated = |code: i32, reason: &str, message: &str| {
            container(&json!({ "terminated": { "exitCode": code, "reason": reason, "message": message } }))
        };
        for (status, deleted, expected) in [
            (terminated(7, "Error", ""), false, ended(7, false, None)),
            (terminated(0, "Completed", ""), false, ended(0, false, None)),
            (terminated(137, "OOMKilled", ""), false, ended(137, true, None)),
            (
                terminated(128, "StartError", "exec: no such file"),
                false,
                ended(128, false, Some("StartError: exec: no such file")),
            ),
            (
                json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on memory." }),
                false,
                disrupted("evicted by its node: The node was low on memory."),
            ),
            (
                json!({ "phase": "Failed", "reason": "Evicted", "message": "Usage of EmptyDir exceeds the limit." }),
                false,
                ended(-1, false, Some("evicted by its node: Usage of EmptyDir exceeds the limit.")),
            ),
            (json!({ "phase": "Failed", "reason": "OutOfcpu" }), false, disrupted("OutOfcpu")),
            (
                json!({ "podIP": "10.0.0.2",
                    "conditions": condition("DisruptionTarget", "True", "PreemptionByScheduler", "by b") }),
                true,
                disrupted("preempted by a pod of higher priority: by b"),
            ),
            (container(&json!({ "running": {} })), true, disrupted("somebody deleted its pod")),
            (
                terminated(143, "Error", ""),
                true,
                Standing::Ended(Exit {
                    code: 143,
                    out_of_memory: false,
                    disrupted: true,
                    message: Some("somebody deleted its pod".into()),
                }),
            ),
            (json!({ "phase": "Failed" }), false, ended(-1, false, Some("its pod has ended"))),
            (
                container(&json!({ "waiting": { "reason": "ErrImagePull", "message": "not found" } })),
                false,
                ended(-1, false, Some("its node cannot fetch the image: not found")),
            ),
            (
                container(&json!({ "waiting": { "reason": "CreateContainerConfigError" } })),
                false,
                ended(-1, false, Some("CreateContainerConfigError")),
            ),
        ] {
            assert_eq!(judged(status.clone(), deleted), expected, "{status}");
        }
    }
}
