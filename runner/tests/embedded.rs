//! The embedded runner on this machine: the contract that every engine keeps, and what is its own. Needs root; never skips.
//! Each test has an instance and a folder of its own and removes what it made, also when it fails.

mod busybox;

use std::{path::PathBuf, sync::Arc};

use busybox::BUSYBOX;
use tidegate_config::{
    model::Images,
    name::ReplicaId,
    spec::{Launch, ObservedState, Pull, Revision, StartSpec, Target},
};
use tidegate_runner::{
    InstanceId, Runner, contract,
    embedded::{Embedded, Options, ShimProgram, doctor},
};

/// One test's engine.
struct World {
    options: Options,
    image: String,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let archive = folder.path().join("busybox.tar");
        std::fs::write(&archive, busybox::archive("tidegate.test/busybox:1")).expect("written");
        let options = Options {
            host: "local".parse().expect("valid"),
            instance: InstanceId::from_bits(rand::random()),
            folder: folder.path().join("embedded"),
            subnet: None,
            allow_metadata: false,
            images: Images::default(),
            shim: ShimProgram { path: PathBuf::from(env!("CARGO_BIN_EXE_tidegate-shim")), args: Vec::new() },
        };
        Self { options, image: format!("docker-archive:{}", archive.display()), _folder: folder }
    }

    async fn open(&self) -> Arc<Embedded> {
        Arc::new(Embedded::open(self.options.clone()).await.expect("this suite needs root"))
    }

    async fn started(&self, runner: &Embedded, number: u64) -> (ReplicaId, PathBuf) {
        let prepared = runner.prepare(&self.image, Pull::Missing, Arc::new(|_| ())).await.expect("the image");
        let id = ReplicaId::new("api".parse().expect("valid"), 1, number);
        let spec = StartSpec {
            id: id.clone(),
            revision: Revision("r1".into()),
            launch: self.shell("exec /bin/busybox sleep 3600"),
            digest: prepared.digest,
            port: 8080,
            target: Target::Host("local".parse().expect("valid")),
        };
        runner.start(&spec).await.expect("it starts");
        let folder = self.options.folder.join("replicas").join(id.to_string());
        (id, folder)
    }

    /// The processes in a replica's control group.
    fn processes(&self, id: &ReplicaId) -> String {
        let group = format!("tidegate-{}/{id}/cgroup.procs", self.options.instance.short());
        let trees = ["/sys/fs/cgroup/freezer", "/sys/fs/cgroup"].map(std::path::Path::new);
        let found = trees.iter().find_map(|tree| std::fs::read_to_string(tree.join(&group)).ok());
        found.unwrap_or_default()
    }

    fn shell(&self, script: &str) -> Launch {
        Launch {
            command: [BUSYBOX, "sh", "-c"].map(String::from).to_vec(),
            args: vec![script.into()],
            ..Launch::of(&self.image)
        }
    }
}

impl Drop for World {
    /// The test's runtime may be on its way out, so a thread with one of its own cleans up.
    fn drop(&mut self) {
        let (folder, instance) = (self.options.folder.clone(), self.options.instance.clone());
        let cleaner = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(doctor::purge(&folder, &instance)).expect("all of it goes");
        });
        assert!(cleaner.join().is_ok() || std::thread::panicking(), "something was left behind");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_holds_the_contract() {
    let world = World::new();
    let runner = world.open().await;
    let (options, at) = (world.options.clone(), world.options.folder.clone());
    let check = contract::World {
        launch: world.shell("exec /bin/busybox sleep 3600"),
        target: Target::Host("local".parse().expect("valid")),
        again: Box::new(move || {
            let options = options.clone();
            Box::pin(async move {
                let again: Arc<dyn Runner> = Arc::new(Embedded::open(options).await.expect("again"));
                again
            })
        }),
        kill: Box::new(move |id| {
            let run = at.join("replicas").join(id.to_string()).join("run.json");
            Box::pin(async move {
                let run = std::fs::read(run).expect("it runs");
                let run: serde_json::Value = serde_json::from_slice(&run).expect("JSON");
                let pid = run["init"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
                    .expect("it is killed");
            })
        }),
    };
    contract::check(runner, check).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_cannot_be_read_is_an_end_and_hides_nothing_else() {
    let world = World::new();
    let runner = world.open().await;
    let (broken, folder) = world.started(&runner, 1).await;
    let (well, _) = world.started(&runner, 2).await;
    std::fs::write(folder.join("exit.json"), "").expect("written");
    let listed = runner.list().await.expect("one file takes nothing else down");
    let state = |id: &ReplicaId| listed.iter().find(|seen| seen.id == *id).map(|seen| &seen.state);
    assert!(matches!(state(&broken), Some(ObservedState::Exited(exit)) if exit.code == 137), "{listed:?}");
    assert_eq!(state(&well), Some(&ObservedState::Running));
    runner.remove(&broken).await.expect("it goes");
    assert_eq!((world.processes(&broken).as_str(), folder.exists()), ("", false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_knows_any_more_is_removed() {
    let world = World::new();
    let runner = world.open().await;
    let (emptied, folder) = world.started(&runner, 1).await;
    let (lost, other) = world.started(&runner, 2).await;
    assert_ne!((world.processes(&emptied), world.processes(&lost)), (String::new(), String::new()));
    std::fs::write(folder.join("record.json"), "").expect("written");
    std::fs::remove_dir_all(&other).expect("removed");
    assert_eq!(runner.list().await.expect("it lists"), []);
    for id in [&emptied, &lost] {
        assert_eq!(world.processes(id), "", "{id} lives on");
    }
    let (again, _) = world.started(&runner, 1).await;
    assert_eq!(runner.list().await.expect("it lists").len(), 1, "{again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_somebody_removes_is_made_again() {
    let world = World::new();
    let runner = world.open().await;
    let (first, _) = world.started(&runner, 1).await;
    let bridge = format!("tg-{}", world.options.instance.short());
    let removed = std::process::Command::new("ip").args(["link", "del", &bridge]).status().expect("ip runs");
    assert!(removed.success());
    runner.ping().await.expect("it answers");
    assert!(std::path::Path::new("/sys/class/net").join(&bridge).exists(), "the bridge is there again");
    let (second, _) = world.started(&runner, 2).await;
    let listed = runner.list().await.expect("it lists");
    let addresses: Vec<_> = listed.iter().filter_map(|seen| Some((&seen.id, seen.address?))).collect();
    assert_eq!(addresses.len(), 2, "{first} {second}: {listed:?}");
}
