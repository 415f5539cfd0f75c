//! What happens in the cluster, as events: a list, then a watch from its version on, for as long as that can be resumed.
//! Holds: a watch that ends is resumed where it ended; where the API has forgotten that version, everything is listed
//! again and everyone told to do the same; an API that goes silent is one line in the log, and one when it is back.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::{WatchEvent, WatchParams},
};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout};

use super::{
    call::failed,
    inner::{Inner, with_waiting},
    owner, secrets,
};
use crate::{
    Error, Event, Result,
    call::{Failed, READ},
    cluster::{Seen, Standing, Told},
};

/// After this the API ends a watch by itself, in seconds; it is resumed then.
const LIFE: u32 = 60;
/// A watch from which nothing comes for so long, its own end neither, is dead.
const SILENCE: Duration = Duration::from_secs(75);
/// Between two questions to an API that does not answer.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is said again that what waits has no room.
const AGAIN: Duration = Duration::from_secs(1);

/// Why a watch ended.
enum End {
    /// To be resumed where it ended.
    Over,
    /// The API does not know that version any more.
    Forgotten,
    /// Nobody knows what was missed, or whether anybody is there.
    Broken(Failed),
}

/// What the cluster has of ours.
struct View {
    inner: Arc<Inner>,
    /// By the pod's name.
    pods: BTreeMap<String, Seen>,
    /// How far it is known.
    version: String,
    told: Told,
    ticks: Interval,
}

/// Follows the cluster until the task is dropped.
pub(super) async fn follow(inner: Arc<Inner>) {
    let mut ticks = interval(AGAIN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut view =
        View { inner, pods: BTreeMap::new(), version: String::new(), told: Told::default(), ticks };
    let mut listed = view.list().await;
    loop {
        if let Err(error) = listed {
            view.wait_for_the_api(&error).await;
        }
        let begun = Instant::now();
        let end = view.watch().await;
        listed = match end {
            End::Over => {
                // One that is ended at once, each time, is not asked for all the time.
                if begun.elapsed() < PAUSE {
                    sleep(PAUSE).await;
                }
                Ok(())
            }
            End::Forgotten => view.list_again().await,
            End::Broken(failed) => {
                // Most often it is back at once.
                tracing::debug!(error = failed.words, "the watch broke");
                sleep(PAUSE).await;
                view.list_again().await
            }
        };
    }
}

impl View {
    async fn list(&mut self) -> Result<()> {
        let (pods, version) = self.inner.list().await?;
        self.version = version;
        let before = std::mem::take(&mut self.pods);
        for pod in &pods {
            let known = before.get(&pod.name_any()).cloned();
            self.pods.extend(known.map(|seen| (pod.name_any(), seen)));
            self.note(pod);
        }
        self.tell();
        Ok(())
    }

    /// The same after a break, of which everyone is told.
    async fn list_again(&mut self) -> Result<()> {
        self.list().await?;
        self.inner.events.tell(Event::Resync);
        Ok(())
    }

    async fn wait_for_the_api(&mut self, error: &Error) {
        let host = self.inner.options.host.clone();
        tracing::warn!(%host, %error, "the Kubernetes does not tell what runs");
        while self.list_again().await.is_err() {
            sleep(PAUSE).await;
        }
        tracing::info!(%host, "the Kubernetes tells what runs again");
    }

    /// Takes in what happens until the watch ends.
    async fn watch(&mut self) -> End {
        let inner = Arc::clone(&self.inner);
        let options = WatchParams::default().labels(&inner.ours()).timeout(LIFE);
        let version = self.version.clone();
        let opened = timeout(READ, Box::pin(inner.pods.watch(&options, &version))).await;
        let mut changes = match opened {
            Ok(Ok(changes)) => changes.boxed(),
            Ok(Err(error)) => return end(failed(error)),
            Err(_) => return End::Broken(silent()),
        };
        let mut heard = Instant::now();
        loop {
            // Safe: a change that is not taken stays in the stream, a tick and a notice are lost at most.
            tokio::select! {
                change = changes.next() => match change {
                    Some(Ok(change)) => {
                        heard = Instant::now();
                        if let Err(end) = self.take(change).await { return end }
                    }
                    Some(Err(error)) => return end(failed(error)),
                    None => return End::Over,
                },
                _ = self.ticks.tick() => {
                    self.tell();
                    if heard.elapsed() > SILENCE { return End::Broken(silent()) }
                }
                () = inner.unheard.notified() => return End::Broken(silent()),
            }
        }
    }

    async fn take(&mut self, change: WatchEvent<Pod>) -> std::result::Result<(), End> {
        match change {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                self.version = pod.resource_version().unwrap_or_default();
                self.note(&pod);
            }
            WatchEvent::Deleted(pod) => {
                self.version = pod.resource_version().unwrap_or_default();
                let gone = self.pods.remove(&pod.name_any());
                if gone.is_some_and(|seen| !self.inner.ends_no_more(&seen.observed.id)) {
                    owner::doubt(&self.inner).await;
                }
            }
            WatchEvent::Bookmark(mark) => self.version = mark.metadata.resource_version,
            WatchEvent::Error(status) => return Err(end(failed(kube::Error::Api(status)))),
        }
        self.tell();
        Ok(())
    }

    /// Takes in a pod, unless what it says is our own doing: that it is being deleted, but not how its process ended.
    fn note(&mut self, pod: &Pod) {
        let Some(seen) = self.inner.see(pod) else { return };
        if !secrets::are_missing(pod) {
            self.inner.note_seen(&seen.observed.id);
        }
        let ended = matches!(&seen.standing, Standing::Ended(exit) if exit.code >= 0);
        if ended || !self.inner.is_ending(&seen.observed.id) {
            self.pods.insert(pod.name_any(), seen);
        }
    }

    fn tell(&mut self) {
        let seen = with_waiting(self.pods.values().cloned(), self.inner.waits());
        for event in self.told.news(&seen, Instant::now().into_std()) {
            self.inner.events.tell(event);
        }
    }
}

fn end(failed: Failed) -> End {
    if failed.is(410) { End::Forgotten } else { End::Broken(failed) }
}

fn silent() -> Failed {
    Failed { status: None, words: "the watch went silent".to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::task::JoinSet;

    use super::*;
    use crate::kubernetes::{labels, scripted};

    /// A pod of ours, at this version.
    fn pod(version: &str, ip: Option<&str>) -> Value {
        let mut metadata = labels::metadata(&scripted::instance(), &scripted::spec(), &Default::default());
        metadata.resource_version = Some(version.to_owned());
        let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {} });
        if let Some(ip) = ip {
            pod["status"]["podIP"] = json!(ip);
        }
        pod
    }

    fn list(version: &str, pods: &[Value]) -> String {
        json!({ "apiVersion": "v1", "kind": "PodList", "metadata": { "resourceVersion": version }, "items": pods })
            .to_string()
    }

    #[tokio::test]
    async fn a_watch_is_resumed_where_it_ended_and_begun_anew_where_that_is_forgotten() {
        let changed = json!({ "type": "MODIFIED", "object": pod("6", Some("10.0.0.2")) });
        let forgotten = json!({ "type": "ERROR", "object": { "kind": "Status", "status": "Failure", "code": 410,
            "reason": "Expired", "message": "too old resource version" } });
        let answers =
            [list("5", &[pod("4", None)]), format!("{changed}\n"), format!("{forgotten}\n"), list("9", &[])];
        let (inner, asked) = scripted::api(answers.map(|text| (200, text)).into());
        let mut events = inner.events.listen();
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(inner));
        let mut told = Vec::new();
        while !matches!(told.last(), Some(Event::Resync)) {
            told.push(events.next().await.expect("it goes on"));
        }
        assert!(
            matches!(&told[..], [Event::Running(seen), Event::Gone(_), Event::Resync]
                if seen.address == "10.0.0.2:80".parse().ok()),
            "{told:?}"
        );
        let asked = asked.lock().clone();
        let watches: Vec<_> = asked.iter().filter(|asked| asked.contains("watch=true")).collect();
        assert!(
            watches[0].contains("resourceVersion=5") && watches[1].contains("resourceVersion=6"),
            "{asked:?}"
        );
        assert!(asked.iter().all(|asked| asked.contains("dev.tidegate.instance")), "only ours: {asked:?}");
    }
}
