//! Failed attempts: which are made again, where, and how often.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use e2e::{
    client::{Wire, content_length, empty, full},
    targets::Behaviour,
    world::{Setup, World, request},
};
use tidegate_config::name::ReplicaId;

const TWO: &str = r#"
    [services.api]
    image = "api:1"
    [services.api.scaling]
    min = 2
    [services.api.health]
    interval = "1h"
"#;

const ONE: &str = r#"
    [services.api]
    image = "api:1"
"#;

/// Two replicas, one of which has gone silently.
async fn half_gone() -> (World, ReplicaId) {
    let world = World::new(TWO).await;
    let ids = world.until_ready("api", 2).await;
    world.targets.deafen(&ids[0]);
    (world, ids[0].clone())
}

#[tokio::test]
async fn a_failed_connect_is_made_again_elsewhere_for_every_method() {
    for method in ["GET", "POST", "PATCH", "DELETE"] {
        let (world, gone) = half_gone().await;
        for _ in 0..20 {
            let answer = world.ask(request(method, "api", "/", full("body"))).await.expect("an answer");
            let echo = answer.echo();
            assert_eq!((echo.body.as_str(), echo.method.as_str()), ("body", method));
            assert_ne!(echo.replica, gone.to_string());
        }
    }
}

#[tokio::test]
async fn a_replica_that_refuses_connections_is_replaced_without_a_client_noticing() {
    let (world, gone) = half_gone().await;
    let replaced = |status: &tidegate::control::status::ServiceStatus| {
        status.replicas.len() == 2
            && status.replicas.iter().all(|r| r.phase == "ready" && r.id != gone.to_string())
    };
    while !replaced(&world.status("api").await) {
        assert_eq!(world.get("api", "/").await.status, 200);
    }
}

#[tokio::test]
async fn the_only_replica_may_go_and_those_who_come_wait_for_the_next() {
    let world = World::new(ONE).await;
    let gone = world.wake("api").await.remove(0);
    world.targets.deafen(&gone);
    for method in ["GET", "POST"] {
        let echo = world.ask(request(method, "api", "/", full("body"))).await.expect("an answer").echo();
        assert_ne!(echo.replica, gone.to_string(), "{method}");
    }
    assert_eq!(world.runner.starts(), 2);
}

#[tokio::test]
async fn a_replica_that_does_not_answer_is_not_waited_for_for_ever() {
    let world = World::new(&format!("{ONE}\nupstream = {{ first_byte_timeout = \"100ms\" }}")).await;
    let late = world.get("api", "/hold").await;
    assert_eq!(late.refusal(), (504, "upstream_timeout".into()));
    assert_eq!(world.targets.paths(), ["/hold"], "it may be at work: nothing is sent twice");
    world.until_counts("api", 0, 0).await;
    assert_eq!(world.get("api", "/").await.status, 200);
}

/// A server that reads requests and does with each what `answer` says; the number is counted over all connections.
fn scripted(answer: fn(usize) -> Reply) -> (Behaviour, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let behaviour = Behaviour::raw(move |stream| {
        let count = Arc::clone(&counted);
        async move {
            let mut wire = Wire::accepted(stream);
            while let Some(head) = wire.head().await {
                wire.exactly(content_length(&head)).await;
                match answer(count.fetch_add(1, Ordering::SeqCst)) {
                    Reply::Reset => return wire.reset(),
                    Reply::Close => return,
                    Reply::Answer => wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await,
                    Reply::AnswerAndClose => {
                        return wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                    }
                    Reply::Garbage => return wire.send("SSH-2.0-x\r\n\r\n").await,
                }
            }
        }
    });
    (behaviour, count)
}

#[derive(Clone, Copy)]
enum Reply {
    Reset,
    Close,
    Answer,
    AnswerAndClose,
    Garbage,
}

/// One replica that behaves so, and the number of requests that reached it.
async fn world(answer: fn(usize) -> Reply) -> (World, Arc<AtomicUsize>) {
    let setup = Setup::new(ONE);
    let (behaviour, count) = scripted(answer);
    setup.targets.behave("api:1", behaviour);
    (setup.start().await, count)
}

#[tokio::test]
async fn a_reset_is_made_again_only_where_nothing_can_happen_twice() {
    for (reply, method, body, code, attempts) in [
        (Reply::Reset, "GET", "", 200, 2),
        (Reply::Close, "GET", "", 200, 2),
        (Reply::Reset, "HEAD", "", 200, 2),
        (Reply::Reset, "PUT", "small", 200, 2),
        (Reply::Reset, "DELETE", "", 200, 2),
        (Reply::Reset, "POST", "small", 502, 1),
        (Reply::Close, "POST", "", 502, 1),
        (Reply::Reset, "PATCH", "small", 502, 1),
        (Reply::Garbage, "POST", "", 502, 1),
    ] {
        let (world, count) = match reply {
            Reply::Reset => world(|n| if n == 0 { Reply::Reset } else { Reply::Answer }).await,
            Reply::Garbage => world(|n| if n == 0 { Reply::Garbage } else { Reply::Answer }).await,
            _ => world(|n| if n == 0 { Reply::Close } else { Reply::Answer }).await,
        };
        let body = if body.is_empty() { empty() } else { full(body) };
        let answer = world.ask(request(method, "api", "/", body)).await.expect("an answer");
        assert_eq!((answer.status, count.load(Ordering::SeqCst)), (code, attempts), "{method}");
        if code == 502 {
            assert_eq!(answer.refusal(), (502, "upstream_reset".into()), "{method}");
        }
    }
}

#[tokio::test]
async fn what_was_too_large_to_keep_is_not_sent_twice() {
    let (world, count) = world(|_| Reply::Reset).await;
    let body = full("x".repeat((64 << 10) + 1));
    let answer = world.ask(request("PUT", "api", "/", body)).await.expect("an answer");
    assert_eq!((answer.refusal().0, count.load(Ordering::SeqCst)), (502, 1));
}

#[tokio::test]
async fn a_backend_that_closes_after_each_answer_is_no_error() {
    let (world, count) = world(|_| Reply::AnswerAndClose).await;
    for _ in 0..300 {
        let answer = world.get("api", "/").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    }
    assert_eq!(count.load(Ordering::SeqCst), 300);
}

#[tokio::test]
async fn a_backend_that_never_answers_gets_no_more_than_the_budget() {
    let (world, count) = world(|_| Reply::Reset).await;
    for _ in 0..100 {
        assert_eq!(world.get("api", "/").await.refusal(), (502, "upstream_reset".into()));
    }
    let attempts = count.load(Ordering::SeqCst);
    // 20 % of the requests and 10 per second of the window: 120 retries at most, if this took less than ten seconds.
    assert!(attempts <= 100 + 20 + 100 + 100, "{attempts} attempts");
}

#[tokio::test]
async fn one_request_is_not_tried_without_end() {
    let (world, count) = world(|_| Reply::Reset).await;
    assert_eq!(world.get("api", "/").await.refusal(), (502, "upstream_reset".into()));
    let attempts = count.load(Ordering::SeqCst);
    assert!(attempts <= 10, "{attempts} attempts for one request");
}

#[tokio::test]
async fn an_address_that_now_belongs_to_another_service_is_never_reached() {
    let world = World::new("[services.a]\nimage = \"a:1\"\n[services.b]\nimage = \"b:1\"").await;
    let first = world.get("a", "/").await.echo();
    let status = world.status("a").await;
    let address = status.replicas[0].address.clone().expect("an address").parse().expect("an address");
    let id: ReplicaId = first.replica.parse().expect("a replica's name");
    // Its process ends, its connections linger, and another service gets its address.
    world.targets.deafen_half(&id);
    world.runner.exit(
        &id,
        tidegate_config::spec::Exit { code: 0, out_of_memory: false, disrupted: false, message: None },
    );
    world.until("a", |status| status.replicas.iter().all(|replica| replica.id != first.replica)).await;
    world.targets.next_at(address);
    assert_eq!(world.get("b", "/").await.echo().service, "b");
    for _ in 0..50 {
        assert_eq!(world.get("a", "/").await.echo().service, "a");
        assert_eq!(world.get("b", "/").await.echo().service, "b");
    }
}

#[tokio::test]
async fn a_kept_connection_that_the_backend_closes_meanwhile_is_no_error() {
    let setup = Setup::new(ONE);
    // Closes between 0 and 50 ms after an answer, each time a little later.
    let count = Arc::new(AtomicUsize::new(0));
    let server = Behaviour::raw(move |stream| {
        let count = Arc::clone(&count);
        async move {
            let mut wire = Wire::accepted(stream);
            let n = count.fetch_add(1, Ordering::SeqCst);
            let lifetime = std::time::Duration::from_micros(500 * (n as u64 % 100));
            let serve = async {
                while wire.head().await.is_some() {
                    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                }
            };
            // The server's own keep-alive timeout; which of the two wins is what varies.
            drop(tokio::time::timeout(lifetime, serve).await);
        }
    });
    setup.targets.behave("api:1", server);
    let world = setup.start().await;
    let mut session = world.http1().await;
    for n in 0..1000 {
        let answer = session.ask(e2e::world::get("api", "/")).await.expect("an answer");
        assert_eq!(answer.status, 200, "request {n}: {}", answer.text());
    }
}
