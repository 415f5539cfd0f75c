//! What each path answers:
//! `/` name and hostname, `/echo` the body back (trailers too), `/headers` the request's head as JSON, `/sleep?ms=`,
//! `/stream?chunks=&ms=`, `/bytes?n=`, `/status/CODE`, `/ws` (and any `Upgrade`) echo, `/exit?code=`, `/alloc?mb=`,
//! `/health`, `/unhealthy` (from then on `/health` answers 503). Everything else is 404.
//! `SERVICE_MS` delays all but `/health`, which would else fail its probe under load settings.

use std::{
    hint::black_box,
    mem, process,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue, TRAILER},
    rt::Executor,
};
use tokio_util::sync::CancellationToken;

use crate::{body::Answer, server::Tasks, settings::Settings, upgrade};

/// What all requests share.
pub(crate) struct App {
    hello: Bytes,
    service_time: Duration,
    /// Until then everything is answered with 503.
    ready_at: Instant,
    healthy: AtomicBool,
    tasks: Tasks,
    ending: CancellationToken,
}

impl App {
    pub(crate) fn new(settings: Settings, tasks: Tasks, ending: CancellationToken) -> Self {
        Self {
            hello: format!("{} on {}\n", settings.name, settings.hostname).into(),
            service_time: settings.service_time,
            ready_at: Instant::now() + settings.unready,
            healthy: AtomicBool::new(true),
            tasks,
            ending,
        }
    }

    /// Answers one request.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Result<Response<Answer>, hyper::Error> {
        if Instant::now() < self.ready_at {
            return Ok(status(StatusCode::SERVICE_UNAVAILABLE, "not ready yet\n"));
        }
        if !self.service_time.is_zero() && request.uri().path() != "/health" {
            tokio::time::sleep(self.service_time).await;
        }
        if let Some(protocol) = upgrade::wanted(&request) {
            let response = upgrade::switching(protocol, upgrade::key(&request).as_ref());
            self.tasks.execute(upgrade::echo(request, self.ending.clone()));
            return Ok(response);
        }
        Ok(self.route(request).await)
    }

    async fn route(&self, request: Request<Incoming>) -> Response<Answer> {
        let query = request.uri().query();
        match request.uri().path() {
            "/" => Response::new(Answer::text(self.hello.clone())),
            "/echo" => mirror(request),
            "/headers" => json(head(&request)),
            "/sleep" => {
                tokio::time::sleep(Duration::from_millis(parameter(query, "ms", 0))).await;
                text("slept\n")
            }
            "/stream" => {
                let pause = Duration::from_millis(parameter(query, "ms", 0));
                Response::new(Answer::drip(parameter(query, "chunks", 1), pause))
            }
            "/bytes" => Response::new(Answer::Blob { left: parameter(query, "n", 0) }),
            "/ws" => status(StatusCode::UPGRADE_REQUIRED, "send an Upgrade header\n"),
            "/exit" => process::exit(parameter(query, "code", 0)),
            "/alloc" => allocate(parameter(query, "mb", 0)),
            "/health" if self.healthy.load(Ordering::Relaxed) => text("healthy\n"),
            "/health" => status(StatusCode::SERVICE_UNAVAILABLE, "unhealthy\n"),
            "/unhealthy" => {
                self.healthy.store(false, Ordering::Relaxed);
                text("unhealthy from now on\n")
            }
            path => match path.strip_prefix("/status/") {
                Some(code) => with_code(code),
                None => status(StatusCode::NOT_FOUND, "no such path\n"),
            },
        }
    }
}

/// Keeps content type and trailers; the length follows from the body.
fn mirror(request: Request<Incoming>) -> Response<Answer> {
    let (head, body) = request.into_parts();
    let mut response = Response::new(Answer::Mirror(body));
    for name in [CONTENT_TYPE, TRAILER] {
        if let Some(value) = head.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

fn with_code(code: &str) -> Response<Answer> {
    match code.parse::<u16>().ok().filter(|code| (200..=599).contains(code)) {
        Some(code) => match StatusCode::from_u16(code) {
            Ok(code) => status(code, ""),
            Err(_) => status(StatusCode::BAD_REQUEST, "not a status code\n"),
        },
        None => status(StatusCode::BAD_REQUEST, "a status code is 200 to 599\n"),
    }
}

/// Touches the memory and never gives it back.
fn allocate(mebibytes: usize) -> Response<Answer> {
    mem::forget(black_box(vec![1_u8; mebibytes << 20]));
    text("allocated\n")
}

fn text(text: &'static str) -> Response<Answer> {
    Response::new(Answer::text(text))
}

fn status(code: StatusCode, text: &'static str) -> Response<Answer> {
    let mut response = Response::new(Answer::text(text));
    *response.status_mut() = code;
    response
}

fn json(body: String) -> Response<Answer> {
    let mut response = Response::new(Answer::text(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn parameter<N: std::str::FromStr>(query: Option<&str>, name: &str, default: N) -> N {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok()).unwrap_or(default)
}

fn head(request: &Request<Incoming>) -> String {
    let headers: Vec<String> = request
        .headers()
        .iter()
        .map(|(name, value)| format!("[{},{}]", quoted(name.as_str().as_bytes()), quoted(value.as_bytes())))
        .collect();
    format!(
        "{{\"method\":{},\"uri\":{},\"path\":{},\"version\":\"{:?}\",\"headers\":[{}]}}\n",
        quoted(request.method().as_str().as_bytes()),
        quoted(request.uri().to_string().as_bytes()),
        quoted(request.uri().path_and_query().map_or("", |path| path.as_str()).as_bytes()),
        request.version(),
        headers.join(",")
    )
}

/// A JSON string. Bytes that are not UTF-8 are shown as the replacement character.
fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_defaults() {
        for (query, found) in
            [(None, 7), (Some("ms=5"), 5), (Some("a=1&ms=9"), 9), (Some("ms=x"), 7), (Some(""), 7)]
        {
            assert_eq!(parameter(query, "ms", 7), found, "{query:?}");
        }
    }

    #[test]
    fn strings_are_quoted_for_json() {
        assert_eq!(quoted(b"a\"b\\c\x01"), "\"a\\\"b\\\\c\\u0001\"");
    }
}
