//! Shims on this machine, with busybox for an image. Needs root, control groups, overlayfs, `ip` and a static busybox.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tidegate_config::spec::Exit;
use tidegate_runner::{
    Error, Executed, Kind,
    embedded::trial::{Group, Replica, Trial, exit},
};

static COUNTER: AtomicU32 = AtomicU32::new(0);
const SOON: Duration = Duration::from_secs(30);

/// A folder for replicas, an image, a network namespace and what starts shims.
struct Room {
    folder: tempfile::TempDir,
    name: String,
    trial: Trial,
}

/// A replica's folder and its control group.
struct Place {
    folder: PathBuf,
    group: String,
}

impl Room {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let name = format!("tgt{}-{}", std::process::id() % 10_000, COUNTER.fetch_add(1, Ordering::Relaxed));
        image(&folder.path().join("image"));
        ip(&["netns", "add", &name]);
        let trial = Trial::new(Path::new(env!("CARGO_BIN_EXE_tidegate-shim"))).expect("it can be read");
        Self { folder, name, trial }
    }

    fn place(&self, name: &str, args: &[&str], change: impl FnOnce(&mut Value)) -> Place {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(folder.join("bundle")).expect("made");
        fs::create_dir_all(folder.join("scratch")).expect("made");
        let group = format!("/tidegate-{}/{name}", self.name);
        let mut task = json!({
            "id": name,
            "layers": [self.folder.path().join("image")],
            "namespace": format!("/run/netns/{}", self.name),
            "cgroup": group,
            "args": args,
            "env": ["GREETING=hello"],
            "secrets": {},
            "secret_files": {},
            "cwd": "/",
            "user": "",
            "mounts": [],
            "resolv_conf": "nameserver 192.0.2.1\n",
            "hosts": "127.0.0.1 localhost\n",
            "profile": "default",
            "resources": {
                "memory": 64 << 20, "cpu": null, "pids": 100, "reserve": { "memory": 0, "cpu": 0.0 },
            },
        });
        change(&mut task);
        fs::write(folder.join("task.json"), task.to_string()).expect("written");
        Place { folder, group }
    }

    async fn start(&self, place: &Place) -> Result<Replica, Error> {
        self.trial.start(&place.folder).await
    }

    /// Runs a shell's script to its end; how it ended and what it printed.
    async fn script(&self, text: &str, change: impl FnOnce(&mut Value)) -> (Exit, String) {
        self.program(&["/bin/sh", "-c", text], change).await
    }

    async fn program(&self, args: &[&str], change: impl FnOnce(&mut Value)) -> (Exit, String) {
        let name = format!("t-1-{}", COUNTER.fetch_add(1, Ordering::Relaxed) + 1);
        let place = self.place(&name, args, change);
        let replica = self.start(&place).await.expect("it starts");
        (ended(&replica, &place).await, printed(&place))
    }

    async fn exec(&self, place: &Place, command: &[&str]) -> Executed {
        self.trial.exec(&place.folder, command, SOON).await.expect("it can be run")
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.name]);
        for entry in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let folder = entry.path().join(format!("tidegate-{}", self.name));
            drop(fs::remove_dir(folder.join("shims")));
            drop(fs::remove_dir(folder));
        }
    }
}

fn image(root: &Path) {
    for folder in ["bin", "etc", "proc", "dev", "sys", "run", "root", "data/inner", "away"] {
        fs::create_dir_all(root.join(folder)).expect("made");
    }
    fs::create_dir(root.join("tmp")).expect("made");
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("set");
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("a static busybox");
    for name in [
        "sh", "cat", "id", "echo", "sleep", "ls", "ps", "grep", "dd", "env", "hostname", "touch", "true",
        "mount", "wc", "mkdir", "mknod", "stat", "nc", "unshare", "chroot", "tail", "kill", "df", "yes",
        "head", "ping",
    ] {
        symlink("busybox", root.join("bin").join(name)).expect("linked");
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n")
        .expect("written");
    fs::write(root.join("etc/group"), "root:x:0:\nweb:x:1001:\nextra:x:2000:web\n").expect("written");
    fs::write(root.join("data/inner/file"), "of the image\n").expect("written");
    fs::write(root.join("bin/script"), "#!/nowhere\n").expect("written");
    fs::set_permissions(root.join("bin/script"), fs::Permissions::from_mode(0o755)).expect("set");
}

fn ip(args: &[&str]) {
    assert!(Command::new("ip").args(args).status().expect("`ip` is installed").success(), "ip {args:?}");
}

async fn ended(replica: &Replica, place: &Place) -> Exit {
    tokio::time::timeout(SOON, replica.ended()).await.expect("it ends").expect("it can be watched");
    exit(&place.folder).expect("it is written down")
}

/// What was printed, without stamps; each must be one.
fn printed(place: &Place) -> String {
    let log = fs::read_to_string(place.folder.join("log")).unwrap_or_default();
    log.lines().map(|line| format!("{}\n", record(line).1)).collect()
}

fn record(line: &str) -> (&str, &str) {
    let (stamp, rest) = line.split_once(' ').expect("a stamp");
    humantime::parse_rfc3339(stamp).expect("a time");
    rest.split_once(' ').expect("a stream")
}

async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn output_is_stamped_and_codes_are_told() {
    let room = Room::new();
    for (args, code, message, output) in [
        (vec!["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], 3, None, "out\nerr\n"),
        (vec!["sh", "-c", "printf half"], 0, None, "half\n"),
        (vec!["/bin/sh", "-c", "kill -9 $$"], 137, None, ""),
        (vec!["/bin/sh", "-c", "kill -15 $$"], 143, None, ""),
        (vec!["/nope"], 127, Some("exec /nope: no such file or directory"), ""),
        (vec!["nope"], 127, Some("exec nope: no such file or directory"), ""),
        (vec!["/bin/script"], 127, Some("exec /bin/script: no such file or directory"), ""),
        (vec!["/etc/passwd"], 126, Some("exec /etc/passwd: permission denied"), ""),
    ] {
        let (exit, log) = room.program(&args, |_| {}).await;
        let expected =
            Exit { code, out_of_memory: false, disrupted: false, message: message.map(String::from) };
        assert_eq!(exit, expected, "{args:?}");
        let (mut found, mut wanted): (Vec<_>, Vec<_>) = (log.lines().collect(), output.lines().collect());
        found.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{args:?}");
    }
}

#[tokio::test]
async fn a_replica_is_locked_in() {
    let room = Room::new();
    let script = "grep -E '^(Seccomp|NoNewPrivs|Cap...|Groups|Uid):' /proc/self/status; grep -E '^(Seccomp|NoNewPrivs):' \
                  /proc/1/status; hostname; cat /etc/hostname /etc/hosts; env; ls -d /proc/1/fd/0 /proc/1/exe; \
                  mount -t tmpfs x /away; unshare -m true; echo x > /proc/sys/kernel/hostname; mknod /tmp/disk b 8 0; \
                  ls -l /proc/1/exe; cat /proc/1/environ; ls /sys/fs/cgroup; ulimit -n; cat /proc/self/oom_score_adj";
    let (_, log) = room.script(script, |_| {}).await;
    for expected in [
        "Seccomp:\t2",
        "NoNewPrivs:\t1",
        "CapBnd:\t00000000000004eb",
        "CapEff:\t00000000000004eb",
        "CapInh:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "127.0.0.1 localhost",
        "GREETING=hello",
        "HOME=/root",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "mount: permission denied",
        "unshare: unshare(0x20000): Operation not permitted",
        "mknod: /tmp/disk: Operation not permitted",
        "/proc/sys/kernel/hostname: Read-only file system",
        "'/proc/1/environ': Permission denied",
        "memory",
    ] {
        assert!(log.contains(expected), "no {expected:?} in:\n{log}");
    }
    assert_eq!(log.matches("Seccomp:\t2").count(), 2, "{log}");
    assert!(!log.contains("/proc/1/exe ->"), "{log}");
}

#[tokio::test]
async fn users_are_the_images() {
    let room = Room::new();
    for (user, expected) in [
        ("", "uid=0(root) gid=0(root)\n/root\n"),
        ("web", "uid=1000(web) gid=1001(web) groups=2000(extra)\n/home/web\n"),
        ("1000:2000", "uid=1000(web) gid=2000(extra)\n/home/web\n"),
        ("4242", "uid=4242 gid=0(root)\n/\n"),
    ] {
        let (exit, log) =
            room.script("id; echo $HOME; echo again > /dev/stderr", |task| task["user"] = json!(user)).await;
        assert_eq!((exit.code, log.replace("again\n", "").as_str()), (0, expected), "{user}");
        assert!(log.contains("again"), "/dev/stderr cannot be opened by {user:?}");
    }
    let place = room.place("u-1-1", &["/bin/true"], |task| task["user"] = json!("nobody"));
    let error = room.start(&place).await.expect_err("there is no such user");
    assert!(error.kind == Kind::Permanent && error.message.contains("no user `nobody`"), "{error}");
    assert!(!Group::of(&place.group).exists(), "its control group is left");
}

#[tokio::test]
async fn the_strict_profile_locks_in_further() {
    let room = Room::new();
    let strict = |task: &mut Value| {
        task["profile"] = json!("strict");
        task["user"] = json!("web");
    };
    let script = "grep Cap /proc/self/status; touch /x; touch /tmp/y && echo fine; mount | grep ' /tmp '";
    let (_, log) = room.script(script, strict).await;
    for expected in ["CapBnd:\t0000000000000000", "/x: Read-only file system", "fine", "noexec"] {
        assert!(log.contains(expected), "no {expected:?} in:\n{log}");
    }
    let place = room.place("s-1-1", &["/bin/true"], |task| task["profile"] = json!("strict"));
    let error = room.start(&place).await.expect_err("root is refused");
    assert!(error.kind == Kind::Permanent && error.message.contains("runs nothing as root"), "{error}");
}

#[tokio::test]
async fn signals_are_passed_on_and_orphans_are_buried() {
    let room = Room::new();
    let script = "trap 'echo bye; exit 7' TERM; (sh -c 'true & exec sleep 0') ; (sh -c '(sleep 0.1 &) ; true'); \
                  echo ready; while true; do sleep 0.05; done";
    let place = room.place("g-1-1", &["/bin/sh", "-c", script], |_| {});
    let replica = room.start(&place).await.expect("it starts");
    eventually("it gets ready", || printed(&place).contains("ready")).await;
    let list = ["ps", "-o", "pid,stat,comm"];
    let mut listed = room.exec(&place, &list).await;
    // The script's own pauses are dead for a moment each, until it has waited for them; orphans would stay.
    for _ in 0..20 {
        if !listed.output.contains('Z') {
            break;
        }
        listed = room.exec(&place, &list).await;
    }
    assert!(
        !listed.output.lines().any(|line| line.split_whitespace().nth(1) == Some("Z")),
        "{}",
        listed.output
    );
    replica.signal(libc::SIGTERM).expect("sent");
    assert_eq!(ended(&replica, &place).await.code, 7);
    assert!(printed(&place).ends_with("bye\n"));
}

#[tokio::test]
async fn too_much_memory_is_told() {
    let room = Room::new();
    let (exit, _) = room.script("tail /dev/zero", |task| task["resources"]["memory"] = json!(16 << 20)).await;
    assert!(exit.out_of_memory && exit.code == 137, "{exit:?}");
}

#[tokio::test]
async fn secrets_are_in_memory_only() {
    let room = Room::new();
    let secret = room.folder.path().join("secret");
    fs::write(&secret, "canary-77\n").expect("written");
    let place = room.place(
        "x-1-1",
        &["/bin/sh", "-c", "echo $KEY; cat /run/secrets/*; ls -ln /run/secrets; sleep 100"],
        |task| {
            task["user"] = json!("web");
            task["secrets"] = json!({ "KEY": secret });
            task["secret_files"] = json!({ "file": secret });
        },
    );
    let replica = room.start(&place).await.expect("it starts");
    eventually("it prints", || printed(&place).contains("file")).await;
    let log = printed(&place);
    assert_eq!(log.matches("canary-77").count(), 2, "{log}");
    assert!(log.contains("-r--------    1 1000     1001"), "{log}");
    let inside = room.exec(&place, &["/bin/sh", "-c", "echo $KEY"]).await;
    assert_eq!(inside.output, "canary-77\n");
    fs::remove_file(place.folder.join("log")).expect("removed");
    let found = Command::new("grep").args(["-r", "canary-77"]).arg(&place.folder).output().expect("grep");
    assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
    replica.kill_shim().expect("sent");
    let absent = room.place("x-1-2", &["/bin/true"], |task| task["secrets"] = json!({ "KEY": "/nowhere" }));
    let error = room.start(&absent).await.expect_err("it cannot be read");
    assert!(
        error.kind == Kind::Permanent && error.message.contains("KEY cannot be read from /nowhere"),
        "{error}"
    );
    tokio::time::timeout(SOON, replica.ended()).await.expect("it ends").expect("watched");
    Group::of(&place.group).remove().await.expect("removed");
}

#[tokio::test]
async fn commands_run_beside_the_program() {
    let room = Room::new();
    let place = room.place("e-1-1", &["/bin/sleep", "1000"], |task| task["user"] = json!("web"));
    let replica = room.start(&place).await.expect("it starts");
    for (command, code, output) in [
        (vec!["/bin/sh", "-c", "echo $GREETING; exit 5"], 5, "hello"),
        (vec!["id"], 0, "uid=1000(web) gid=1001(web) groups=2000(extra)"),
        (vec!["grep", "-E", "^(Seccomp|NoNewPrivs|CapEff):", "/proc/self/status"], 0, "Seccomp:\t2"),
        (vec!["hostname"], 0, "e-1-1"),
        (vec!["nope"], 127, "exec nope: no such file or directory"),
        (vec!["cat", "/proc/1/comm"], 0, "tidegate-init"),
    ] {
        let done = room.exec(&place, &command).await;
        assert!(done.code == code && done.output.contains(output), "{command:?}: {done:?}");
    }
    let long = room.exec(&place, &["/bin/sh", "-c", "yes | head -c 100000"]).await;
    assert_eq!((long.code, long.output.len()), (0, 4096));
    let late = room.trial.exec(&place.folder, &["sleep", "50"], Duration::from_millis(300)).await;
    assert!(late.is_err_and(|error| error.message.contains("did not end")));
    replica.signal(libc::SIGKILL).expect("sent");
    assert_eq!(ended(&replica, &place).await.code, 137);
    assert_eq!(room.exec(&place, &["id"]).await.code, 126);
}

#[tokio::test]
async fn freezing_stops_and_thawing_goes_on() {
    let room = Room::new();
    let place = room.place("f-1-1", &["/bin/sh", "-c", "while true; do echo x; sleep 0.01; done"], |_| {});
    let replica = room.start(&place).await.expect("it starts");
    let group = Group::of(&place.group);
    eventually("it prints", || !printed(&place).is_empty()).await;
    for _ in 0..3 {
        group.freeze().await.expect("frozen");
        assert!(group.is_frozen());
        assert_eq!(room.exec(&place, &["id"]).await.code, 126);
        group.thaw().expect("thawed");
        let before = printed(&place).len();
        eventually("it goes on", || printed(&place).len() > before).await;
        assert!(!group.is_frozen());
    }
    assert!(group.stats().expect("there").memory.0 > 0);
    group.freeze().await.expect("frozen");
    group.kill().await.expect("killed");
    assert_eq!(ended(&replica, &place).await.code, 137);
    assert!(!group.exists(), "its control group is left");
}

#[tokio::test]
async fn a_gateway_finds_what_another_one_started() {
    let room = Room::new();
    let place = room.place("a-1-1", &["/bin/sleep", "1000"], |_| {});
    assert!(Replica::find(&place.folder).expect("read").is_none());
    let replica = room.start(&place).await.expect("it starts");
    let found = Replica::find(&place.folder).expect("read").expect("it lives");
    assert_eq!(found.pids(), replica.pids());
    let error = room.start(&place).await.expect_err("it runs");
    assert!(error.message.contains("another shim is at work"), "{error}");
    found.signal(libc::SIGKILL).expect("sent");
    assert_eq!(ended(&found, &place).await.code, 137);
    assert!(Replica::find(&place.folder).expect("read").is_none());
    // What it wrote stays for the next start.
    assert!(place.folder.join("scratch/upper").is_dir());
    let again = room.start(&place).await.expect("it starts again");
    again.signal(libc::SIGKILL).expect("sent");
    ended(&again, &place).await;
}

#[tokio::test]
async fn a_shim_that_is_killed_takes_everything_with_it() {
    let room = Room::new();
    let seen = || {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("readable");
        let ours = room.folder.path().to_string_lossy().into_owned();
        mounts.lines().any(|line| line.contains(&ours))
    };
    let place = room.place("k-1-1", &["/bin/sh", "-c", "sleep 1000 & sleep 1000"], |_| {});
    let replica = room.start(&place).await.expect("it starts");
    let (init, shim) = replica.pids();
    assert!(alive(init) && alive(shim));
    assert!(!seen(), "mounts are seen outside");
    replica.kill_shim().expect("sent");
    tokio::time::timeout(SOON, replica.ended()).await.expect("it ends").expect("watched");
    eventually("its replica ends", || !alive(init)).await;
    Group::of(&place.group).remove().await.expect("removed");
    assert!(exit(&place.folder).is_err());
    assert_eq!(fs::read_dir(place.folder.join("bundle")).expect("readable").count(), 0);
}

#[tokio::test]
async fn logs_are_rotated() {
    let room = Room::new();
    let (exit, _) =
        room.script("yes 0123456789012345678901234567890123456789 | head -c 60000000", |_| {}).await;
    assert_eq!(exit.code, 0);
    let folders = fs::read_dir(room.folder.path()).expect("readable").flatten();
    let folder = folders.map(|entry| entry.path()).find(|path| path.join("log").exists()).expect("a log");
    for name in ["log", "log.1", "log.2"] {
        let size = fs::metadata(folder.join(name)).expect("there").len();
        assert!(size > 0 && size <= 10 << 20, "{name}: {size}");
    }
    assert!(!folder.join("log.3").exists());
}

#[tokio::test]
async fn what_is_written_has_a_limit() {
    let room = Room::new();
    let script = "dd if=/dev/zero of=/big bs=1M count=64; echo code $?; df -k / | tail -1";
    let (_, log) = room.script(script, |task| task["resources"]["disk"] = json!(16 << 20)).await;
    assert!(log.contains("No space left on device") && log.contains("code 1"), "{log}");
}

#[tokio::test]
async fn volumes_and_working_folders_are_there() {
    let room = Room::new();
    let volume = room.folder.path().join("volume");
    fs::create_dir(&volume).expect("made");
    let mounts = json!([
        { "Bind": { "source": volume, "target": "/data", "read_only": false, "fill": true } },
        { "Bind": { "source": volume, "target": "/see", "read_only": true, "fill": false } },
        { "Memory": { "target": "/quick", "size": 1 << 20 } },
    ]);
    let script = "pwd; cat /data/inner/file; echo mine > /data/new; cat /see/new; touch /see/x; echo y > /quick/y; mount | grep quick";
    let change = |task: &mut Value| {
        task["mounts"] = mounts;
        task["cwd"] = json!("/made/for/it");
    };
    let (_, log) = room.script(script, change).await;
    for expected in ["/made/for/it", "of the image", "mine", "/see/x: Read-only file system", "size=1024k"] {
        assert!(log.contains(expected), "no {expected:?} in:\n{log}");
    }
    assert_eq!(fs::read_to_string(volume.join("new")).expect("there"), "mine\n");
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let room = Room::new();
    let absent =
        json!([{ "Bind": { "source": "/nowhere", "target": "/x", "read_only": false, "fill": false } }]);
    for (key, value, kind, expected) in [
        ("mounts", absent, Kind::Permanent, "there is no /nowhere to be mounted at /x"),
        ("layers", json!(["/nowhere"]), Kind::Retryable, "layer /nowhere is not there"),
        ("namespace", json!("/run/netns/none"), Kind::Retryable, "invalid netns path"),
        ("cwd", json!("/etc/passwd"), Kind::Permanent, "the working folder /etc/passwd cannot be made"),
    ] {
        let place = room.place("w-1-1", &["/bin/true"], |task| task[key] = value);
        let error = room.start(&place).await.expect_err("something is missing");
        assert!(error.kind == kind && error.message.contains(expected), "{key}: {error}");
        assert!(!Group::of(&place.group).exists(), "{key}: its control group is left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_start_at_once() {
    let room = Room::new();
    let places: Vec<_> =
        (0..50).map(|number| room.place(&format!("m-1-{number}"), &["/bin/sleep", "1000"], |_| {})).collect();
    let replicas = futures_util::future::join_all(places.iter().map(|place| room.start(place))).await;
    for (replica, place) in replicas.into_iter().zip(&places) {
        let replica = replica.expect("it starts");
        replica.signal(libc::SIGTERM).expect("sent");
        assert_eq!(ended(&replica, place).await.code, 143);
        assert!(!Group::of(&place.group).exists(), "a control group is left");
    }
}
