//! A real engine with a busybox image, one instance per test, and its removal at the end.

#![allow(dead_code, reason = "each suite uses its part of this")]

#[path = "../busybox/mod.rs"]
mod busybox;

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use bollard::query_parameters::{ImportImageOptions, RemoveContainerOptions};
use futures_util::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use parking_lot::Mutex;
use tidegate_config::{
    model::Host,
    name::ReplicaId,
    spec::{Exit, Launch, Observed, Pull, Revision, StartSpec, Target},
};
use tidegate_runner::{Event, InstanceId, Runner, docker};
use tokio::sync::OnceCell;

use busybox::BUSYBOX;

/// Made in the test from a static busybox (Debian: busybox-static).
pub(crate) const IMAGE: &str = "tidegate.test/busybox:1";
const PATIENCE: Duration = Duration::from_secs(60);

/// A launch of a shell script.
pub(crate) fn shell(script: &str) -> Launch {
    Launch {
        command: [BUSYBOX, "sh", "-c"].map(String::from).to_vec(),
        args: vec![script.into()],
        ..Launch::of(IMAGE)
    }
}

/// One test's engine and instance.
pub(crate) struct World {
    pub(crate) api: bollard::Docker,
    pub(crate) runner: Arc<docker::Docker>,
    pub(crate) instance: InstanceId,
    foreign: Arc<Mutex<Vec<String>>>,
    closed: bool,
}

impl World {
    pub(crate) async fn new() -> Self {
        let api = bollard::Docker::connect_with_unix_defaults().expect("this suite needs a Docker engine");
        let instance = InstanceId::from_bits(rand::random());
        image(&api).await;
        let runner =
            docker::Docker::connect(options(&instance)).await.expect("this suite needs a Docker engine");
        Self { api, runner: Arc::new(runner), instance, foreign: Arc::default(), closed: false }
    }

    pub(crate) fn options(&self) -> docker::Options {
        options(&self.instance)
    }

    pub(crate) fn target(&self) -> Target {
        Target::Host("local".parse().expect("valid"))
    }

    pub(crate) fn name_of(&self, id: &ReplicaId) -> String {
        format!("tg-{}-{id}", self.instance.short())
    }

    pub(crate) async fn spec(&self, number: u64, launch: Launch) -> StartSpec {
        let prepared =
            self.runner.prepare(IMAGE, Pull::Never, Arc::new(|_| ())).await.expect("the image is there");
        StartSpec {
            id: ReplicaId::new("api".parse().expect("valid"), 1, number),
            revision: Revision("r1".into()),
            launch,
            digest: prepared.digest,
            port: 8080,
            target: self.target(),
        }
    }

    pub(crate) async fn labels_of(&self, id: &ReplicaId) -> HashMap<String, String> {
        let found = self.api.inspect_container(&self.name_of(id), None).await.expect("it is there");
        found.config.and_then(|c| c.labels).expect("it has labels")
    }

    pub(crate) async fn exec(&self, id: &ReplicaId, command: &[&str]) -> String {
        let command: Vec<String> = [BUSYBOX].iter().chain(command).map(|w| (*w).to_owned()).collect();
        let done = self.runner.exec(id, &command, PATIENCE).await.expect("it runs");
        assert_eq!(done.code, 0, "{done:?}");
        done.output
    }

    pub(crate) async fn soon<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::time::timeout(PATIENCE, future).await.expect("it comes in time")
    }

    pub(crate) async fn exited(&self, events: &mut BoxStream<'static, Event>, wanted: &ReplicaId) -> Exit {
        let found = events.filter_map(|event| {
            std::future::ready(match event {
                Event::Exited { id, exit } if id == *wanted => Some(exit),
                _ => None,
            })
        });
        self.first(found).await
    }

    pub(crate) async fn running(
        &self,
        events: &mut BoxStream<'static, Event>,
        wanted: &ReplicaId,
    ) -> Observed {
        let found = events.filter_map(|event| {
            std::future::ready(match event {
                Event::Running(observed) if observed.id == *wanted => Some(observed),
                _ => None,
            })
        });
        self.first(found).await
    }

    pub(crate) async fn told(&self, events: &mut BoxStream<'static, Event>, wanted: &Event) {
        self.first(events.filter(|event| std::future::ready(event == wanted))).await;
    }

    async fn first<T>(&self, found: impl Stream<Item = T>) -> T {
        let mut found = std::pin::pin!(found);
        self.soon(found.next()).await.expect("events end only with the runner")
    }

    pub(crate) async fn export(&self, file: &Path) {
        let chunks: Vec<_> = self.api.export_image(IMAGE).try_collect().await.expect("it exports");
        std::fs::write(file, chunks.concat()).expect("written");
    }

    pub(crate) fn note_foreign(&self, id: &str) {
        self.foreign.lock().push(id.to_owned());
    }

    /// Removes everything, and fails if that cannot be done.
    pub(crate) async fn close(mut self) {
        remove(&self.api, &self.runner, &self.foreign).await;
        self.closed = true;
    }
}

impl Drop for World {
    /// The test failed: its runtime is on its way out, so a thread with one of its own cleans up.
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let (instance, foreign) = (self.instance.clone(), self.foreign.clone());
        let cleaner = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let api = bollard::Docker::connect_with_unix_defaults().expect("docker");
                let runner = docker::Docker::connect(options(&instance)).await.expect("docker");
                remove(&api, &runner, &foreign).await;
            });
        });
        let _ = cleaner.join();
    }
}

async fn remove(api: &bollard::Docker, runner: &docker::Docker, foreign: &Mutex<Vec<String>>) {
    let force = RemoveContainerOptions { force: true, ..RemoveContainerOptions::default() };
    let foreign = std::mem::take(&mut *foreign.lock());
    for id in foreign {
        api.remove_container(&id, Some(force.clone())).await.expect("it goes");
    }
    runner.clear().await.expect("all of the instance goes");
}

fn options(instance: &InstanceId) -> docker::Options {
    docker::Options::of(&Host::local(), instance.clone(), None)
}

/// Loads the image once per process: loading it again is harmless but slow.
async fn image(api: &bollard::Docker) {
    static LOADED: OnceCell<()> = OnceCell::const_new();
    LOADED.get_or_init(|| load(api)).await;
}

async fn load(api: &bollard::Docker) {
    let body = bollard::body_full(busybox::archive(IMAGE).into());
    let loaded = api.import_image(ImportImageOptions::default(), body, None);
    loaded.try_for_each(|_| std::future::ready(Ok(()))).await.expect("the image loads");
}
