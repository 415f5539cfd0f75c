//! Replicas that speak HTTP/2: their limits, their refusals, their farewells.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use e2e::{
    client::{Answer, Wire, empty, full, streamed},
    eventually::{found, soon},
    h2c::{self, Frame},
    targets::Behaviour,
    world::{Setup, World, get, request},
};
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use h2::{Reason, server::Builder};
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Frame as Piece;
use tokio::sync::{Notify, watch};

const API: &str = r#"
    [services.api]
    image = "api:1"
    protocol = "h2c"
"#;

async fn with(behaviour: Behaviour) -> World {
    let setup = Setup::new(API);
    setup.targets.behave("api:1", behaviour);
    setup.start().await
}

fn count() -> (Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    (Arc::clone(&count), count)
}

fn ok() -> Response<()> {
    Response::new(())
}

#[tokio::test]
async fn streams_beyond_a_replicas_limit_go_over_further_connections() {
    let (running, counted) = count();
    let (release, released) = watch::channel(false);
    let mut builder = Builder::new();
    builder.max_concurrent_streams(2);
    let world = with(h2c::streams(builder, move |_, mut respond| {
        let (counted, mut released) = (Arc::clone(&counted), released.clone());
        async move {
            counted.fetch_add(1, Ordering::SeqCst);
            // Both end with the test.
            drop(released.wait_for(|released| *released).await);
            drop(respond.send_response(ok(), true));
        }
    }))
    .await;
    let session = world.http2().await;
    let mut shares: Vec<_> = (0..7).map(|_| session.share()).collect();
    let asking = join_all(shares.iter_mut().map(|share| share.ask(get("api", "/"))));
    let all_run = found("seven streams at the replica", async || match running.load(Ordering::SeqCst) {
        7 => Ok(release.send_replace(true)),
        fewer => Err(fewer.to_string()),
    });
    let (answers, _) = tokio::join!(asking, all_run);
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.status == 200)));
}

#[tokio::test]
async fn what_a_replica_refuses_is_sent_again_whatever_its_method() {
    let (seen, counted) = count();
    let world = with(h2c::streams(Builder::new(), move |request, mut respond| {
        let counted = Arc::clone(&counted);
        async move {
            let mut body = request.into_body();
            if counted.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                // Part of it has come by now; of a long one, more than is kept.
                let mut taken = 0;
                while let Some(Ok(data)) = body.data().await {
                    drop(body.flow_control().release_capacity(data.len()));
                    taken += data.len();
                    if data.len() < 1000 || taken > 100_000 {
                        break;
                    }
                }
                respond.send_reset(Reason::REFUSED_STREAM);
                return;
            }
            let Some(all) = h2c::read(&mut body).await else { return };
            if let Ok(mut send) = respond.send_response(ok(), false) {
                drop(send.send_data(all, true));
            }
        }
    }))
    .await;
    let mut session = world.http2().await;
    for method in ["POST", "PATCH"] {
        let answer = session.ask(request(method, "api", "/", full("whole"))).await.expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "whole"), "{method}");
    }
    let (frames, body) = streamed();
    frames.send(Piece::data("one ".into())).await.expect("a body that is read");
    let asking = session.ask(request("POST", "api", "/", body));
    let feeding = async {
        found("the second attempt", async || match seen.load(Ordering::SeqCst) {
            6 => Ok(()),
            other => Err(other.to_string()),
        })
        .await;
        frames.send(Piece::data("two".into())).await.expect("a body that is read");
        drop(frames);
    };
    let (answer, ()) = tokio::join!(asking, feeding);
    assert_eq!(answer.expect("an answer").text(), "one two", "what was taken, and the rest");
    let long = full(vec![b'x'; 200_000]);
    let answer = session.ask(request("POST", "api", "/", long)).await.expect("an answer");
    assert_eq!(answer.refusal(), (502, "upstream_reset".into()), "too long to be kept");
}

#[tokio::test]
async fn what_lies_beyond_a_goaway_is_sent_again_on_a_new_connection() {
    let (seen, counted) = count();
    let world = with(Behaviour::raw(move |stream| {
        let counted = Arc::clone(&counted);
        async move {
            let mut wire = Wire::accepted(stream);
            h2c::greet(&mut wire).await;
            while let Some(frame) = Frame::read(&mut wire).await {
                if frame.kind == h2c::HEADERS && counted.fetch_add(1, Ordering::SeqCst) == 0 {
                    // The last stream that is processed, and that there was no error.
                    Frame::new(h2c::GOAWAY, 0, vec![0; 8]).send(&mut wire).await;
                } else if frame.kind == h2c::HEADERS {
                    // `:status: 200` of HPACK's table.
                    let answer = Frame { flags: 5, ..Frame::new(h2c::HEADERS, frame.stream, vec![0x88]) };
                    answer.send(&mut wire).await;
                }
            }
        }
    }))
    .await;
    let mut session = world.http2().await;
    let answer = session.ask(request("POST", "api", "/", full("once"))).await.expect("an answer");
    assert_eq!((answer.status, seen.load(Ordering::SeqCst)), (200, 2));
}

#[tokio::test]
async fn a_client_that_resets_its_stream_resets_the_replicas() {
    let (told, mut tells) = watch::channel(None);
    let is_there = Arc::new(Notify::new());
    let noted = Arc::clone(&is_there);
    let world = with(h2c::streams(Builder::new(), move |request, mut respond| {
        let (told, noted) = (told.clone(), Arc::clone(&noted));
        async move {
            if request.uri().path() == "/silent" {
                noted.notify_one();
                let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                told.send_replace(reason.ok());
            } else if let Ok(mut send) = respond.send_response(ok(), false) {
                drop(send.send_data(Bytes::from_static(b"begun"), false));
                let reason = std::future::poll_fn(|cx| send.poll_reset(cx)).await;
                told.send_replace(reason.ok());
            }
        }
    }))
    .await;
    let mut session = world.http2().await;
    {
        let asking = session.send(get("api", "/silent"));
        // What runs may not have reached the replica yet.
        tokio::select! {
            answer = asking => panic!("nobody answers: {answer:?}"),
            () = soon("a request", is_there.notified()) => {}
        }
    }
    let reset = |reason: &Option<Reason>| *reason == Some(Reason::CANCEL);
    soon("a reset", tells.wait_for(reset)).await.expect("a replica");
    world.until_counts("api", 0, 0).await;
    tells.mark_unchanged();
    let mut answer = session.send(get("api", "/begun")).await.expect("an answer");
    soon("a frame", answer.body_mut().frame()).await.expect("a frame").expect("data");
    drop(answer);
    soon("another reset", tells.changed()).await.expect("a replica");
    assert!(reset(&tells.borrow()));
    world.until_counts("api", 0, 0).await;
}

#[tokio::test]
async fn a_replica_that_resets_a_stream_is_a_refusal_before_its_answer_and_a_reset_after() {
    let half_is_there = Arc::new(Notify::new());
    let noted = Arc::clone(&half_is_there);
    let world = with(h2c::streams(Builder::new(), move |request, mut respond| {
        let read = Arc::clone(&noted);
        async move {
            if request.uri().path() == "/at-once" {
                respond.send_reset(Reason::INTERNAL_ERROR);
            } else if let Ok(mut send) = respond.send_response(ok(), false) {
                drop(send.send_data(Bytes::from_static(b"half"), false));
                // What was sent must not be overtaken.
                read.notified().await;
                send.send_reset(Reason::ENHANCE_YOUR_CALM);
            }
        }
    }))
    .await;
    let mut session = world.http2().await;
    let answer = session.ask(request("POST", "api", "/at-once", empty())).await.expect("an answer");
    assert_eq!(answer.refusal(), (502, "upstream_reset".into()));
    let mut answer = session.send(request("POST", "api", "/half", empty())).await.expect("an answer");
    let half = soon("half an answer", answer.body_mut().frame()).await.expect("a frame").expect("data");
    assert_eq!(half.into_data().ok(), Some(Bytes::from_static(b"half")));
    half_is_there.notify_one();
    let broken = soon("the end", Answer::of(answer)).await.expect_err("half an answer");
    let cause = std::error::Error::source(&broken).and_then(|cause| cause.downcast_ref::<h2::Error>());
    assert!(cause.is_some_and(h2::Error::is_reset), "{broken:?}");
    world.until_counts("api", 0, 0).await;
    // The connection is as good as before.
    let answer = session.ask(request("POST", "api", "/at-once", empty())).await.expect("an answer");
    assert_eq!(answer.status, 502);
}

#[tokio::test]
async fn a_slow_reader_keeps_neither_much_memory_nor_the_others() {
    const FAR_TOO_MUCH: usize = 8 << 20;
    let (sent, counted) = count();
    let world = with(h2c::streams(Builder::new(), move |request, mut respond| {
        let counted = Arc::clone(&counted);
        async move {
            let flood = request.uri().path() == "/flood";
            let Ok(mut send) = respond.send_response(ok(), !flood) else { return };
            while flood && counted.load(Ordering::SeqCst) < FAR_TOO_MUCH {
                send.reserve_capacity(16 << 10);
                let Some(Ok(room)) = std::future::poll_fn(|cx| send.poll_capacity(cx)).await else { return };
                if send.send_data(Bytes::from(vec![0; room]), false).is_err() {
                    return;
                }
                counted.fetch_add(room, Ordering::SeqCst);
            }
        }
    }))
    .await;
    let session = world.http2().await;
    let mut floods: Vec<_> = (0..4).map(|_| session.share()).collect();
    let unread: Vec<_> = floods
        .iter_mut()
        .map(|share| share.send(get("api", "/flood")))
        .collect::<FuturesUnordered<_>>()
        .collect()
        .await;
    let mut other = world.http2().await;
    let mut before = usize::MAX;
    found("the end of what is sent ahead", async || {
        // Others are served by the same connection to the replica meanwhile.
        let answer = other.ask(get("api", "/small")).await.map_err(|error| error.to_string())?;
        assert_eq!(answer.status, 200);
        let now = sent.load(Ordering::SeqCst);
        let still = now > 0 && now == std::mem::replace(&mut before, now);
        if still { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
    assert!(before < FAR_TOO_MUCH, "{before} bytes were sent to four who do not read");
    drop(unread);
}
