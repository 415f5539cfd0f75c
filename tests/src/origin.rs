//! The sample service that replicas run in the suites. What it does is in the path; everything else is told back as
//! JSON: what arrived, where, and with which trailers.

use std::{convert::Infallible, io, sync::Arc};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tidegate_config::spec::StartSpec;

use crate::targets::{Seen, Targets};

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A request as the origin saw it, for those who sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// The service that answered.
    pub service: String,
    /// Its replica.
    pub replica: String,
    /// The value of `VERSION` in its environment.
    pub variable: Option<String>,
    /// The method.
    pub method: String,
    /// The target as it was sent.
    pub target: String,
    /// As in `HTTP/1.1`.
    pub version: String,
    /// All fields.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
    /// The trailers.
    pub trailers: Vec<(String, String)>,
}

impl Echo {
    /// All values of a field.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| &**value).collect()
    }

    /// The value of a field that came once; `None` if it did not come.
    ///
    /// # Panics
    /// If it came more than once.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} came {} times", all.len());
        all.first().copied()
    }
}

pub(crate) async fn answer(
    targets: Targets,
    spec: Arc<StartSpec>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (method, target) = (request.method().to_string(), request.uri().to_string());
    targets.note(Seen { replica: spec.id.clone(), method, target });
    let is_head = request.method() == Method::HEAD;
    let is_connect = request.method() == Method::CONNECT;
    let mut response = match request.uri().path() {
        "/hold" => {
            targets.released().await;
            text("held")
        }
        "/fails-in-2" if spec.launch.env.get("VERSION").is_some_and(|version| version == "2") => {
            with_status(StatusCode::INTERNAL_SERVER_ERROR)
        }
        "/duplex" => duplex(request.into_body()),
        "/endless" => endless(&targets),
        // More than sockets hold.
        "/large" => text(vec![b'x'; 64 << 20]),
        "/break" => broken(false),
        "/break-length" => broken(true),
        "/hop" => hop(),
        "/upgrade" => {
            let upgrade = hyper::upgrade::on(&mut request);
            targets.spawn_for(&spec.id, async move {
                if let Ok(upgraded) = upgrade.await {
                    let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
                    // Either side may end the tunnel at any time.
                    drop(tokio::io::copy(&mut read, &mut write).await);
                    drop(tokio::io::AsyncWriteExt::shutdown(&mut write).await);
                }
            });
            if is_connect { text("") } else { switching() }
        }
        path => match path.strip_prefix("/status/").and_then(|code| code.parse::<StatusCode>().ok()) {
            Some(status) => with_status(status),
            None => echo(&spec, request).await,
        },
    };
    if is_head {
        let length = response.body().size_hint().exact().unwrap_or(0);
        *response.body_mut() = text("").into_body();
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    Ok(response)
}

async fn echo(spec: &StartSpec, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return with_status(StatusCode::BAD_REQUEST) };
    let trailers = body.trailers().map(list).unwrap_or_default();
    let version = if head.version == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" };
    let echo = Echo {
        service: spec.id.service().to_string(),
        replica: spec.id.to_string(),
        variable: spec.launch.env.get("VERSION").cloned(),
        method: head.method.to_string(),
        target: head.uri.to_string(),
        version: version.into(),
        headers: list(&head.headers),
        body: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        trailers,
    };
    text(serde_json::to_string(&echo).unwrap_or_default())
}

fn list(headers: &HeaderMap) -> Vec<(String, String)> {
    let pair = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    headers.iter().map(pair).collect()
}

fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::new(text.into()).map_err(|never| match never {}).boxed_unsync())
}

fn with_status(status: StatusCode) -> Response<Body> {
    let mut response = text("");
    *response.status_mut() = status;
    response
}

/// What arrives goes back as it arrives, trailers included.
fn duplex(body: Incoming) -> Response<Body> {
    let mut response = Response::new(body.map_err(io::Error::other).boxed_unsync());
    response.headers_mut().insert(header::TRAILER, HeaderValue::from_static("x-check"));
    response
}

/// A chunk at once, and the end when `/hold` is released.
fn endless(targets: &Targets) -> Response<Body> {
    let targets = targets.clone();
    let frames = stream::unfold(0, move |step| {
        let targets = targets.clone();
        async move {
            match step {
                0 => Some((Ok(Frame::data(Bytes::from_static(b"begun "))), 1)),
                1 => {
                    targets.released().await;
                    Some((Ok(Frame::data(Bytes::from_static(b"ended"))), 2))
                }
                _ => None,
            }
        }
    });
    Response::new(StreamBody::new(frames).boxed_unsync())
}

/// A body that ends before its end.
fn broken(with_length: bool) -> Response<Body> {
    let frames = [Ok(Frame::data(Bytes::from_static(b"half"))), Err(io::Error::other("as scripted"))];
    // The break must not overtake the first half.
    let frames = stream::unfold(frames.into_iter(), |mut rest| async move {
        tokio::task::yield_now().await;
        rest.next().map(|frame| (frame, rest))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    if with_length {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("8"));
    }
    response
}

/// Fields that must not get past the gateway, and one that must.
fn hop() -> Response<Body> {
    let mut response = text("hop");
    for (name, value) in [
        ("connection", "x-secret"),
        ("x-secret", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
        ("x-tidegate-cold", "1"),
        ("x-kept", "1"),
    ] {
        response.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

fn switching() -> Response<Body> {
    let mut response = with_status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("echo"));
    response
}
