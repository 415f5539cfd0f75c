//! Which responses are compressed, how, and that streams still flow.

use std::io::Read;

use e2e::{
    client::{Answer, Wire, empty},
    eventually::soon,
    targets::Behaviour,
    world::{Setup, World, request},
};
use http_body_util::BodyExt;
use tokio::net::TcpStream;

use super::with;

const BODY: &str = "the same words again and again, ";

fn body() -> String {
    BODY.repeat(100)
}

/// A service that answers each request with the fields that its path names and a body of 3200 bytes.
async fn service(stream: TcpStream) {
    let mut wire = Wire::accepted(stream);
    while let Some(head) = wire.head().await {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let (status, fields, body) = match &*path {
            "/text" => {
                ("200 OK", "content-type: text/plain\r\netag: \"a\"\r\naccept-ranges: bytes\r\n", body())
            }
            "/image" => ("200 OK", "content-type: image/png\r\n", body()),
            "/short" => ("200 OK", "content-type: text/plain\r\n", "short".into()),
            "/encoded" => ("200 OK", "content-type: text/plain\r\ncontent-encoding: br\r\n", body()),
            "/part" => {
                ("206 Partial Content", "content-type: text/plain\r\ncontent-range: bytes 0-9/99\r\n", body())
            }
            "/events" => ("200 OK", "content-type: text/event-stream\r\n", body()),
            "/grpc" => ("200 OK", "content-type: application/grpc\r\n", body()),
            "/kept" => ("200 OK", "content-type: text/plain\r\ncache-control: no-transform\r\n", body()),
            "/slow" => {
                // A piece, and then nothing for as long as the test likes.
                wire.send(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n",
                )
                .await;
                wire.send(format!("{:x}\r\n{}\r\n", body().len(), body())).await;
                drop(wire.head().await);
                return;
            }
            _ => ("404 Not Found", "", String::new()),
        };
        let length = body.len();
        let body = if head.starts_with("HEAD") { String::new() } else { body };
        wire.send(format!("HTTP/1.1 {status}\r\n{fields}content-length: {length}\r\n\r\n{body}")).await;
    }
}

async fn compressing(settings: &str) -> World {
    let text = format!("[services.api]\nimage = \"api:1\"\nmiddleware = {{ compression = {settings} }}");
    let setup = Setup::new(&text);
    setup.targets.behave("api:1", Behaviour::raw(service));
    setup.start().await
}

async fn ask(world: &World, path: &str, accept: &str) -> Answer {
    let fields = [("accept-encoding", accept)];
    world.ask(with("api", path, &fields[..usize::from(!accept.is_empty())])).await.expect("an answer")
}

#[tokio::test]
async fn the_client_says_how() {
    let world = compressing("true").await;
    for (accept, want) in [
        ("gzip", Some("gzip")),
        ("gzip, br, zstd", Some("zstd")),
        ("gzip;q=1, br;q=0.5", Some("gzip")),
        ("gzip;q=0.1, br;q=0.9, zstd;q=0", Some("br")),
        ("gzip;q=0", None),
        ("identity", None),
        ("deflate", None),
        ("", None),
    ] {
        let answer = ask(&world, "/text", accept).await;
        assert_eq!(answer.header("content-encoding"), want, "{accept}");
        assert_eq!(answer.header("vary"), Some("accept-encoding"), "{accept}");
        let mut plain = String::new();
        match want {
            Some("gzip") => drop(flate2::read::GzDecoder::new(&*answer.body).read_to_string(&mut plain)),
            Some("zstd") => {
                plain = String::from_utf8(zstd::decode_all(&*answer.body).expect("zstd")).expect("text")
            }
            Some(_) => plain = if answer.body.len() < 200 { body() } else { String::new() },
            None => plain = answer.text(),
        }
        assert_eq!(plain, body(), "{accept}");
        let (tag, ranges) = if want.is_some() { ("W/\"a\"", None) } else { ("\"a\"", Some("bytes")) };
        assert_eq!((answer.header("etag"), answer.header("accept-ranges")), (Some(tag), ranges), "{accept}");
        assert_eq!(answer.header("content-length").is_some(), want.is_none(), "{accept}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_left_as_it_is() {
    let world = compressing("true").await;
    for path in ["/image", "/short", "/encoded", "/part", "/events", "/grpc", "/kept"] {
        let answer = ask(&world, path, "gzip").await;
        let encoding = (path == "/encoded").then_some("br");
        assert_eq!((answer.header("content-encoding"), answer.header("vary")), (encoding, None), "{path}");
        assert!(answer.header("content-length").is_some(), "{path}");
    }
    let head = world.ask(request("HEAD", "api", "/text", empty())).await.expect("an answer");
    assert_eq!((head.header("vary"), head.header("content-length")), (Some("accept-encoding"), Some("3200")));
    let only = compressing("{ encodings = [\"gzip\"], min_size = \"1KiB\", types = [\"image/*\"] }").await;
    assert_eq!(ask(&only, "/image", "zstd, gzip").await.header("content-encoding"), Some("gzip"));
    assert_eq!(ask(&only, "/text", "gzip").await.header("content-encoding"), None);
}

#[tokio::test]
async fn a_stream_that_pauses_is_passed_on_as_far_as_it_has_come() {
    let world = compressing("true").await;
    for encoding in ["gzip", "br", "zstd"] {
        let mut session = world.http1().await;
        let response =
            session.send(with("api", "/slow", &[("accept-encoding", encoding)])).await.expect("a head");
        assert_eq!(response.headers()["content-encoding"], encoding);
        let mut stream = response.into_body();
        let mut got = Vec::new();
        let whole = |got: &[u8]| {
            let mut plain = vec![0; body().len()];
            match encoding {
                "gzip" => flate2::read::GzDecoder::new(got).read_exact(&mut plain).is_ok(),
                "zstd" => zstd::Decoder::new(got).is_ok_and(|mut zstd| zstd.read_exact(&mut plain).is_ok()),
                _ => got.len() > 20,
            }
        };
        while !whole(&got) {
            let frame = soon("what has come", stream.frame()).await.expect("more").expect("no break");
            got.extend_from_slice(frame.data_ref().expect("data"));
        }
    }
}
