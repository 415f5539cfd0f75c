//! What replicas say over HTTP/1.1: what is taken for a response, what is not, and which connections are used again.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use e2e::{
    client::{Answer, Wire, content_length, empty, full, status, streamed},
    eventually::soon,
    targets::Behaviour,
    world::{Setup, World, get, request},
};
use hyper::body::Frame;
use tokio::sync::Notify;

const API: &str = r#"services.api.image = "api:1""#;

/// A replica that says the same to every request, byte for byte, and the number of connections that it got.
async fn says(answer: &'static str, close: bool) -> (World, Arc<AtomicUsize>) {
    let setup = Setup::new(API);
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let replica = Behaviour::raw(move |stream| {
        let connections = Arc::clone(&counted);
        async move {
            let mut wire = Wire::accepted(stream);
            let mut first = true;
            while let Some(head) = wire.head().await {
                wire.exactly(content_length(&head)).await;
                // Only connections that carry a request count: the prober's do not.
                connections.fetch_add(usize::from(std::mem::take(&mut first)), Ordering::SeqCst);
                wire.send(answer).await;
                if close {
                    return;
                }
            }
        }
    });
    setup.targets.behave("api:1", replica);
    (setup.start().await, connections)
}

#[tokio::test]
async fn what_is_no_response_is_not_passed_on_as_one() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 40\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2, 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
        "HTTP/1.1 200 OK\r\nx: y\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx: y\r\n folded\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx : y\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "SSH-2.0-x\r\n\r\n",
    ] {
        let (world, _) = says(answer, false).await;
        let got = world.ask(request("POST", "api", "/", full("x"))).await.expect("an answer");
        assert_eq!(got.refusal(), (502, "upstream_reset".into()), "{answer:?}");
        world.until_counts("api", 0, 0).await;
    }
}

#[tokio::test]
async fn a_body_that_is_framed_wrongly_is_not_passed_on_as_whole() {
    for answer in [
        "2\r\nok\r\nx\r\n",
        "2\r\nokay\r\n0\r\n\r\n",
        "2\nok\r\n0\r\n\r\n",
        "2\r\nok\r\n0\r\nx: 1\ny: 2\r\n\r\n",
        "2\r\nok\r\nffffffffffffffffff\r\n",
    ] {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer: &'static str = String::leak(format!("{head}{answer}"));
        let (world, _) = says(answer, false).await;
        for mut session in [world.http1().await, world.http2().await] {
            // Where the head and the mistake come together there may be no answer at all.
            if let Ok(begun) = session.send(request("POST", "api", "/", empty())).await {
                let whole = soon("an end", Answer::of(begun)).await;
                assert!(whole.is_err(), "{answer:?}: {whole:?}");
            }
        }
        world.until_counts("api", 0, 0).await;
    }
}

#[tokio::test]
async fn a_connection_is_used_again_only_where_its_exchange_ended_clearly() {
    for (method, answer, close, connections) in [
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false, 1),
        ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false, 1),
        (
            "GET",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: 1\r\n\r\n",
            false,
            1,
        ),
        ("POST", "HTTP/1.1 204 No Content\r\n\r\n", false, 1),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", false, 1),
        ("GET", "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", false, 1),
        ("GET", "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", false, 4),
        ("GET", "HTTP/1.1 200 OK\r\nconnection: x, close\r\ncontent-length: 2\r\n\r\nok", false, 4),
        ("GET", "HTTP/1.1 200 OK\r\n\r\nok", true, 4),
        // What stands behind the end belongs to nobody, least of all to the next request.
        (
            "GET",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
            false,
            4,
        ),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false, 4),
        ("POST", "HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nok", false, 4),
    ] {
        let (world, count) = says(answer, close).await;
        let mut session = world.http1().await;
        for _ in 0..4 {
            let got = session.ask(request(method, "api", "/", empty())).await.expect("an answer");
            let want = if method == "GET" { "ok" } else { "" };
            assert_eq!((got.status / 100, got.text().as_str()), (2, want), "{answer:?}");
            world.until_counts("api", 0, 0).await;
        }
        assert_eq!(count.load(Ordering::SeqCst), connections, "{method} {answer:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_sent_once_never_meets_a_closed_connection() {
    let setup = Setup::new(API);
    let (close, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (when, done) = (Arc::clone(&close), Arc::clone(&closed));
    let replica = Behaviour::raw(move |stream| {
        let (close, closed) = (Arc::clone(&when), Arc::clone(&done));
        async move {
            let mut wire = Wire::accepted(stream);
            if wire.head().await.is_some() {
                wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                close.notified().await;
                drop(wire);
                closed.notify_one();
            }
        }
    });
    setup.targets.behave("api:1", replica);
    let world = setup.start().await;
    for n in 0..20 {
        let got = world.ask(request("POST", "api", "/", empty())).await.expect("an answer");
        assert_eq!(got.status, 200, "request {n}");
        world.until_counts("api", 0, 0).await;
        close.notify_one();
        closed.notified().await;
    }
}

#[tokio::test]
async fn interim_responses_are_no_answer() {
    let early = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    for (interim, code) in [(0, 200), (3, 200), (101, 502)] {
        let (world, _) = says(String::leak(early.repeat(interim) + last), false).await;
        let got = world.ask(request("POST", "api", "/", empty())).await.expect("an answer");
        assert_eq!((got.status, got.header("link")), (code, None), "{interim} interim responses");
    }
}

#[tokio::test]
async fn early_hints_reach_those_who_know_of_them() {
    let said = "HTTP/1.1 100 Continue\r\n\r\n\
                HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nconnection: x-a\r\nx-a: 1\r\ncontent-length: 9\r\n\r\n\
                HTTP/1.1 103 Early Hints\r\nlink: </b.css>\r\n\r\n\
                HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let (world, _) = says(said, false).await;
    for (version, hints) in [("1.1", 2), ("1.0", 0)] {
        let mut wire = world.wire().await;
        wire.send(format!("GET / HTTP/{version}\r\nhost: api.localhost\r\n\r\n")).await;
        for hint in ["link: </a.css>", "link: </b.css>"].into_iter().take(hints) {
            let head = wire.head().await.expect("an interim answer");
            assert_eq!((status(&head), head.lines().nth(1)), (103, Some(hint)), "{head}");
            assert_eq!(head.lines().count(), 3, "{head}");
        }
        let (head, body) = wire.answer().await.expect("an answer");
        assert_eq!((status(&head), &body[..]), (200, &b"ok"[..]), "{head}");
    }
}

/// One replica that runs `talk` on the first connection that carries a request, behind its head.
async fn talks<F: Future<Output = ()> + Send + 'static>(
    talk: impl Fn(Wire) -> F + Send + Sync + 'static,
) -> World {
    let setup = Setup::new(API);
    let talk = Arc::new(talk);
    let replica = Behaviour::raw(move |stream| {
        let talk = Arc::clone(&talk);
        async move {
            let mut wire = Wire::accepted(stream);
            if wire.head().await.is_some() {
                talk(wire).await;
            }
        }
    });
    setup.targets.behave("api:1", replica);
    setup.start().await
}

const EXPECTING: &str =
    "POST / HTTP/1.1\r\nhost: api.localhost\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";

#[tokio::test]
async fn a_client_is_asked_for_its_body_when_the_replica_asks() {
    let ask = Arc::new(Notify::new());
    let asked = Arc::clone(&ask);
    let world = talks(move |mut wire| {
        let ask = Arc::clone(&asked);
        async move {
            ask.notified().await;
            wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            let body = wire.exactly(5).await;
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await;
            wire.send(body).await;
        }
    })
    .await;
    let mut client = world.wire().await;
    client.send(EXPECTING).await;
    world.until_counts("api", 0, 1).await;
    assert_eq!(client.head_now(), None, "not before the replica wants it");
    ask.notify_one();
    assert_eq!(status(&client.head().await.expect("an interim answer")), 100);
    client.send("hello").await;
    assert_eq!(client.answer().await.expect("an answer").1, "hello");
}

#[tokio::test]
async fn a_body_that_the_replica_declines_is_not_asked_for() {
    let world = talks(|mut wire| async move {
        wire.send("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(wire.rest().await, "", "nothing of the body came");
    })
    .await;
    let mut client = world.wire().await;
    client.send(EXPECTING).await;
    assert_eq!(status(&client.head().await.expect("an answer")), 417);
    world.until_counts("api", 0, 0).await;
}

#[tokio::test]
async fn a_replica_that_does_not_know_the_question_gets_the_body_all_the_same() {
    let world = talks(|mut wire| async move {
        let body = wire.exactly(5).await;
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await;
        wire.send(body).await;
    })
    .await;
    let mut client = world.wire().await;
    client.send(EXPECTING).await;
    assert_eq!(status(&client.head().await.expect("an interim answer")), 100);
    client.send("hello").await;
    assert_eq!(client.answer().await.expect("an answer").1, "hello");
}

#[tokio::test]
async fn an_upload_goes_on_behind_its_answer() {
    let arrived = Arc::new(Notify::new());
    let done = Arc::clone(&arrived);
    let world = talks(move |mut wire| {
        let arrived = Arc::clone(&done);
        async move {
            wire.send("HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nok").await;
            // Chunks as the gateway cut them; all of them up to the last.
            let mut body = String::new();
            while !body.ends_with("\r\n0\r\n\r\n") {
                let more = wire.exactly(1).await;
                assert!(!more.is_empty(), "the upload broke off behind {} bytes", body.len());
                body.push_str(&String::from_utf8_lossy(&more));
            }
            assert_eq!(body.matches('x').count(), 100_000);
            arrived.notify_one();
        }
    })
    .await;
    let (frames, body) = streamed();
    let mut session = world.http2().await;
    let answer = session.send(request("POST", "api", "/", body)).await.expect("an answer");
    assert_eq!(answer.status(), 202);
    for _ in 0..10 {
        frames.send(Frame::data("x".repeat(10_000).into())).await.expect("a body that is read");
    }
    drop(frames);
    soon("the rest of the upload", arrived.notified()).await;
    assert_eq!(soon("the whole answer", Answer::of(answer)).await.expect("an unbroken body").text(), "ok");
    world.until_counts("api", 0, 0).await;
}

#[tokio::test]
async fn trailers_go_both_ways() {
    let world = talks(|mut wire| async move {
        let body = wire.exactly("5\r\nhello\r\n0\r\nx-up: 1\r\n\r\n".len()).await;
        assert_eq!(body, "5\r\nhello\r\n0\r\nx-up: 1\r\n\r\n");
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-down\r\n\r\n").await;
        wire.send("2\r\nok\r\n0\r\nx-down: 2\r\ncontent-length: 9\r\n\r\n").await;
        wire.rest().await;
    })
    .await;
    let (frames, body) = streamed();
    let mut session = world.http2().await;
    frames.send(Frame::data("hello".into())).await.expect("a body that is read");
    let trailers = [("x-up".parse().expect("a name"), "1".parse().expect("a value"))].into_iter().collect();
    frames.send(Frame::trailers(trailers)).await.expect("a body that is read");
    drop(frames);
    let got = session.ask(request("POST", "api", "/", body)).await.expect("an answer");
    let trailers = got.trailers.expect("trailers");
    assert_eq!((got.body, trailers.get("x-down").is_some(), trailers.len()), ("ok".into(), true, 1));
}

#[tokio::test]
async fn a_replica_that_takes_no_more_may_still_answer() {
    let world = talks(|mut wire| async move {
        wire.exactly(10).await;
        wire.send("HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno").await;
        wire.finish().await;
        wire.rest().await;
    })
    .await;
    let got = world.ask(request("POST", "api", "/", full("x".repeat(8 << 20)))).await.expect("an answer");
    assert_eq!((got.status, got.text().as_str()), (413, "no"));
    world.until_counts("api", 0, 0).await;
}

#[tokio::test]
async fn unusual_words_behind_a_status_are_passed_on() {
    let (world, _) = says("HTTP/1.1 200 Quite Fine\r\ncontent-length: 0\r\n\r\n", false).await;
    let mut wire = world.wire().await;
    wire.send("GET / HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
    let head = wire.head().await.expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200 Quite Fine\r\n"), "{head}");
    assert_eq!(world.ask(get("api", "/")).await.expect("an answer").status, 200);
}

#[tokio::test]
async fn a_replica_that_closes_behind_its_answer_takes_no_more() {
    let world = talks(|mut wire| async move {
        wire.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await;
        wire.finish().await;
        assert!(!wire.rest().await.ends_with(b"\r\n0\r\n\r\n"), "the upload was cut off");
    })
    .await;
    let (frames, body) = streamed();
    frames.send(Frame::data("begun".into())).await.expect("a body that is read");
    let mut session = world.http2().await;
    assert_eq!(session.ask(request("POST", "api", "/", body)).await.expect("an answer").status, 403);
    // The client would go on for ever.
    world.until_counts("api", 0, 0).await;
    drop(frames);
}
