//! Engines that are, or could be, on another machine: over mutual TLS, through published ports, hung, away and back.
//! The engine is this machine's, behind a proxy of the test's that can be cut; fails without one; never skips.

mod engine;
mod proxy;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bollard::{models::ContainerCreateBody, query_parameters::CreateContainerOptions};
use engine::{IMAGE, World, shell};
use proxy::{Line, Proxy};
use tidegate_config::{
    model::{Host, Reach, Tls},
    spec::{Launch, ObservedState, Protocol, Pull},
};
use tidegate_runner::{
    Event, Kind, Reached, Runner, contract,
    docker::{Docker, Options},
    probe,
};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Answers every connection to port 8080 with a line of HTTP.
fn web() -> Launch {
    let answer = "printf 'HTTP/1.1 204 No Content\\r\\nconnection: close\\r\\n\\r\\n'";
    shell(&format!(
        "printf '#!/bin/busybox sh\\n{}\\n' > /tmp/answer; /bin/busybox chmod +x /tmp/answer; \
         exec /bin/busybox nc -ll -p 8080 -e /tmp/answer",
        answer.replace('\\', "\\\\").replace('\'', "'\\''")
    ))
}

fn published(host: &Host) -> Host {
    Host { reach: Reach::Published, address: Some(LOOPBACK), ..host.clone() }
}

async fn connect(world: &World, host: &Host) -> Arc<Docker> {
    let options = Options::of(host, world.instance.clone(), None);
    Arc::new(Docker::connect(options).await.expect("nothing is wrong with the options"))
}

#[tokio::test]
async fn the_contract_holds_over_tls_and_published_ports() {
    let world = World::new().await;
    let proxy = Proxy::tls().await;
    let host = published(&proxy.host());
    let runner = connect(&world, &host).await;
    assert_eq!(runner.reach(), Reached::Published);
    let again = Options::of(&host, world.instance.clone(), None);
    let (api, instance) = (world.api.clone(), world.instance.clone());
    let check = contract::World {
        launch: shell("exec /bin/busybox sleep 3600"),
        target: world.target(),
        again: Box::new(move || {
            let again = again.clone();
            Box::pin(async move {
                let again: Arc<dyn Runner> = Arc::new(Docker::connect(again).await.expect("docker"));
                again
            })
        }),
        kill: Box::new(move |id| {
            let (api, name) = (api.clone(), format!("tg-{}-{id}", instance.short()));
            Box::pin(async move { api.kill_container(&name, None).await.expect("it is killed") })
        }),
    };
    contract::check(runner, check).await;
    world.close().await;
}

#[tokio::test]
async fn strangers_do_not_get_in_over_tls() {
    let world = World::new().await;
    let (ours, theirs) = (Proxy::tls().await, Proxy::tls().await);
    let tls = |proxy: &Proxy| proxy.host().tls.expect("it has files");
    for (tls, words) in [
        (Tls { ca: tls(&theirs).ca, ..tls(&ours) }, "invalid peer certificate"),
        (Tls { ca: tls(&ours).ca, ..tls(&theirs) }, "alert"),
    ] {
        let host = Host { tls: Some(tls), ..ours.host() };
        let error = connect(&world, &host).await.answers().await.expect_err("a stranger");
        assert_eq!(error.kind, Kind::Retryable);
        assert!(error.message.contains(words), "{error}");
    }
    connect(&world, &ours.host()).await.answers().await.expect("one of us");
    world.close().await;
}

#[tokio::test]
async fn a_published_replica_is_reached_on_the_hosts_address_alone() {
    let world = World::new().await;
    let address = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let host = Host { reach: Reach::Published, address: Some(address), ..Host::local() };
    let runner = connect(&world, &host).await;
    let spec = world.spec(1, web()).await;
    runner.start(&spec).await.expect("it starts");
    let seen = runner.list().await.expect("it lists").remove(0);
    let at = seen.address.expect("it runs");
    assert!(at.ip() == address && at.port() != spec.port, "{at}");
    let check = probe::Check::AnyAnswer { protocol: Protocol::Http1 };
    let target = probe::Target { address: at, check };
    let long = Duration::from_secs(60);
    probe::until_ready(&target, 1, Duration::from_secs(5), long).await.expect("it answers");
    std::net::TcpStream::connect(SocketAddr::new(LOOPBACK, at.port())).expect_err("on one address alone");

    // Whoever reaches its containers at their own addresses finds this one there, too, and the other way round.
    let direct = connect(&world, &Host { reach: Reach::Address, ..Host::local() }).await;
    let own = direct.list().await.expect("it lists").remove(0).address.expect("it runs");
    assert_eq!(own.port(), spec.port);
    let second = world.spec(2, web()).await;
    direct.start(&second).await.expect("it starts");
    let listed = runner.list().await.expect("it lists");
    let of = |id| listed.iter().find(|o| o.id == id).and_then(|o| o.address);
    assert_eq!(of(spec.id.clone()), Some(at));
    assert_eq!(of(second.id.clone()).map(|a| a.port()), Some(second.port), "it has no published port");

    // The engine may choose another port when it starts again.
    runner.stop(&spec.id, Duration::ZERO, true).await.expect("it stops");
    let mut events = runner.events();
    runner.restart(&spec.id).await.expect("it starts again");
    let told = world.running(&mut events, &spec.id).await.address.expect("it runs");
    assert_eq!(told.ip(), address);
    probe::until_ready(&probe::Target { address: told, ..target }, 1, Duration::from_secs(5), long)
        .await
        .expect("it answers where it was said to");
    world.close().await;
}

#[tokio::test]
async fn a_local_engine_is_found_to_be_one() {
    let world = World::new().await;
    let runner = connect(&world, &Host::local()).await;
    runner.prepare(IMAGE, Pull::Never, Arc::new(|_| ())).await.expect("it is there");
    let bridge = runner.inventory().await.expect("it answers").bridge.expect("the engine is on this machine");
    // What is really ours can be listened on.
    std::net::TcpListener::bind(SocketAddr::new(bridge, 0)).expect("it is an address of this machine");
    assert_eq!(runner.reach(), Reached::Address);

    let proxy = Proxy::tls().await;
    let remote = connect(&world, &published(&proxy.host())).await;
    remote.prepare(IMAGE, Pull::Never, Arc::new(|_| ())).await.expect("it is there");
    assert_eq!(remote.reach(), Reached::Published);
    world.close().await;
}

#[tokio::test]
async fn names_are_asked_of_the_gateway_first() {
    let world = World::new().await;
    let spec = world.spec(1, shell("exec /bin/busybox sleep 3600")).await;
    world.runner.resolve_at(Some([10, 64, 0, 1].into()));
    world.runner.start(&spec).await.expect("it starts");
    let made = world.api.inspect_container(&world.name_of(&spec.id), None).await.expect("it is there");
    let dns = made.host_config.and_then(|h| h.dns).expect("it is set");
    assert_eq!(dns.first().map(String::as_str), Some("10.64.0.1"));
    let resolv = world.exec(&spec.id, &["cat", "/etc/resolv.conf"]).await;
    let searches = resolv.lines().filter_map(|line| line.strip_prefix("search")).map(str::trim);
    assert!(searches.into_iter().all(|line| line.is_empty() || line == "."), "{resolv}");

    let second = world.spec(2, shell("exec /bin/busybox sleep 3600")).await;
    world.runner.resolve_at(None);
    world.runner.start(&second).await.expect("it starts");
    let made = world.api.inspect_container(&world.name_of(&second.id), None).await.expect("it is there");
    assert_eq!(made.host_config.and_then(|h| h.dns).unwrap_or_default(), Vec::<String>::new());
    world.close().await;
}

#[tokio::test]
async fn what_was_made_and_never_started_is_listed_as_that() {
    let world = World::new().await;
    let spec = world.spec(1, shell("exec /bin/busybox sleep 3600")).await;
    world.runner.start(&spec).await.expect("it starts");
    let labels = world.labels_of(&spec.id).await;
    world.runner.remove(&spec.id).await.expect("it goes");
    // As a gateway leaves it that is killed between the two calls of a start.
    let options =
        CreateContainerOptions { name: Some(world.name_of(&spec.id)), ..CreateContainerOptions::default() };
    let body = ContainerCreateBody {
        image: Some(IMAGE.into()),
        labels: Some(labels),
        ..ContainerCreateBody::default()
    };
    world.api.create_container(Some(options), body).await.expect("it is made");
    let listed = world.runner.list().await.expect("it lists");
    assert_eq!(
        listed.iter().map(|o| (&o.id, &o.state)).collect::<Vec<_>>(),
        [(&spec.id, &ObservedState::Created)]
    );
    world.runner.remove(&spec.id).await.expect("it goes");
    assert_eq!(world.runner.list().await.expect("it lists"), []);
    world.close().await;
}

#[tokio::test]
async fn content_is_there_or_not() {
    let world = World::new().await;
    let prepare = async |image: &str, pull| world.runner.prepare(image, pull, Arc::new(|_| ())).await;
    let known = prepare(IMAGE, Pull::Never).await.expect("it is there").digest;
    assert_eq!(prepare(&known.0, Pull::Never).await.expect("it is there").digest, known);
    let absent = format!("sha256:{}", "0".repeat(64));
    for pull in [Pull::Never, Pull::Missing, Pull::Always] {
        let error = prepare(&absent, pull).await.expect_err("it is not there");
        assert_eq!(error.kind, Kind::Permanent, "{error}");
        assert_eq!(prepare(&known.0, pull).await.expect("it is there").digest, known);
    }
    world.close().await;
}

#[tokio::test]
async fn an_engine_that_was_away_is_found_again() {
    let world = World::new().await;
    for (cut, host) in [(Line::Refused, Host::local()), (Line::Silent, Host::local())] {
        let proxy = Proxy::tls().await;
        let host = Host { reach: Reach::Address, ..Host { name: host.name, ..proxy.host() } };
        let runner = connect(&world, &host).await;
        runner.ping().await.expect("it answers");
        let mut events = runner.events();
        proxy.set(cut);
        assert_eq!(runner.ping().await.expect_err("it is away").kind, Kind::Silent, "{cut:?}");
        // What happens meanwhile, a list must tell: nobody hears of it.
        let spec = world.spec(1, shell("exec /bin/busybox sleep 3600")).await;
        world.runner.start(&spec).await.expect("it starts");
        proxy.waited_for().await;
        proxy.set(Line::Open);
        world.told(&mut events, &Event::Resync).await;
        runner.ping().await.expect("it answers at once, on a connection that is not stale");
        let listed = runner.list().await.expect("it lists");
        assert_eq!(listed.iter().map(|o| &o.id).collect::<Vec<_>>(), [&spec.id], "{cut:?}");
        // And it is followed again.
        world.runner.remove(&spec.id).await.expect("it goes");
        world.told(&mut events, &Event::Gone(spec.id)).await;
    }
    world.close().await;
}

#[tokio::test]
async fn a_host_that_is_down_at_the_start_is_found_later() {
    let world = World::new().await;
    let proxy = Proxy::tls().await;
    proxy.set(Line::Refused);
    let runner = connect(&world, &Host { reach: Reach::Address, ..proxy.host() }).await;
    let mut events = runner.events();
    assert_eq!(runner.ping().await.expect_err("it is down").kind, Kind::Silent);
    assert_eq!(runner.list().await.expect_err("it is down").kind, Kind::Silent);
    proxy.set(Line::Open);
    world.told(&mut events, &Event::Resync).await;
    assert_eq!(runner.list().await.expect("it lists"), []);
    world.close().await;
}

#[tokio::test]
async fn the_question_whether_it_answers_waits_for_nobody() {
    let world = World::new().await;
    let proxy = Proxy::tls().await;
    let runner = connect(&world, &Host { reach: Reach::Address, ..proxy.host() }).await;
    runner.ping().await.expect("it answers");
    proxy.set(Line::Silent);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let runner = runner.clone();
        calls.spawn(async move { runner.list().await.map(drop) });
    }
    proxy.waited_for().await;
    let ping = runner.ping().await.expect_err("it hangs");
    assert!(ping.message.contains("`ping`"), "its own deadline, not the others': {ping}");
    assert!(proxy.connections() < 100, "calls of a hung engine are bounded: {}", proxy.connections());
    while let Some(ended) = calls.join_next().await {
        assert_eq!(ended.expect("joined").expect_err("it hangs").kind, Kind::Silent);
    }
    proxy.set(Line::Open);
    world.close().await;
}
