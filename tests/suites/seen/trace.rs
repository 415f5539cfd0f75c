//! Traces: how they go through, and that spans reach a collector which may be slow or gone.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use e2e::{
    client::{Stream, Wire},
    eventually::found,
    secure::{Authority, Good, acceptor},
    targets::Behaviour,
    world::{World, get},
};
use futures_util::future::join_all;
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: [u8; 16] =
    [0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36];
const PARENT: [u8; 8] = [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7];

/// Keeps what is sent to it.
struct Collector {
    address: SocketAddr,
    got: Arc<Mutex<Vec<u8>>>,
    _task: JoinSet<()>,
}

impl Collector {
    async fn new() -> Self {
        Self::over(|stream| async { Some(Wire::accepted(stream)) }).await
    }

    /// One over TLS, with a certificate of this authority.
    async fn secure(authority: &Authority) -> Self {
        let (certificate, key) = authority.issue(&["127.0.0.1"], Good::Now);
        let acceptor = acceptor(&certificate, &key);
        Self::over(move |stream| {
            let handshake = acceptor.accept(stream);
            async { handshake.await.ok().map(Wire::of) }
        })
        .await
    }

    async fn over<S: Stream, F>(accept: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Option<Wire<S>>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let got = Arc::new(Mutex::new(Vec::new()));
        let (kept, mut task) = (Arc::clone(&got), JoinSet::new());
        task.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Some(mut wire) = accept(stream).await else { continue };
                while let Some((head, body)) = wire.answer().await {
                    kept.lock().extend_from_slice(head.as_bytes());
                    kept.lock().extend_from_slice(&body);
                    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                }
            }
        });
        Self { address, got, _task: task }
    }

    fn traced(&self, more: &str) -> String {
        self.traced_by("http", more)
    }

    fn traced_by(&self, scheme: &str, more: &str) -> String {
        let endpoint = format!("{scheme}://{}/v1/traces", self.address);
        format!("[gateway.tracing]\nendpoint = \"{endpoint}\"\n{more}\n[services.api]\nimage = \"api:1\"")
    }

    /// Waits until all of these have come, and counts the last one.
    async fn until(&self, parts: &[&[u8]]) -> usize {
        found("spans", async || {
            let got = self.got.lock().clone();
            let count = |part: &[u8]| got.windows(part.len()).filter(|window| *window == part).count();
            if parts.iter().all(|part| count(part) > 0) {
                Ok(parts.last().map_or(0, |last| count(last)))
            } else {
                Err(String::from_utf8_lossy(&got).into_owned())
            }
        })
        .await
    }
}

fn traced(parent: &'static str) -> http::Request<e2e::client::Body> {
    let mut request = get("api", "/x?token=canary");
    request.headers_mut().insert("traceparent", HeaderValue::from_static(parent));
    request.headers_mut().insert("tracestate", HeaderValue::from_static("a=1"));
    request
}

#[tokio::test]
async fn a_trace_goes_on_and_its_spans_are_told() {
    let collector = Collector::new().await;
    let world = World::new(&collector.traced("sample = 0")).await;
    let echo = world.ask(traced(CALLER)).await.expect("a whole answer").echo();
    let passed = echo.header("traceparent").expect("a trace");
    assert!(passed.starts_with(&CALLER[..36]) && passed.ends_with("-01") && passed != CALLER, "{passed}");
    assert_eq!(echo.header("tracestate"), Some("a=1"));
    let words: [&[u8]; 8] = [
        &TRACE,
        &PARENT,
        b"GET api",
        b"queue",
        b"start",
        b"replica start",
        b"http.response.status_code",
        b"attempt",
    ];
    assert_eq!(collector.until(&words).await, 1);
    assert!(!String::from_utf8_lossy(&collector.got.lock()).contains("canary"));
    // A trace that begins here: none is recorded, and it is passed on all the same.
    let begun = world.get("api", "/").await.echo();
    let begun = begun.header("traceparent").expect("a trace");
    assert!(begun.ends_with("-00") && !begun.contains(&CALLER[3..35]), "{begun}");
}

#[tokio::test]
async fn retries_are_seen_as_attempts() {
    let collector = Collector::new().await;
    let world = World::new(&collector.traced("sample = 1")).await;
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let talk = Behaviour::raw(move |stream| {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 1;
        async move {
            let mut wire = Wire::accepted(stream);
            // The probe is the first that connects; the first request is broken off.
            if wire.head().await.is_some() && !first {
                wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                wire.rest().await;
            }
        }
    });
    world.targets.behave("api:1", talk);
    assert_eq!(world.get("api", "/").await.text(), "ok");
    let attempts = collector.until(&[b"http.request.resend_count", b"error.type", b"attempt"]).await;
    assert_eq!(attempts, 2);
}

#[tokio::test]
async fn a_collector_that_hangs_delays_no_request() {
    // It listens and never takes a connection.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().expect("an address"));
    let text = format!(
        "[gateway.tracing]\nendpoint = \"{endpoint}\"\nsample = 1\n[services.api]\nimage = \"api:1\""
    );
    let world = World::new(&text).await;
    world.wake("api").await;
    let before = world.metric("tidegate_spans_dropped_total", &[]);
    // More than may wait to be sent.
    let client = async || {
        let mut session = world.http1().await;
        for _ in 0..300 {
            assert_eq!(session.ask(get("api", "/")).await.expect("a whole answer").status, 200);
        }
    };
    join_all((0..10).map(|_| client())).await;
    found("spans that are lost", async || {
        let lost = world.metric("tidegate_spans_dropped_total", &[]) - before;
        if lost > 0.0 { Ok(()) } else { Err(lost.to_string()) }
    })
    .await;
    assert!(world.stop().await.0, "and it does not keep the gateway from ending");
}

#[tokio::test]
async fn spans_go_to_a_collector_over_tls_if_it_proves_who_it_is() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let collector = Collector::secure(&Authority::new(folder.path(), "own")).await;
    let other = Authority::new(folder.path(), "other");
    let traced = |ca: &str| {
        let ca = folder.path().join(ca);
        collector.traced_by("https", &format!("sample = 1\nca = {ca:?}"))
    };
    let world = World::new(&traced(&format!("{}.pem", other.name()))).await;
    let before = world.metric("tidegate_spans_dropped_total", &[]);
    world.ask(get("api", "/")).await.expect("a whole answer");
    found("spans that are lost", async || {
        let lost = world.metric("tidegate_spans_dropped_total", &[]) - before;
        if lost > 0.0 { Ok(()) } else { Err(lost.to_string()) }
    })
    .await;
    assert!(collector.got.lock().is_empty(), "anybody could say that it is the collector");
    let world = World::new(&traced("own.pem")).await;
    world.ask(get("api", "/")).await.expect("a whole answer");
    assert!(collector.until(&[b"POST /v1/traces", b"GET api"]).await > 0);
}

#[tokio::test]
async fn without_tracing_the_fields_pass_as_they_came() {
    let world = World::new("services.api.image = \"api:1\"").await;
    let echo = world.ask(traced(CALLER)).await.expect("a whole answer").echo();
    assert_eq!((echo.header("traceparent"), echo.header("tracestate")), (Some(CALLER), Some("a=1")));
    let bare = world.get("api", "/").await.echo();
    assert_eq!(bare.header("traceparent"), None);
}

#[tokio::test]
async fn the_log_names_the_trace() {
    let world = World::new("gateway.access_log.to = \"access.log\"\nservices.api.image = \"api:1\"").await;
    world.ask(traced(CALLER)).await.expect("a whole answer");
    found("a line", async || {
        let text = std::fs::read_to_string(world.folder().join("access.log")).unwrap_or_default();
        if text.contains("\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\"") { Ok(()) } else { Err(text) }
    })
    .await;
}
