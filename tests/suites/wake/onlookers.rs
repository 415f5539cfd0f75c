//! Monitors, health checks and bots: they neither wake a service nor keep it awake, and learn whether it is well.

use e2e::{
    client::{Answer, Body, empty},
    eventually::found,
    world::{Setup, World, get, name, request},
};
use http::{HeaderValue, Request};
use tidegate_runner::Kind;

const MONITORED: &str = r#"
    gateway.expose_errors = true
    [services.api]
    image = "api:1"
    scaling.idle = "1s"
    [services.api.wake.ignore]
    paths = ["/healthz"]
    user_agents = ["Mine/"]
"#;

fn from(agent: &str, mut request: Request<Body>) -> Request<Body> {
    request.headers_mut().insert("user-agent", HeaderValue::from_str(agent).expect("a value"));
    request
}

async fn asked(world: &World, request: Request<Body>) -> Answer {
    world.ask(request).await.expect("a whole answer")
}

fn is_asleep(answer: &Answer) -> bool {
    answer.header("x-tidegate-state") == Some("asleep")
}

#[tokio::test]
async fn an_onlooker_is_told_that_the_service_sleeps_and_wakes_nothing() {
    let world = World::new(MONITORED).await;
    let asks = [
        get("api", "/healthz"),
        get("api", "/healthz/live?full=1"),
        from("mine/1.0", get("api", "/")),
        from("UptimeRobot/2.0", get("api", "/")),
        from("Mozilla/5.0 (compatible; AhrefsBot/7.0)", get("api", "/page")),
    ];
    for ask in asks {
        let answer = asked(&world, ask).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "asleep\n"), "{answer:?}");
        assert!(is_asleep(&answer));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    // All worlds of a process share their metrics.
    assert!(world.metric("tidegate_asleep_answers_total", &["service=\"api\""]) >= 5.0);
    let head = from("kube-probe/1.30", request("HEAD", "api", "/", empty()));
    let answer = world.http2().await.ask(head).await.expect("a whole answer");
    assert_eq!((answer.status, answer.body.len(), is_asleep(&answer)), (200, 0, true), "{answer:?}");
    assert_eq!((world.runner.starts(), world.status("api").await.state.as_str()), (0, "cold"));
    assert_eq!(world.get("api", "/").await.echo().target, "/", "others do wake it");
}

#[tokio::test]
async fn an_onlooker_is_served_while_the_service_is_awake_and_does_not_keep_it_so() {
    let world = World::new(MONITORED).await;
    assert_eq!(world.get("api", "/").await.status, 200);
    assert_eq!(world.get("api", "/healthz").await.echo().target, "/healthz");
    // Asking without pause; a service that counted it would never sleep.
    found("sleep", async || {
        let answer = world.get("api", "/healthz").await;
        if is_asleep(&answer) { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    world.until("api", |status| status.replicas.is_empty()).await;
    assert_eq!(world.runner.starts(), 1);
}

#[tokio::test]
async fn what_an_onlooker_has_in_flight_is_finished_and_does_not_count() {
    let text = MONITORED.replace("/healthz", "/hold");
    let world = World::new(&text).await;
    // By hand: nobody is taken for the caller that came just before.
    world.wake("api").await;
    let mut wire = world.wire().await;
    wire.send("GET /hold HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
    world.until("api", |status| status.replicas.iter().any(|replica| replica.phase == "draining")).await;
    world.targets.release();
    assert_eq!(wire.answer().await.expect("a whole answer").1.as_ref(), b"held");
    world.until("api", |status| status.replicas.is_empty()).await;
}

#[tokio::test]
async fn an_onlooker_is_told_when_the_last_start_failed() {
    let setup = Setup::new(MONITORED);
    setup.runner.fail_starts(2, Kind::Retryable, "no such file");
    let world = setup.start().await;
    assert_eq!(world.get("api", "/").await.refusal().1, "start_failed");
    let sick = found("a sick service", async || {
        let answer = world.get("api", "/healthz").await;
        if answer.status == 503 { Ok(answer) } else { Err(format!("{answer:?}")) }
    })
    .await;
    assert_eq!(sick.refusal().1, "start_failed");
    assert!(sick.text().contains("no such file"), "{}", sick.text());
    // Once it has been well, sleeping is no illness.
    world.control().restart(name("api")).await.expect("a control loop").expect("it is forgiven");
    world.wake("api").await;
    world.control().sleep(name("api")).await.expect("a control loop").expect("it sleeps");
    let asleep = world.get("api", "/healthz").await;
    assert!(is_asleep(&asleep), "{asleep:?}");
}

#[tokio::test]
async fn the_built_in_names_can_be_switched_off() {
    let world = World::new("services.api = { image = 'api:1', wake.ignore.monitors = false }").await;
    let answer = asked(&world, from("UptimeRobot/2.0", get("api", "/"))).await;
    assert_eq!((answer.echo().service.as_str(), world.runner.starts()), ("api", 1));
}

#[tokio::test]
async fn networks_are_those_of_the_client_also_behind_a_trusted_proxy() {
    let world = World::new(
        r#"
        gateway.trusted_proxies = ["127.0.0.1"]
        [services.api]
        image = "api:1"
        wake.ignore.networks = ["10.9.0.0/16"]
        "#,
    )
    .await;
    let through = |chain: &str| {
        let mut request = get("api", "/");
        let chain = HeaderValue::from_str(chain).expect("a value");
        request.headers_mut().insert("x-forwarded-for", chain);
        request
    };
    assert!(is_asleep(&asked(&world, through("10.9.1.2")).await));
    // What the client itself says of hops before it is nobody's word.
    assert_eq!(asked(&world, through("10.9.1.2, 192.0.2.1")).await.echo().service, "api");
}
