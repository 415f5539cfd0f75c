//! What `tidegate doctor` does on a real machine. Needs root; never skips. Everything is named after an instance of its
//! own, and nothing of others is touched.

use std::{
    fs,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tidegate_runner::{
    InstanceId,
    embedded::doctor::{self, Installation, Leftover},
};

/// The roots of the trees that the engine uses.
fn roots() -> Vec<PathBuf> {
    let unified = Path::new("/sys/fs/cgroup");
    if unified.join("cgroup.controllers").exists() {
        return vec![unified.to_owned()];
    }
    ["memory", "cpu", "cpuacct", "pids", "freezer"].map(|name| unified.join(name)).into()
}

struct World {
    _room: tempfile::TempDir,
    own: Installation,
}

impl World {
    fn new() -> Self {
        let room = tempfile::tempdir().expect("a folder");
        let folder = room.path().join("embedded");
        for below in ["replicas", "images", "volumes/data"] {
            fs::create_dir_all(folder.join(below)).expect("made");
        }
        let instance = InstanceId::from_bits(rand::random());
        Self { _room: room, own: Installation { instance, folder, gateway: false } }
    }

    fn group(&self, name: &str) -> String {
        format!("tidegate-{}/{name}", self.own.instance.short())
    }

    fn replica(&self, name: &str) -> PathBuf {
        self.own.folder.join("replicas").join(name)
    }

    /// A replica's folder, and a process in a control group of its name.
    fn replica_runs(&self, name: &str, record: bool) -> Child {
        fs::create_dir_all(self.replica(name).join("scratch")).expect("made");
        if record {
            fs::write(self.replica(name).join("record.json"), "{}").expect("written");
        }
        let child = Command::new("sleep").arg("3600").spawn().expect("it starts");
        for root in roots() {
            let group = root.join(self.group(name));
            fs::create_dir_all(&group).expect("control groups need root");
            fs::write(group.join("cgroup.procs"), child.id().to_string()).expect("it joins");
        }
        child
    }

    /// What is left of this instance.
    async fn left(&self) -> Vec<Leftover> {
        let all = doctor::leftovers(Some(&self.own)).await.expect("root may look");
        all.into_iter().filter(|left| left.instance == self.own.instance.short()).collect()
    }

    fn groups(&self) -> usize {
        roots().iter().filter(|root| root.join(self.group("")).exists()).count()
    }
}

#[tokio::test]
async fn what_a_crash_left_goes_and_nothing_else() {
    let world = World::new();
    let (mut left, mut kept) = (world.replica_runs("api-1-1", false), world.replica_runs("api-1-2", true));
    let scratch = world.replica("api-1-1").join("scratch");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&scratch).status();
    assert!(mounted.expect("mount is there").success());

    let found = world.left().await;
    let said: Vec<_> = found.iter().map(|left| left.what.clone()).collect();
    let wanted = [
        format!("mounted file system {}", scratch.display()),
        format!("control group /{} with a process", world.group("api-1-1")),
    ];
    assert_eq!(said, wanted);
    // Whoever is back is left alone, although it was on the list.
    fs::write(world.replica("api-1-1").join("record.json"), "{}").expect("written");
    for thing in &found {
        thing.remove(Some(&world.own)).await.expect("there is nothing to be done");
    }
    assert_eq!(left.try_wait().expect("it is ours"), None);
    fs::remove_file(world.replica("api-1-1").join("record.json")).expect("it was there");
    // A mount point is busy for nobody: removing twice is fine.
    for thing in found.iter().chain(&found) {
        thing.remove(Some(&world.own)).await.expect("it goes");
    }
    left.wait().expect("it was ended");
    assert_eq!(kept.try_wait().expect("it is ours"), None);
    assert_eq!(world.left().await.len(), 0);

    doctor::purge(&world.own.folder, &world.own.instance).await.expect("all of it goes");
    kept.wait().expect("it was ended");
    assert_eq!(world.groups(), 0);
    assert!(!world.own.folder.join("replicas").exists());
    assert!(world.own.folder.join("images").exists() && world.own.folder.join("volumes/data").exists());
    doctor::purge(&world.own.folder, &world.own.instance).await.expect("nothing is left, which is fine");
}

#[tokio::test]
async fn a_start_that_was_under_way_goes_too() {
    let world = World::new();
    // As a shim is before it has joined any group; it ends with its input.
    let shim = |replica: &Path| {
        let mut shell = Command::new("sh");
        shell.arg0("tidegate-shim").args(["-c", "read nothing", "start"]).arg(replica).stdin(Stdio::piped());
        shell.spawn().expect("sh is there")
    };
    let (mut ours, mut theirs) =
        (shim(&world.replica("api-1-1")), shim(Path::new("/nowhere/replicas/api-1-1")));
    doctor::purge(&world.own.folder, &world.own.instance).await.expect("all of it goes");
    assert_eq!(theirs.try_wait().expect("it is ours"), None, "another instance's is left alone");
    drop(ours.stdin.take());
    assert_eq!(ours.wait().expect("it is ours").signal(), Some(9));
    theirs.kill().expect("it lives");
    theirs.wait().expect("it was ended");
}

#[tokio::test]
async fn this_machine_is_fit() {
    let state = tempfile::tempdir().expect("a folder");
    fs::write(state.path().join("engine-local"), "embedded\n").expect("written");
    let findings = doctor::check(Some(state.path().join("new"))).await.expect("it looks");
    let failed: Vec<_> = findings.iter().filter(|finding| finding.verdict == doctor::Verdict::Fail).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(doctor::missing(), Vec::<String>::new());
    let chosen = doctor::check(Some(state.path().to_owned())).await.expect("it looks");
    assert!(chosen.iter().any(|finding| finding.found.contains("embedded on local")), "{chosen:?}");
    // Nothing of the attempts stays.
    assert_eq!(fs::read_dir(state.path()).expect("still there").count(), 1);
}
