//! The Swarm runner against a real swarm of one node. Fails without root and `dockerd`; never skips.
//! Each test has an instance of its own; all share one manager.

mod busybox;
mod manager;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use bollard::{
    models::ServiceSpec,
    query_parameters::{
        InspectServiceOptions, KillContainerOptions, ListContainersOptions, ListSecretsOptions,
    },
};
use busybox::BUSYBOX;
use futures_util::{StreamExt, stream::BoxStream};
use manager::{IMAGE, Manager};
use tidegate_config::{
    model::Host,
    name::ReplicaId,
    spec::{Exit, Launch, ObservedState, Profile, Pull, Revision, Secret, StartSpec, Target},
    units::Bytes,
};
use tidegate_runner::{
    Event, InstanceId, Kind, LogOptions, Reached, Runner, contract,
    swarm::{Options, Swarm},
};

const PATIENCE: Duration = Duration::from_secs(120);

/// A launch of a shell script.
fn shell(script: &str) -> Launch {
    Launch {
        command: [BUSYBOX, "sh", "-c"].map(String::from).to_vec(),
        args: vec![script.into()],
        ..Launch::of(IMAGE)
    }
}

struct World {
    manager: &'static Manager,
    instance: InstanceId,
    runner: Arc<Swarm>,
}

impl World {
    async fn new() -> Self {
        let manager = Manager::get().await;
        let instance = InstanceId::from_bits(rand::random());
        let runner = Arc::new(connect(manager, &instance).await);
        Self { manager, instance, runner }
    }

    fn target() -> Target {
        Target::EngineChooses { host: "swarm".parse().expect("valid"), constraints: BTreeMap::new() }
    }

    fn name_of(&self, id: &ReplicaId) -> String {
        format!("tg-{}-{id}", self.instance.short())
    }

    async fn service(&self, id: &ReplicaId) -> ServiceSpec {
        let api = self.manager.api();
        let found = api.inspect_service(&self.name_of(id), None::<InspectServiceOptions>).await;
        found.expect("it is there").spec.expect("it has one")
    }

    async fn spec(&self, number: u64, launch: Launch) -> StartSpec {
        let prepared = self.runner.prepare(IMAGE, Pull::Never, Arc::new(|_| ())).await.expect("it is there");
        StartSpec {
            id: ReplicaId::new("api".parse().expect("valid"), 1, number),
            revision: Revision("r1".into()),
            launch,
            digest: prepared.digest,
            port: 8080,
            target: Self::target(),
        }
    }

    async fn first<T>(events: &mut BoxStream<'static, Event>, wanted: impl Fn(Event) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = events.next().await.expect("events end only with the runner");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, search).await.expect("it is told in time")
    }

    async fn exited(events: &mut BoxStream<'static, Event>, wanted: &ReplicaId) -> Exit {
        Self::first(events, |event| match event {
            Event::Exited { id, exit } if id == *wanted => Some(exit),
            _ => None,
        })
        .await
    }

    async fn log(&self, id: &ReplicaId) -> String {
        let options = LogOptions { tail: None, follow: false };
        let lines: Vec<_> = self.runner.logs(id, options).await.expect("it has logs").collect().await;
        lines.into_iter().map(|line| line.expect("read").text).collect::<Vec<_>>().join("|")
    }
}

async fn connect(manager: &Manager, instance: &InstanceId) -> Swarm {
    let host =
        Host { name: "swarm".parse().expect("valid"), endpoint: Some(manager.endpoint()), ..Host::local() };
    Swarm::connect(Options::of(&host, instance.clone())).await.expect("nothing is wrong with the options")
}

#[tokio::test]
async fn it_holds_the_contract() {
    let world = World::new().await;
    assert_eq!(world.runner.reach(), Reached::Published);
    let (manager, instance, prefix) =
        (world.manager, world.instance.clone(), world.instance.short().to_owned());
    let check = contract::World {
        launch: shell("exec /bin/busybox sleep 3600"),
        target: World::target(),
        again: Box::new(move || {
            let instance = instance.clone();
            Box::pin(async move {
                let again: Arc<dyn Runner> = Arc::new(connect(manager, &instance).await);
                again
            })
        }),
        kill: Box::new(move |id| {
            let service = format!("tg-{prefix}-{id}");
            Box::pin(async move {
                let wanted = vec![format!("com.docker.swarm.service.name={service}")];
                let filters = Some(HashMap::from([("label".to_owned(), wanted)]));
                let options = ListContainersOptions { filters, ..ListContainersOptions::default() };
                let api = manager.api();
                let kill = async {
                    loop {
                        let found = api.list_containers(Some(options.clone())).await.expect("it lists");
                        if let Some(container) = found.into_iter().find_map(|one| one.id) {
                            let signal = KillContainerOptions { signal: "KILL".into() };
                            return api.kill_container(&container, Some(signal)).await.expect("it is killed");
                        }
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                };
                tokio::time::timeout(PATIENCE, kill).await.expect("it runs");
            })
        }),
    };
    contract::check(world.runner.clone(), check).await;
}

#[tokio::test]
async fn what_is_not_ours_is_not_touched() {
    let world = World::new().await;
    let ours = world.spec(1, shell("exec /bin/busybox sleep 3600")).await;
    world.runner.start(&ours).await.expect("it starts");
    let labels = world.service(&ours.id).await.labels.expect("it has labels");
    let stranger = world.spec(2, shell("exec /bin/busybox sleep 3600")).await;
    // Our labels under another name, and our name without the labels.
    let wrong_name = world.manager.foreign(&format!("foreign-{}", world.instance), labels).await;
    let no_label = world.manager.foreign(&world.name_of(&stranger.id), HashMap::new()).await;

    let listed = world.runner.list().await.expect("it lists");
    assert_eq!(listed.iter().map(|o| &o.id).collect::<Vec<_>>(), [&ours.id]);
    world.runner.remove(&stranger.id).await.expect("there is none of ours");
    world.runner.stop(&stranger.id, Duration::ZERO, false).await.expect("there is none of ours");
    let error = world.runner.start(&stranger).await.expect_err("the name is taken");
    assert_eq!(error.kind, Kind::Permanent, "{error}");
    world.runner.clear().await.expect("ours goes");
    for id in [&wrong_name, &no_label] {
        assert!(world.manager.has(id).await, "it is still there");
        world.manager.api().delete_service(id).await.expect("it goes");
    }
}

#[tokio::test]
async fn exits_are_told_with_their_cause() {
    let world = World::new().await;
    let mut events = world.runner.events();
    let seven = world.spec(1, shell("echo last words; exit 7")).await;
    world.runner.start(&seven).await.expect("it is accepted");
    let exit = World::exited(&mut events, &seven.id).await;
    assert_eq!((exit.code, exit.out_of_memory), (7, false));
    assert_eq!(world.log(&seven.id).await, "last words");

    let mut hungry = world.spec(2, shell("")).await;
    hungry.launch.args = Vec::new();
    hungry.launch.resources.memory = Bytes::mib(16);
    hungry.launch.resources.reserve.memory = Bytes::mib(8);
    hungry.launch.command =
        ["/bin/busybox", "tail", "-c", "100000000", "/dev/zero"].map(String::from).to_vec();
    world.runner.start(&hungry).await.expect("it is accepted");
    let exit = World::exited(&mut events, &hungry.id).await;
    assert!(exit.out_of_memory, "{exit:?}");

    let mut nobody = world.spec(3, shell("exec /bin/busybox sleep 3600")).await;
    nobody.launch.user = Some("nobody-here".into());
    world.runner.start(&nobody).await.expect("it is accepted");
    let exit = World::exited(&mut events, &nobody.id).await;
    assert!(exit.message.as_deref().is_some_and(|words| words.contains("nobody-here")), "{exit:?}");

    let listed = world.runner.list().await.expect("it lists");
    let states: Vec<_> = listed.iter().map(|o| matches!(o.state, ObservedState::Exited(_))).collect();
    assert_eq!(states, [true; 3], "what ended is kept until it is removed");
    world.runner.clear().await.expect("all of it goes");
}

#[tokio::test]
async fn what_no_node_takes_is_told_with_the_reason() {
    let world = World::new().await;
    let mut events = world.runner.events();
    let mut huge = world.spec(1, shell("exec /bin/busybox sleep 3600")).await;
    huge.launch.resources.reserve.memory = Bytes::mib(1 << 30);
    huge.launch.resources.memory = Bytes::mib(1 << 30);
    let mut nowhere = world.spec(2, shell("exec /bin/busybox sleep 3600")).await;
    let constraints = [("disk".to_owned(), "ssd".into())].into();
    nowhere.target = Target::EngineChooses { host: "swarm".parse().expect("valid"), constraints };
    for (spec, words) in [(&huge, "insufficient resources"), (&nowhere, "constraints not satisfied")] {
        world.runner.start(spec).await.expect("it is accepted");
        let why = World::first(&mut events, |event| match event {
            Event::NoPlace { id, why } if id == spec.id => Some(why),
            _ => None,
        })
        .await;
        assert!(why.contains(words), "{why}");
    }
    // And again, as long as it lasts.
    World::first(&mut events, |event| matches!(event, Event::NoPlace { .. }).then_some(())).await;
    world.runner.clear().await.expect("all of it goes");
}

#[tokio::test]
async fn secrets_arrive_and_go_with_their_replica() {
    let world = World::new().await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "s3cret\n").expect("written");
    let secret = Secret { file: file.path().into() };
    let mut spec = world.spec(1, shell("echo $KEY $PORT; /bin/busybox cat /run/secrets/db-password")).await;
    spec.launch.secrets = [("KEY".to_owned(), secret.clone())].into();
    spec.launch.secret_files = [("db-password".to_owned(), secret)].into();
    let mut events = world.runner.events();
    world.runner.start(&spec).await.expect("it is accepted");
    assert_eq!(World::exited(&mut events, &spec.id).await.code, 0);
    assert_eq!(world.log(&spec.id).await, "s3cret 8080|s3cret");
    let kept = async || {
        let label = vec![format!("dev.tidegate.instance={}", world.instance)];
        let filters = Some(HashMap::from([("label".to_owned(), label)]));
        let listed = world.manager.api().list_secrets(Some(ListSecretsOptions { filters })).await;
        listed.expect("it lists").len()
    };
    assert_eq!(kept().await, 1);
    world.runner.start(&spec).await.expect("starting what is there");
    assert_eq!(kept().await, 1);
    world.runner.remove(&spec.id).await.expect("it goes");
    assert_eq!(kept().await, 0);

    let mut absent = world.spec(2, spec.launch.clone()).await;
    absent.launch.secret_files = [("key".to_owned(), Secret { file: "/nowhere/key".into() })].into();
    let error = world.runner.start(&absent).await.expect_err("there is no such file");
    assert!(error.kind == Kind::Permanent && error.message.contains("/nowhere/key"), "{error}");
    assert_eq!(world.runner.list().await.expect("it lists"), []);
}

#[tokio::test]
async fn nothing_is_fetched_behind_our_back() {
    let world = World::new().await;
    let spec = world.spec(1, shell("exec /bin/busybox sleep 3600")).await;
    world.runner.start(&spec).await.expect("it is accepted");
    let task = world.service(&spec.id).await.task_template.expect("it has one");
    assert_eq!(task.container_spec.and_then(|c| c.image), Some(spec.digest.0.clone()), "by its id");
    let mut absent = world.spec(2, spec.launch.clone()).await;
    absent.digest.0 = format!("sha256:{}", "0".repeat(64));
    let error = world.runner.start(&absent).await.expect_err("there is no such image");
    assert_eq!(error.kind, Kind::NoImage);
    world.runner.clear().await.expect("all of it goes");
}

#[tokio::test]
async fn what_swarm_cannot_do_is_said() {
    let world = World::new().await;
    let spec = world.spec(1, shell("exec /bin/busybox sleep 3600")).await;
    world.runner.start(&spec).await.expect("it is accepted");
    let (runner, id) = (&world.runner, &spec.id);
    for outcome in [
        runner.freeze(id).await,
        runner.restart(id).await,
        runner.exec(id, &["true".into()], PATIENCE).await.map(drop),
        runner.stats(id).await.map(drop),
    ] {
        let error = outcome.expect_err("Swarm has no such thing");
        assert!(error.kind == Kind::Permanent && error.message.contains("Swarm cannot"), "{error}");
    }
    let mut strict = world.spec(2, spec.launch.clone()).await;
    strict.launch.profile = Profile::Strict;
    strict.launch.user = Some("1000".into());
    let can = world.manager.api().version().await.expect("it answers").api_version;
    let modern = can.and_then(|v| v.split_once('.')?.1.parse::<u32>().ok()).is_some_and(|minor| minor >= 46);
    let started = world.runner.start(&strict).await;
    assert_eq!(started.is_ok(), modern, "{started:?}");
    let inventory = world.runner.inventory().await.expect("it answers");
    assert!(inventory.engine.starts_with("swarm of 1 nodes") && inventory.memory.0 > 0, "{inventory:?}");
    world.runner.clear().await.expect("all of it goes");
}
