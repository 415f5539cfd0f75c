//! What replicas use, as the metrics API of their cluster has it (`metrics.k8s.io`), which not every cluster has.
//! Holds: all replicas are asked for at once, and not again for a while; a cluster that does not tell is one line in the log,
//! and asked again now and then. Absent: how often somebody wants to know; what follows from it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::Deserialize;
use tidegate_config::{name::ReplicaId, units::Bytes};
use tokio::time::{Instant, sleep};

use super::{body::CONTAINER, inner::Inner, labels, quantity::amount};
use crate::{Cpu, Error, Kind, Result, Stats, call::READ};

/// For so long an answer is as good as a new one: the cluster itself looks every 15 s or so.
const FRESH: Duration = Duration::from_secs(4);
/// Between two questions to a cluster that does not tell.
const AGAIN: Duration = Duration::from_secs(60);

/// What is known of the cluster's metrics.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    /// One question at a time: whoever comes meanwhile has its answer, or learns as it does that there is none.
    last: tokio::sync::Mutex<Option<(Instant, BTreeMap<String, Stats>)>>,
    told: Mutex<Told>,
}

/// What everybody has been told of whether there are any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Told {
    #[default]
    Nothing,
    There,
    NotThere,
}

/// As much of a list of `PodMetrics` as is of use.
#[derive(Debug, Deserialize)]
struct List {
    items: Vec<PodMetrics>,
}

#[derive(Debug, Deserialize)]
struct PodMetrics {
    metadata: Metadata,
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Container {
    name: String,
    usage: Usage,
}

#[derive(Debug, Deserialize)]
struct Usage {
    cpu: String,
    memory: String,
}

impl Metrics {
    /// Whether there are any, as far as is known.
    pub(super) fn are_there(&self) -> bool {
        *self.told.lock() == Told::There
    }

    /// Notes whether there are; whether that is news.
    fn tell(&self, now: Told) -> bool {
        std::mem::replace(&mut *self.told.lock(), now) != now
    }
}

/// Asks whether there are any, until the task is dropped: once, and now and then where there are none.
pub(super) async fn look_out(inner: Arc<Inner>) {
    loop {
        if !inner.metrics.are_there() {
            // Its words are in the log already.
            let _ = ask(&inner).await;
        }
        sleep(AGAIN).await;
    }
}

/// What a replica uses.
pub(super) async fn of(inner: &Inner, id: &ReplicaId) -> Result<Stats> {
    let mut last = inner.metrics.last.lock().await;
    if last.as_ref().is_none_or(|(at, _)| at.elapsed() >= FRESH) {
        let asked = ask(inner).await;
        *last = Some((Instant::now(), asked.as_ref().map_or_else(|_| BTreeMap::new(), Clone::clone)));
        asked?;
    }
    let known =
        last.as_ref().and_then(|(_, all)| all.get(&labels::name(&inner.options.instance, id)).copied());
    known.ok_or_else(|| Error::new(Kind::Retryable, format!("the cluster has not measured {id} yet")))
}

/// Asks for all pods of ours, by their names.
async fn ask(inner: &Inner) -> Result<BTreeMap<String, Stats>> {
    let path = format!(
        "/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods?labelSelector={}",
        inner.namespace,
        inner.ours().replace('=', "%3D")
    );
    let request = http::Request::get(path).body(Vec::new()).expect("a namespace and a label are plain words");
    let host = &inner.options.host;
    match inner.call("metrics list", READ, inner.client.request::<List>(request)).await {
        Ok(list) => {
            if inner.metrics.tell(Told::There) {
                tracing::info!(%host, "the Kubernetes measures its pods");
            }
            Ok(read(&list))
        }
        Err(failed) => {
            // Silence says nothing of what there is: whoever follows the cluster says that it is silent.
            if failed.status.is_some() && inner.metrics.tell(Told::NotThere) {
                let why = failed.words.trim();
                tracing::info!(%host, why, "the Kubernetes does not measure its pods; target_cpu and target_memory have no effect there");
            }
            Err(failed.during("ask what replicas use"))
        }
    }
}

/// The use of each pod's replica. What cannot be read is left out.
fn read(list: &List) -> BTreeMap<String, Stats> {
    let of_pod = |pod: &PodMetrics| {
        let usage = &pod.containers.iter().find(|container| container.name == CONTAINER)?.usage;
        let (cores, memory) = (amount(&usage.cpu)?, amount(&usage.memory)?);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bytes of memory; what is below zero is none"
        )]
        let memory = Bytes(memory as u64);
        Some((pod.metadata.name.clone(), Stats { cpu: Cpu::Cores(cores), memory }))
    };
    list.items.iter().filter_map(of_pod).collect()
}

#[cfg(test)]
mod tests {
    use http::{Request, Response, StatusCode};
    use http_body_util::Full;
    use kube::{Client, client::Body};
    use serde_json::json;
    use tidegate_config::model::{Host, Images};

    use super::*;
    use crate::{InstanceId, kubernetes::Options};

    type Asked = Arc<Mutex<Vec<String>>>;

    /// A cluster that gives the answer that is in the first part, and notes what it was asked in the second.
    fn cluster(answer: &Arc<Mutex<(u16, String)>>) -> (Arc<Inner>, Asked) {
        let asked = Asked::default();
        let (noted, answer) = (Arc::clone(&asked), Arc::clone(answer));
        let service = tower::service_fn(move |request: Request<Body>| {
            noted.lock().push(request.uri().to_string());
            let (status, text) = answer.lock().clone();
            let mut response = Response::new(Full::new(bytes::Bytes::from(text)));
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            std::future::ready(Ok::<_, std::convert::Infallible>(response))
        });
        let options =
            Options::of(&Host::local(), &Images::default(), InstanceId::from_bits(0x1234_5678 << 96));
        (Inner::new(Client::new(service, "apps"), "apps".into(), options), asked)
    }

    fn measured(cpu: &str, memory: &str) -> String {
        let pod = |name: &str, container: &str| {
            json!({ "metadata": { "name": name, "namespace": "apps", "creationTimestamp": "2026-01-01T00:00:00Z" },
                "timestamp": "2026-01-01T00:00:00Z", "window": "15.123s",
                "containers": [{ "name": container, "usage": { "cpu": cpu, "memory": memory } }] })
        };
        let items = [pod("tg-12345678-api-3-17", "replica"), pod("tg-12345678-api-3-18", "another")];
        json!({ "kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": items })
            .to_string()
    }

    fn replica(number: u32) -> ReplicaId {
        format!("api-3-{number}").parse().expect("valid")
    }

    #[tokio::test(start_paused = true)]
    async fn all_are_asked_for_at_once_and_not_again_for_a_while() {
        let answer = Arc::new(Mutex::new((200, measured("123456789n", "12Mi"))));
        let (inner, asked) = cluster(&answer);
        assert!(!inner.metrics.are_there(), "nobody has asked yet");
        let stats = of(&inner, &replica(17)).await.expect("measured");
        let Cpu::Cores(cores) = stats.cpu else { panic!("{stats:?}") };
        assert!((cores - 0.123_456_789).abs() < 1e-9 && stats.memory == Bytes::mib(12), "{stats:?}");
        let other = of(&inner, &replica(18)).await.expect_err("its container is not ours");
        assert!(
            other.kind == Kind::Retryable && other.message.contains("has not measured api-3-18"),
            "{other}"
        );
        assert_eq!((asked.lock().len(), inner.metrics.are_there()), (1, true));
        let uri = "/apis/metrics.k8s.io/v1beta1/namespaces/apps/pods?labelSelector=dev.tidegate.instance%3D12345678";
        assert!(asked.lock()[0].starts_with(uri), "{asked:?}");
        *answer.lock() = (200, measured("2", "1Gi"));
        tokio::time::advance(FRESH).await;
        let stats = of(&inner, &replica(17)).await.expect("measured");
        assert_eq!(stats, Stats { cpu: Cpu::Cores(2.0), memory: Bytes::mib(1024) });
        *answer.lock() = (200, measured("many", "1Gi"));
        tokio::time::advance(FRESH).await;
        of(&inner, &replica(17)).await.expect_err("that is no number");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_that_does_not_tell_is_asked_again_later() {
        for (status, words) in [
            (404, "404 page not found\n"),
            (
                403,
                r#"{"kind":"Status","status":"Failure","code":403,"message":"pods.metrics.k8s.io is forbidden"}"#,
            ),
            (503, "service unavailable\n"),
        ] {
            let answer = Arc::new(Mutex::new((status, words.to_owned())));
            let (inner, asked) = cluster(&answer);
            let mut tasks = tokio::task::JoinSet::new();
            tasks.spawn(look_out(Arc::clone(&inner)));
            sleep(AGAIN - Duration::from_secs(1)).await;
            assert_eq!((asked.lock().len(), inner.metrics.are_there()), (1, false), "{status}");
            *answer.lock() = (200, measured("1", "1Mi"));
            sleep(Duration::from_secs(2)).await;
            assert_eq!((asked.lock().len(), inner.metrics.are_there()), (2, true), "{status}");
            sleep(AGAIN * 3).await;
            assert_eq!(asked.lock().len(), 2, "nobody wants to know");
            *answer.lock() = (status, words.to_owned());
            for number in [17, 18] {
                of(&inner, &replica(number)).await.expect_err("it does not tell any more");
            }
            assert_eq!((asked.lock().len(), inner.metrics.are_there()), (3, false), "{status}");
        }
    }
}
