//! Calls of gRPC through the gateway: each kind, refusals, deadlines, accounts, health.

use bytes::Bytes;
use e2e::{
    client::{Answer, Body, empty, full, streamed},
    eventually::soon,
    h2c,
    targets::Behaviour,
    world::{Setup, World, request},
};
use futures_util::future::join_all;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Frame;

const API: &str = r#"
    [services.api]
    image = "api:1"
    protocol = "h2c"
    [services.asleep]
    image = "asleep:1"
    protocol = "h2c"
"#;

async fn world() -> World {
    limited("").await
}

async fn limited(limits: &str) -> World {
    let setup = Setup::new(&format!("{limits}\n{API}"));
    setup.targets.behave("api:1", h2c::grpc());
    setup.targets.behave("asleep:1", Behaviour::Deaf);
    setup.start().await
}

fn call(service: &str, path: &str, body: Body) -> Request<Body> {
    let mut request = request("POST", service, path, body);
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers"), ("x-meta", "kept")] {
        request.headers_mut().insert(name, value.parse().expect("a value"));
    }
    request
}

/// A message as gRPC frames it.
fn message(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).expect("a short message").to_be_bytes();
    [&[0], &length[..], text.as_bytes()].concat().into()
}

fn trailer<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let trailers = answer.trailers.as_ref().filter(|trailers| !trailers.is_empty());
    trailers.unwrap_or(&answer.headers).get(name).and_then(|value| value.to_str().ok())
}

#[tokio::test]
async fn calls_of_every_kind_pass_with_their_status() {
    let world = world().await;
    let mut session = world.http2().await;
    let answer = session.ask(call("api", "/a.B/Unary/0", full(message("hello")))).await.expect("an answer");
    assert_eq!((answer.status, &answer.body), (200, &message("hello")));
    assert_eq!((trailer(&answer, "grpc-status"), answer.header("x-meta")), (Some("0"), Some("kept")));

    let (frames, body) = streamed();
    let mut response = session.send(call("api", "/a.B/Both/5", body)).await.expect("an answer");
    for text in ["one", "two", "three"] {
        frames.send(Frame::data(message(text))).await.expect("a call that is read");
        let frame = soon("a message", response.body_mut().frame()).await.expect("a message").expect("data");
        assert_eq!(frame.into_data().ok(), Some(message(text)), "before the call has ended");
    }
    drop(frames);
    let rest = soon("the end", response.into_body().collect()).await.expect("trailers");
    assert_eq!(
        rest.trailers().map(|trailers| trailers["grpc-status"].clone()),
        Some("5".parse().expect("a value"))
    );

    let answer = session.ask(call("api", "/only/7", empty())).await.expect("an answer");
    assert_eq!((answer.body.len(), answer.header("grpc-status")), (0, Some("7")), "trailers only");
    for (status, calls) in [("ok", 1.0), ("not_found", 1.0), ("permission_denied", 1.0)] {
        let labels = ["service=\"api\"", &format!("status=\"{status}\"")];
        e2e::eventually::found("the count", async || {
            let counted = world.metric("tidegate_grpc_calls_total", &labels);
            if counted >= calls { Ok(()) } else { Err(format!("{status}: {counted}")) }
        })
        .await;
    }
}

#[tokio::test]
async fn a_call_that_is_cut_off_has_a_status() {
    let world = limited("gateway.limits.request_timeout = \"1s\"").await;
    let mut session = world.http2().await;
    let answer = session.ask(call("api", "/endless/0", full(message("hello")))).await.expect("trailers");
    assert_eq!(answer.body, message("hello"));
    assert_eq!(trailer(&answer, "grpc-status"), Some("4"), "DEADLINE_EXCEEDED");
    world.until_counts("api", 0, 0).await;
}

#[tokio::test]
async fn each_stream_has_a_lease_of_its_own() {
    let world = world().await;
    let session = world.http2().await;
    let mut shares: Vec<_> = (0..20).map(|_| session.share()).collect();
    let (senders, bodies): (Vec<_>, Vec<_>) = (0..20).map(|_| streamed()).unzip();
    let calls =
        shares.iter_mut().zip(bodies).map(|(share, body)| share.send(call("api", "/a.B/Both/0", body)));
    let open = join_all(calls).await;
    world.until_counts("api", 0, 20).await;
    drop(senders);
    for response in open {
        let answer = soon("the end", Answer::of(response.expect("an answer"))).await.expect("trailers");
        assert_eq!(trailer(&answer, "grpc-status"), Some("0"));
    }
    world.until_counts("api", 0, 0).await;
}

#[tokio::test]
async fn refusals_are_a_status_and_never_a_document() {
    let world = world().await;
    let mut session = world.http2().await;
    let answer = session.ask(call("nobody", "/a.B/C", empty())).await.expect("an answer");
    assert_eq!((answer.status, answer.body.len()), (200, 0), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/grpc"));
    assert_eq!(
        (answer.header("grpc-status"), answer.header("x-tidegate-reason")),
        (Some("12"), Some("no_route"))
    );
    assert!(answer.header("grpc-message").is_some_and(|words| words.contains("no service")), "{answer:?}");
    assert!(answer.header("x-tidegate-request-id").is_some(), "{answer:?}");
    let mut web = call("nobody", "/a.B/C", empty());
    web.headers_mut().insert("content-type", "application/grpc-web".parse().expect("a value"));
    let answer = session.ask(web).await.expect("an answer");
    assert_eq!(answer.refusal(), (404, "no_route".into()), "browsers read HTTP");
}

#[tokio::test]
async fn a_callers_patience_bounds_how_long_it_is_held() {
    let world = world().await;
    let mut session = world.http2().await;
    let mut impatient = call("asleep", "/a.B/C", empty());
    impatient.headers_mut().insert("grpc-timeout", "30m".parse().expect("a value"));
    let answer = session.ask(impatient).await.expect("an answer");
    assert_eq!(
        (answer.header("grpc-status"), answer.header("x-tidegate-reason")),
        (Some("4"), Some("hold_deadline"))
    );
    let mut patient = call("api", "/a.B/C/0", empty());
    patient.headers_mut().insert("grpc-timeout", "1H".parse().expect("a value"));
    let answer = session.ask(patient).await.expect("an answer");
    let left = answer.header("grpc-timeout").expect("the replica is told");
    assert!(
        left == "1H"
            || left.strip_suffix('m').is_some_and(|ms| ms.parse::<u32>().is_ok_and(|ms| ms < 3_600_000)),
        "{left}"
    );
}

#[tokio::test]
async fn replicas_are_asked_how_they_are_in_grpc() {
    let setup = Setup::new(
        r#"
        [services.well]
        image = "well:1"
        protocol = "h2c"
        health.probe = { grpc = "a.B" }
        [services.ill]
        image = "ill:1"
        protocol = "h2c"
        health = { probe = "grpc", start_deadline = "300ms" }
        "#,
    );
    for (image, serving) in [("well:1", 1_u8), ("ill:1", 2)] {
        let health = h2c::streams(h2::server::Builder::new(), move |request, mut respond| async move {
            assert!(request.uri().path().ends_with("/Check") || request.uri().path() == "/");
            let Ok(mut send) = respond.send_response(http::Response::new(()), false) else { return };
            drop(send.send_data(vec![0, 0, 0, 0, 2, 8, serving].into(), false));
            let status = (http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("0"));
            drop(send.send_trailers(http::HeaderMap::from_iter([status])));
        });
        setup.targets.behave(image, health);
    }
    let world = setup.start().await;
    let mut session = world.http2().await;
    let answer = session.ask(request("GET", "well", "/", empty())).await.expect("an answer");
    assert_eq!(answer.status, 200);
    let answer = session.ask(call("ill", "/a.B/C", empty())).await.expect("an answer");
    assert_eq!(answer.header("grpc-status"), Some("14"), "{answer:?}");
}
