//! The Docker runner against a real engine. Fails without one; never skips.
//! Each test has an instance of its own and removes what it made, also when it fails.

mod engine;

use std::{sync::Arc, time::Duration};

use bollard::{
    models::ContainerCreateBody,
    query_parameters::{CreateContainerOptions, KillContainerOptions, RemoveContainerOptions},
};
use engine::{IMAGE, World, shell};
use futures_util::StreamExt;
use tidegate_config::{
    spec::{ObservedState, Profile, Pull, Secret, StartSpec, Tmpfs, Volume},
    units::Bytes,
};
use tidegate_runner::{Event, Kind, LogOptions, Runner, contract, docker};

#[tokio::test]
async fn it_holds_the_contract() {
    let world = World::new().await;
    let (options, api, instance) = (world.options(), world.api.clone(), world.instance.clone());
    let check = contract::World {
        launch: shell("exec /bin/busybox sleep 3600"),
        target: world.target(),
        again: Box::new(move || {
            let options = options.clone();
            Box::pin(async move {
                let again: Arc<dyn Runner> =
                    Arc::new(docker::Docker::connect(options).await.expect("docker"));
                again
            })
        }),
        kill: Box::new(move |id| {
            let (api, name) = (api.clone(), format!("tg-{}-{id}", instance.short()));
            Box::pin(async move {
                let kill = KillContainerOptions { signal: "KILL".into() };
                api.kill_container(&name, Some(kill)).await.expect("it is killed");
            })
        }),
    };
    contract::check(world.runner.clone(), check).await;
    world.close().await;
}

#[tokio::test]
async fn what_is_not_ours_is_not_touched() {
    let world = World::new().await;
    let ours = world.spec(1, shell("exec /bin/busybox sleep 3600")).await;
    world.runner.start(&ours).await.expect("it starts");
    let labels = world.labels_of(&ours.id).await;
    let stranger = world.spec(2, shell("exec /bin/busybox sleep 3600")).await;
    // Our labels under another name, as an image could carry them; and our name without the labels.
    let wrong_name = world.foreign(&format!("foreign-{}", world.instance), labels).await;
    let no_label = world.foreign(&world.name_of(&stranger.id), Default::default()).await;

    let listed = world.runner.list().await.expect("it lists");
    assert_eq!(listed.iter().map(|o| &o.id).collect::<Vec<_>>(), [&ours.id]);
    world.runner.remove(&stranger.id).await.expect("there is none of ours");
    world.runner.stop(&stranger.id, Duration::ZERO, false).await.expect("there is none of ours");
    let error = world.runner.start(&stranger).await.expect_err("the name is taken");
    assert_eq!(error.kind, Kind::Permanent, "{error}");
    world.runner.remove(&ours.id).await.expect("it goes");
    for id in [&wrong_name, &no_label] {
        world.api.inspect_container(id, None).await.expect("it is still there");
    }
    world.close().await;
}

#[tokio::test]
async fn the_profile_is_in_force() {
    let world = World::new().await;
    let spec = world.spec(1, shell("exec /bin/busybox sleep 3600")).await;
    world.runner.start(&spec).await.expect("it starts");
    let status = world.exec(&spec.id, &["cat", "/proc/1/status"]).await;
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
        line.trim_start_matches(':').trim().to_owned()
    };
    assert_eq!((field("Seccomp").as_str(), field("NoNewPrivs").as_str()), ("2", "1"), "{status}");
    // CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, KILL 5, SETGID 6, SETUID 7, NET_BIND_SERVICE 10.
    assert_eq!(u64::from_str_radix(&field("CapBnd"), 16), Ok(0b100_1110_1011), "{status}");
    let made = world.api.inspect_container(&world.name_of(&spec.id), None).await.expect("it is there");
    let host = made.host_config.expect("always there");
    assert_eq!(
        (host.pids_limit, host.memory, host.memory_swap),
        (Some(1024), Some(512 << 20), Some(512 << 20))
    );
    assert!(host.port_bindings.unwrap_or_default().is_empty());

    let mut strict = world.spec(2, shell("exec /bin/busybox sleep 3600")).await;
    strict.launch.profile = Profile::Strict;
    let error = world.runner.start(&strict).await.expect_err("the image runs as root");
    assert_eq!(error.kind, Kind::Permanent);
    strict.launch.user = Some("1000:1000".into());
    world.runner.start(&strict).await.expect("it starts");
    let wrote = world.exec(&strict.id, &["sh", "-c", "touch /x 2>&1; touch /tmp/x && id -u"]).await;
    assert!(wrote.contains("Read-only file system") && wrote.ends_with("1000\n"), "{wrote}");
    world.close().await;
}

#[tokio::test]
async fn secrets_are_files_and_memory_is_mounted() {
    let world = World::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let secret = Secret { file: folder.path().join("value") };
    std::fs::write(&secret.file, "s3cret\n").expect("written");
    let mut launch = shell("exec /bin/busybox sleep 3600");
    launch.secret_files = [("db-password".to_owned(), secret.clone())].into();
    launch.tmpfs = vec![Tmpfs { target: "/cache".into(), size: Bytes::mib(1) }];
    let spec = world.spec(1, launch.clone()).await;
    world.runner.start(&spec).await.expect("it starts");
    assert_eq!(world.exec(&spec.id, &["cat", "/run/secrets/db-password"]).await, "s3cret\n");
    let script = "echo x 2>/dev/null >/run/secrets/db-password || echo read-only; \
                  /bin/busybox dd if=/dev/zero of=/cache/x bs=1024 count=2048 2>/dev/null; /bin/busybox wc -c </cache/x";
    assert_eq!(world.exec(&spec.id, &["sh", "-c", script]).await, "read-only\n1048576\n");

    std::fs::remove_file(&secret.file).expect("it was there");
    let absent = world.spec(2, launch).await;
    let error = world.runner.start(&absent).await.expect_err("the file is gone");
    assert_eq!(error.kind, Kind::Permanent);
    assert!(error.message.contains("db-password") && !error.message.contains("s3cret"), "{error}");
    world.close().await;
}

#[tokio::test]
async fn exits_are_told_with_their_cause() {
    let world = World::new().await;
    let mut events = world.runner.events();
    let seven = world.spec(1, shell("exit 7")).await;
    world.runner.start(&seven).await.expect("it starts");
    let exit = world.exited(&mut events, &seven.id).await;
    assert_eq!((exit.code, exit.out_of_memory), (7, false));

    let mut nothing = world.spec(3, shell("")).await;
    nothing.launch.command = vec!["/no/such/program".into()];
    world.runner.start(&nothing).await.expect("the container's init starts");
    assert_eq!(world.exited(&mut events, &nothing.id).await.code, 127);

    // The engine itself does not always learn of it: one in eighty is lost, more where memory runs out at once.
    let script = "/bin/busybox sleep 0.5; exec /bin/busybox tail -c 100000000 /dev/zero";
    let (mut told, mut started) = (false, 2);
    for number in 4..9 {
        let mut hungry = world.spec(number, shell(script)).await;
        hungry.launch.resources.memory = Bytes::mib(16);
        world.runner.start(&hungry).await.expect("it starts");
        let exit = world.exited(&mut events, &hungry.id).await;
        assert_eq!(exit.code, 137);
        (told, started) = (exit.out_of_memory, started + 1);
        if told {
            break;
        }
    }
    assert!(told, "of five not one");
    let listed = world.runner.list().await.expect("it lists");
    let states: Vec<_> = listed.iter().map(|o| matches!(o.state, ObservedState::Exited(_))).collect();
    assert_eq!(states, vec![true; started], "what ended is kept until it is removed");
    world.close().await;
}

#[tokio::test]
async fn a_failed_start_leaves_nothing() {
    let world = World::new().await;
    let absent =
        Volume { source: "/no/such/folder".into(), target: "/data".into(), read_only: true, shared: false };
    type Spoil = fn(&mut StartSpec, Volume);
    let rows: [(Spoil, Kind); 3] = [
        // Refused at start, when the container exists already.
        (|spec, _| spec.launch.user = Some("nobody-here".into()), Kind::Permanent),
        (|spec, absent| spec.launch.volumes = vec![absent], Kind::Permanent),
        (|spec, _| spec.digest.0 = format!("sha256:{}", "0".repeat(64)), Kind::NoImage),
    ];
    for (number, (spoil, kind)) in (1..).zip(rows) {
        let mut spec = world.spec(number, shell("exec /bin/busybox sleep 3600")).await;
        spoil(&mut spec, absent.clone());
        let error = world.runner.start(&spec).await.expect_err("it cannot start");
        assert_eq!(error.kind, kind, "{error}");
        assert_eq!(world.runner.list().await.expect("it lists"), [], "{error}");
    }
    world.close().await;
}

#[tokio::test]
async fn logs_have_an_end_and_go_on() {
    let world = World::new().await;
    let script = "busybox() { /bin/busybox \"$@\"; }; busybox mkfifo /tmp/go; \
                  echo one; echo two >&2; read x < /tmp/go; echo three";
    let spec = world.spec(1, shell(script)).await;
    world.runner.start(&spec).await.expect("it starts");
    let follow = LogOptions { tail: None, follow: true };
    let mut lines = world.runner.logs(&spec.id, follow).await.expect("it has logs");
    // Two pipes: their order is not the engine's promise.
    let mut first = Vec::new();
    for _ in 0..2 {
        let line = world.soon(lines.next()).await.expect("a line").expect("read");
        first.push((line.text, line.stderr));
    }
    first.sort();
    assert_eq!(first, [("one".to_owned(), false), ("two".to_owned(), true)]);
    world.exec(&spec.id, &["sh", "-c", "echo > /tmp/go"]).await;
    let line = world.soon(lines.next()).await.expect("a line").expect("read");
    assert_eq!(line.text, "three");
    assert!(world.soon(lines.next()).await.is_none(), "logs end with the container");
    let tail = LogOptions { tail: Some(1), follow: false };
    let last: Vec<_> = world.runner.logs(&spec.id, tail).await.expect("kept").collect().await;
    assert_eq!(last.into_iter().map(|l| l.expect("read").text).collect::<Vec<_>>(), ["three"]);
    world.close().await;
}

#[tokio::test]
async fn secrets_arrive_and_missing_ones_are_named() {
    let world = World::new().await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "s3cret\n").expect("written");
    let mut spec = world.spec(1, shell("exec /bin/busybox sleep 3600")).await;
    spec.launch.secrets = [("KEY".to_owned(), Secret { file: file.path().into() })].into();
    world.runner.start(&spec).await.expect("it starts");
    assert_eq!(world.exec(&spec.id, &["sh", "-c", "echo $KEY $PORT"]).await, "s3cret 8080\n");

    let mut absent = world.spec(2, shell("exec /bin/busybox sleep 3600")).await;
    absent.launch.secrets = [("KEY".to_owned(), Secret { file: "/nowhere/key".into() })].into();
    let error = world.runner.start(&absent).await.expect_err("there is no such file");
    assert!(error.message.contains("KEY") && error.message.contains("/nowhere/key"), "{error}");
    world.close().await;
}

#[tokio::test]
async fn images_are_named_when_they_are_not_there() {
    let world = World::new().await;
    let prepare = async |image: &str| world.runner.prepare(image, Pull::Never, Arc::new(|_| ())).await;
    let error = prepare("tidegate.test/none:1").await.expect_err("there is none");
    assert_eq!(error.kind, Kind::Permanent);
    assert!(
        error.message.contains("tidegate.test/none:1") && error.message.contains("pull = never"),
        "{error}"
    );

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("image.tar");
    world.export(&file).await;
    let loaded = prepare(&format!("docker-archive:{}", file.display())).await.expect("it loads");
    assert_eq!(loaded.digest, prepare(IMAGE).await.expect("it is there").digest);
    assert_eq!(loaded.exposed, [8080]);
    let error = prepare("docker-archive:/nowhere.tar").await.expect_err("there is no such file");
    assert!(error.message.contains("/nowhere.tar"), "{error}");
    world.close().await;
}

#[tokio::test]
async fn a_network_that_went_away_is_made_again() {
    let world = World::new().await;
    let first = world.spec(1, shell("exec /bin/busybox sleep 3600")).await;
    world.runner.start(&first).await.expect("it starts");
    world.runner.remove(&first.id).await.expect("it goes");
    let network = format!("tg-{}", world.instance.short());
    world.api.remove_network(&network).await.expect("it is empty");
    let second = world.spec(2, shell("exec /bin/busybox sleep 3600")).await;
    world.runner.start(&second).await.expect("it starts on a new network");
    let listed = world.runner.list().await.expect("it lists");
    assert!(listed[0].address.is_some(), "{listed:?}");
    world.close().await;
}

#[tokio::test]
async fn what_others_do_to_ours_is_told() {
    let world = World::new().await;
    let spec = world.spec(1, shell("exec /bin/busybox sleep 3600")).await;
    let mut events = world.runner.events();
    world.runner.start(&spec).await.expect("it starts");
    let name = world.name_of(&spec.id);
    world.api.pause_container(&name).await.expect("it freezes");
    world.told(&mut events, &Event::Resync).await;
    let force = RemoveContainerOptions { force: true, ..RemoveContainerOptions::default() };
    world.api.remove_container(&name, Some(force)).await.expect("it goes");
    world.told(&mut events, &Event::Gone(spec.id.clone())).await;
    world.close().await;
}

impl World {
    async fn foreign(&self, name: &str, labels: std::collections::HashMap<String, String>) -> String {
        let options = CreateContainerOptions { name: Some(name.into()), ..CreateContainerOptions::default() };
        let body = ContainerCreateBody {
            image: Some(IMAGE.into()),
            labels: Some(labels),
            ..ContainerCreateBody::default()
        };
        let made = self.api.create_container(Some(options), body).await.expect("it is made");
        self.note_foreign(&made.id);
        made.id
    }
}
