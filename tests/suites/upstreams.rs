//! Services with addresses of their own: nothing is started for them, and requests go to whichever address is well.

use std::{
    collections::BTreeSet,
    fs::Permissions,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    process::Stdio,
};

use e2e::{
    client::Session,
    eventually::{found, soon},
    nameserver::{Answer, NameServer, v4},
    process::{binary, ready},
    site::Site,
    world::{Setup, World, get, name, under_traffic},
};
use futures_util::future::join_all;

/// A service `legacy` at these addresses.
fn legacy(addresses: &[SocketAddr], more: &str) -> String {
    let addresses: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    format!("[services.legacy]\nupstreams = [{}]\n{more}\n", addresses.join(", "))
}

/// The same by a name that this name server knows.
fn named(server: &NameServer, port: u16) -> String {
    let servers = format!("gateway.resolvers = [\"{}\"]\n", server.address);
    format!(
        "{servers}[services.legacy]\nupstreams = [\"app.internal.:{port}\"]\nhealth.interval = \"50ms\"\n"
    )
}

async fn body(world: &World) -> String {
    let answer = world.get("legacy", "/").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// Asks, several at a time, until exactly these answer.
async fn until_answered_by(world: &World, names: &[&str]) {
    found("answers", async || {
        let seen: BTreeSet<String> = join_all((0..20).map(|_| body(world))).await.into_iter().collect();
        if seen.iter().map(String::as_str).eq(names.iter().copied()) {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn addresses_share_the_requests_and_one_that_is_ill_gets_none() {
    let (first, mut second) = (Site::new("first").await, Site::new("second").await);
    let world = World::new(&legacy(&[first.address, second.address], "health.interval = \"50ms\"")).await;
    until_answered_by(&world, &["first", "second"]).await;
    let ((), bad) = under_traffic(&world, "legacy", 3, async {
        second.go().await;
        world.until("legacy", |status| status.replicas.iter().any(|replica| replica.phase == "failed")).await;
        second.come().await;
        world.until_ready("legacy", 2).await;
        until_answered_by(&world, &["first", "second"]).await;
    })
    .await;
    assert!(bad.is_empty(), "{bad:?}");
    assert_eq!(world.runner.starts(), 0);
}

#[tokio::test]
async fn where_all_are_down_requests_wait_and_are_told_so() {
    let mut site = Site::new("late").await;
    site.go().await;
    let at = site.address;
    let world = World::new(&legacy(&[at], "scaling.hold = \"300ms\"\nhealth.interval = \"50ms\"")).await;
    let (status, reason) = world.get("legacy", "/").await.refusal();
    assert_eq!((status, &*reason), (503, "no_upstream"));
    let explained = world.explain("legacy").await;
    assert_eq!(explained.status.state, "failing");
    assert!(explained.status.reason.contains(&format!("{at}: connection refused")), "{explained:?}");

    let world = World::new(&legacy(&[at], "health.interval = \"50ms\"")).await;
    let (answer, ()) = tokio::join!(world.get("legacy", "/"), async {
        world.until_counts("legacy", 1, 0).await;
        site.come().await;
    });
    assert_eq!((answer.status, &*answer.body), (200, &b"late"[..]));
}

#[tokio::test]
async fn an_address_serves_as_long_as_its_probe_says_so() {
    let site = Site::new("site").await;
    let health =
        "health = { probe = \"http:/healthz\", interval = \"20ms\", failures = 2 }\nscaling.hold = \"100ms\"";
    let world = World::new(&legacy(&[site.address], health)).await;
    assert_eq!(body(&world).await, "site");
    site.set_well(false);
    world.until("legacy", |status| status.state == "failing" && status.reason.contains("503")).await;
    assert_eq!(world.get("legacy", "/").await.refusal(), (503, "no_upstream".into()));
    site.set_well(true);
    world.until_ready("legacy", 1).await;
    assert_eq!(body(&world).await, "site");
}

#[tokio::test]
async fn a_name_leads_where_its_last_good_answer_says() {
    let [first, second] = Site::pair(["first", "second"]).await;
    let server = NameServer::new(Answer::Addresses(vec![v4(first.address)], 0)).await;
    let world = World::new(&named(&server, first.address.port())).await;
    assert_eq!(body(&world).await, "first");
    let ((), bad) = under_traffic(&world, "legacy", 2, async {
        server.set(Answer::Addresses(vec![v4(second.address)], 0));
        until_answered_by(&world, &["second"]).await;
        server.set(Answer::Addresses(vec![v4(first.address), v4(second.address)], 1));
        until_answered_by(&world, &["first", "second"]).await;
    })
    .await;
    assert!(bad.is_empty(), "{bad:?}");
    for trouble in [Answer::NoSuchName, Answer::Failure, Answer::Addresses(Vec::new(), 0)] {
        server.set(trouble.clone());
        server.until_asked_twice().await;
        assert_eq!(world.status("legacy").await.replicas.len(), 2, "{trouble:?}");
        until_answered_by(&world, &["first", "second"]).await;
    }
}

#[tokio::test]
async fn other_name_servers_are_asked_after_a_reload() {
    let [first, second] = Site::pair(["first", "second"]).await;
    let one = NameServer::new(Answer::Addresses(vec![v4(first.address)], 300)).await;
    let other = NameServer::new(Answer::Addresses(vec![v4(second.address)], 300)).await;
    let world = Setup::new(&named(&one, first.address.port())).with_file().start().await;
    assert_eq!(body(&world).await, "first");
    world.write(&named(&other, first.address.port()));
    until_answered_by(&world, &["second"]).await;
}

#[tokio::test]
async fn a_name_that_nobody_knows_yet_is_waited_for() {
    let site = Site::new("site").await;
    let server = NameServer::new(Answer::NoSuchName).await;
    let world = World::new(&named(&server, site.address.port())).await;
    let status = world.status("legacy").await;
    assert_eq!(status.state, "failing");
    assert!(status.reason.contains("app.internal"), "{status:?}");
    let (answer, ()) = tokio::join!(world.get("legacy", "/"), async {
        world.until_counts("legacy", 1, 0).await;
        server.set(Answer::Addresses(vec![v4(site.address)], 60));
    });
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_name_never_leads_to_the_machines_credentials_or_to_us() {
    let metadata = Ipv4Addr::new(169, 254, 169, 254);
    let server = NameServer::new(Answer::Addresses(vec![metadata], 60)).await;
    let world = World::new(&named(&server, 80)).await;
    let status = world.status("legacy").await;
    assert!(
        status.replicas.is_empty() && status.reason.contains("169.254.169.254:80 is not used"),
        "{status:?}"
    );
    let server = NameServer::new(Answer::Addresses(vec![Ipv4Addr::LOCALHOST], 60)).await;
    let world = World::new(&named(&server, 9901)).await;
    let status = world.status("legacy").await;
    assert!(status.replicas.is_empty() && status.reason.contains("the gateway itself"), "{status:?}");
}

#[tokio::test]
async fn by_hand_nothing_is_started_stopped_or_replaced() {
    let mut site = Site::new("site").await;
    let world = World::new(&legacy(&[site.address], "health = { interval = \"20ms\", failures = 1 }")).await;
    let control = world.control();
    assert_eq!(control.wake(name("legacy")).await, Ok(Ok(())));
    for answer in [
        control.sleep(name("legacy")).await,
        control.restart(name("legacy")).await,
        control.roll_back(name("legacy"), None).await,
    ] {
        let why = answer.expect("a control loop").expect_err("there is nothing to do");
        assert!(why.contains("addresses of its own"), "{why}");
    }
    let status = world.status("legacy").await;
    assert_eq!(
        (&*status.state, status.want, &*status.reason),
        ("ready", 1, "addresses of its own; nothing to start")
    );
    assert_eq!(status.upstreams, [site.address.to_string()]);
    site.go().await;
    world.until("legacy", |status| status.state == "failing").await;
    let why = control.wake(name("legacy")).await.expect("a control loop").expect_err("nobody answers");
    assert!(why.contains("connection refused"), "{why}");
    assert_eq!(world.runner.starts(), 0);
}

#[tokio::test]
async fn each_address_has_the_slots_of_a_replica() {
    let sites = [Site::new("a").await, Site::new("b").await];
    let addresses = [sites[0].address, sites[1].address];
    let world = World::new(&legacy(&addresses, "scaling = { concurrency = 1, queue = 1 }")).await;
    let hold = async || {
        let mut session = world.http1().await;
        session.ask(get("legacy", "/hold")).await.expect("an answer")
    };
    let full = async {
        world.until_counts("legacy", 1, 2).await;
        assert_eq!(world.get("legacy", "/").await.refusal(), (503, "queue_full".into()));
        sites.iter().for_each(Site::release);
    };
    let (a, b, c, ()) = tokio::join!(hold(), hold(), hold(), full);
    assert_eq!([a.status, b.status, c.status], [200; 3]);
}

#[tokio::test]
async fn addresses_come_and_go_with_the_file() {
    let (first, second) = (Site::new("first").await, Site::new("second").await);
    let world = Setup::new(&legacy(&[first.address], "")).with_file().start().await;
    let mut held = world.wire().await;
    held.send("GET /hold HTTP/1.1\r\nhost: legacy.localhost\r\n\r\n").await;
    world.until_counts("legacy", 0, 1).await;
    let change = async |to: &str, who: &'static str| {
        let ((), bad) = under_traffic(&world, "legacy", 2, async {
            world.write(to);
            found(who, async || match world.get("legacy", "/").await {
                answer if answer.body == who => Ok(()),
                answer => Err(format!("{answer:?}")),
            })
            .await;
        })
        .await;
        assert!(bad.is_empty(), "{bad:?}");
    };
    change(&legacy(&[second.address], ""), "second").await;
    first.release();
    let (head, body) = soon("the answer that was held", held.answer()).await.expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200") && body == "first", "{head}");
    change(&legacy(&[first.address], "scaling.concurrency = 3"), "first").await;

    // From addresses to an image and back: another service of the same name.
    world.write("services.legacy.image = \"legacy:1\"");
    found("a replica", async || match world.get("legacy", "/").await {
        answer if answer.status == 200 && answer.body != "first" => Ok(()),
        answer => Err(format!("{answer:?}")),
    })
    .await;
    assert_eq!(world.runner.starts(), 1);
    world.write(&legacy(&[second.address], ""));
    found("the address", async || match world.get("legacy", "/").await {
        answer if answer.body == "second" => Ok(()),
        answer => Err(format!("{answer:?}")),
    })
    .await;
    world.write("services.other.image = \"other:1\"");
    world.until_gone("legacy").await;
}

#[tokio::test]
async fn an_upgrade_finishes_what_runs_there() {
    let site = Site::new("site").await;
    let world = World::new(&legacy(&[site.address], "")).await;
    let mut held = world.wire().await;
    held.send("GET /hold HTTP/1.1\r\nhost: legacy.localhost\r\n\r\n").await;
    world.until_counts("legacy", 0, 1).await;
    let (world, old) = world.upgrade().await;
    assert_eq!(body(&world).await, "site");
    site.release();
    let (head, _) = held.answer().await.expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(old.retire().await);
    assert_eq!(body(&world).await, "site");
}

#[tokio::test]
async fn sessions_find_their_address_again_after_a_restart() {
    for by in ["cookie = \"tg\"", "header = \"x-user\""] {
        let sites = [Site::new("first").await, Site::new("second").await, Site::new("third").await];
        let addresses = sites.each_ref().map(|site| site.address);
        let affinity = format!("balance = {{ affinity = {{ {by} }}, slow_start = \"0s\" }}");
        let world = World::new(&legacy(&addresses, &affinity)).await;
        world.until_ready("legacy", sites.len()).await;
        let ask = async |world: &World, name: &'static str, value: &str| {
            let mut request = get("legacy", "/");
            request.headers_mut().insert(name, value.parse().expect("a value"));
            let answer = world.ask(request).await.expect("an answer");
            assert_eq!(answer.status, 200, "{answer:?}");
            let cookie = answer.header("set-cookie").and_then(|set| set.split(';').next()).map(str::to_owned);
            (answer.text(), cookie)
        };
        let mut sessions = Vec::new();
        for user in 0..12 {
            let (home, cookie) = ask(&world, "x-user", &format!("user-{user}")).await;
            sessions.push(match cookie {
                Some(cookie) => ("cookie", cookie, home),
                None => ("x-user", format!("user-{user}"), home),
            });
        }
        let homes: BTreeSet<_> = sessions.iter().map(|(_, _, home)| home).collect();
        assert!(homes.len() > 1, "{homes:?}");
        found("what is kept", async || {
            Some(world.kept()).filter(|kept| kept.contains("secret")).ok_or_else(String::new)
        })
        .await;
        let world = world.crash_and_start().await;
        world.until_ready("legacy", sites.len()).await;
        for (name, value, home) in &sessions {
            let (at, cookie) = ask(&world, name, value).await;
            assert_eq!((&at, cookie), (home, None), "{value}");
        }
    }
}

#[tokio::test]
async fn without_anything_to_start_anybody_may_run_it() {
    const NOBODY: u32 = 65_534;
    let site = Site::new("site").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("own folder");
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, legacy(&[site.address], "")).expect("a file");
    let mut command = tokio::process::Command::new(binary().expect("the program is built"));
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    // Whoever looked for an engine would fail here.
    command.env("DOCKER_HOST", "unix:///nowhere").env("TIDEGATE_LOG", "error");
    command.env("TIDEGATE_GATEWAY__LISTEN", "127.0.0.1:0").env("TIDEGATE_GATEWAY__METRICS", "off");
    command.arg("up").arg("--config").arg(&file).arg("--state").arg(folder.path().join("state"));
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("it runs");
    let said = child.stdout.take().expect("its output");
    let address = soon("a gateway", ready(said)).await.expect("it gets ready");
    let answer = Session::http1(address).await.ask(get("legacy", "/")).await.expect("an answer");
    assert_eq!((answer.status, &*answer.body), (200, &b"site"[..]));
}
