//! The embedded runner on this machine: the contract that every engine keeps, and what is its own. Needs root; never skips.
//! Each test has an instance and a folder of its own and removes what it made, also when it fails.

mod busybox;

use std::{path::PathBuf, sync::Arc};

use busybox::BUSYBOX;
use tidegate_config::{
    model::Images,
    spec::{Launch, Target},
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
