//! HTTP/2 in clear text, on either side.

use e2e::{
    client::{empty, full, streamed},
    world::{World, get, request},
};
use futures_util::future::join_all;
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Frame;

const BOTH: &str = r#"
    [services.one]
    image = "one:1"
    [services.two]
    image = "two:1"
    protocol = "h2c"
    health.probe = "http:/status/200"
"#;

#[tokio::test]
async fn each_side_speaks_what_it_speaks() {
    let world = World::new(BOTH).await;
    for (service, version) in [("one", "HTTP/1.1"), ("two", "HTTP/2")] {
        for mut session in [world.http1().await, world.http2().await] {
            let sent = request("PUT", service, "/a?b", full("hello"));
            let echo = session.ask(sent).await.expect("an answer").echo();
            assert_eq!((echo.version.as_str(), echo.body.as_str()), (version, "hello"), "{service}");
            assert!(echo.target.ends_with("/a?b"), "{}", echo.target);
            let host = format!("{service}.localhost");
            assert!(echo.header("host") == Some(&host) || echo.target.contains(&host), "{echo:?}");
            assert_eq!(echo.header("x-forwarded-host"), Some(&*host));
        }
    }
}

#[tokio::test]
async fn refusals_and_empty_answers_pass() {
    let world = World::new(BOTH).await;
    let mut session = world.http2().await;
    let refused = session.ask(get("nobody", "/")).await.expect("an answer");
    assert_eq!(refused.refusal(), (404, "no_route".into()));
    let refused = session.ask(request("HEAD", "nobody", "/", empty())).await.expect("an answer");
    assert_eq!((refused.status, refused.body.len()), (404, 0), "HEAD has no body, also where it is refused");
    for service in ["one", "two"] {
        for code in [204, 304, 404, 500] {
            let answer = session.ask(get(service, &format!("/status/{code}"))).await.expect("an answer");
            assert_eq!((answer.status, answer.body.len()), (code, 0), "{service}");
        }
        let head = session.ask(request("HEAD", service, "/", empty())).await.expect("an answer");
        assert_eq!((head.status, head.body.len()), (200, 0), "{service}");
    }
}

#[tokio::test]
async fn many_streams_of_one_connection_go_side_by_side() {
    let world = World::new(BOTH).await;
    for service in ["one", "two"] {
        let session = world.http2().await;
        let mut shares: Vec<_> = (0..100).map(|_| session.share()).collect();
        let answers = join_all(shares.iter_mut().map(|share| share.ask(get(service, "/")))).await;
        let good =
            answers.into_iter().filter(|answer| answer.as_ref().is_ok_and(|a| a.status == 200)).count();
        assert_eq!(good, 100, "{service}");
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let world = World::new(BOTH).await;
    for service in ["one", "two"] {
        for mut session in [world.http1().await, world.http2().await] {
            let (frames, body) = streamed();
            let mut sent = request("POST", service, "/duplex", body);
            // HTTP/1.1 sends only announced trailers, and only to those who take them.
            sent.headers_mut().insert("te", "trailers".parse().expect("a value"));
            sent.headers_mut().insert("trailer", "x-check".parse().expect("a value"));
            let mut trailers = HeaderMap::new();
            trailers.insert("x-check", "sum".parse().expect("a value"));
            frames.send(Frame::data("data".into())).await.expect("a body that is read");
            frames.send(Frame::trailers(trailers)).await.expect("a body that is read");
            drop(frames);
            let body =
                session.send(sent).await.expect("an answer").into_body().collect().await.expect("a body");
            let check = body.trailers().and_then(|trailers| trailers.get("x-check")).cloned();
            assert_eq!(check.as_ref().map(|value| value.as_bytes()), Some(&b"sum"[..]), "{service}");
            assert_eq!(body.to_bytes(), "data");
        }
    }
}
