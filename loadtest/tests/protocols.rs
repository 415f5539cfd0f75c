//! What is spoken besides HTTP/1.1 in clear text, against servers of other people's making.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tidegate_loadtest::{Aim, Kind, Options, Report, Reuse, Tls, plan::Plan, run, template::Template};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

const MS: Duration = Duration::from_millis(1);

/// A server that ends when this is dropped.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
    _accepting: JoinSet<()>,
}

type Body = BoxBody<Bytes, std::convert::Infallible>;

async fn listen<F, S>(serve: F) -> Server
where
    F: Fn(tokio::net::TcpStream) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let connections = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&connections);
    let mut accepting = JoinSet::new();
    accepting.spawn(async move {
        let mut serving = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            serving.spawn(serve(stream));
        }
    });
    Server { address, connections, _accepting: accepting }
}

/// Answers with the request's protocol in the code: 211 for HTTP/1.1, 220 for HTTP/2.
async fn say_version<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) {
    let service = service_fn(|request: Request<Incoming>| async move {
        let code = if request.version() == Version::HTTP_2 { 220 } else { 211 };
        let answer = Response::builder().status(code).header("server-timing", "queue;dur=2, upstream;dur=5");
        answer.body(Full::new(Bytes::from_static(b"ok")))
    });
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

/// A certificate for `test.localhost` and what believes in it.
fn certificate(folder: &tempfile::TempDir) -> (TlsAcceptor, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["test.localhost".to_owned()]).expect("a certificate");
    let file = folder.path().join("ca.pem");
    fs::write(&file, made.cert.pem()).expect("written");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("they belong together");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (TlsAcceptor::from(Arc::new(config)), file)
}

async fn load(options: Options) -> Report {
    run(options, Plan::even(200.0, 200 * MS).expect("valid"), |_| ()).await.expect("the run starts")
}

fn codes(report: &Report) -> Vec<(u16, u64)> {
    report.counts.codes.iter().map(|(code, count)| (*code, *count)).collect()
}

#[tokio::test]
async fn both_versions_with_and_without_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let (acceptor, ca) = certificate(&folder);
    let secure = listen(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                say_version(stream).await;
            }
        }
    })
    .await;
    let clear = listen(say_version).await;
    for (scheme, server) in [("https", &secure), ("http", &clear)] {
        for (h2, code) in [(None, 211), (Some(2), 220)] {
            let url = format!("{scheme}://test.localhost:{}/", server.address.port());
            let tls = Tls { ca: Some(ca.clone()), ..Tls::default() };
            let report = load(Options { h2, tls, ..Options::new(url) }).await;
            assert_eq!(codes(&report), [(code, 40)], "{scheme} {h2:?}: {:?}", report.counts.errors);
            if let Some(connections) = h2 {
                assert!(report.connections <= connections as u64, "{}", report.connections);
            }
            let told = report.counts.parts.queue.mean().expect("the server says so");
            assert_eq!(told.as_millis(), 2);
        }
    }
}

#[tokio::test]
async fn a_certificate_is_believed_only_by_those_who_were_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (acceptor, _) = certificate(&folder);
    let server = listen(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                say_version(stream).await;
            }
        }
    })
    .await;
    let elsewhere = tempfile::tempdir().expect("a folder");
    let (_, other) = certificate(&elsewhere);
    for (tls, good) in
        [(Tls { insecure: true, ..Tls::default() }, true), (Tls { ca: Some(other), ..Tls::default() }, false)]
    {
        let url = format!("https://test.localhost:{}/", server.address.port());
        let report = load(Options { tls, ..Options::new(url) }).await;
        assert_eq!(report.counts.errors.connect, if good { 0 } else { 40 });
    }
}

/// Echoes every message; closes instead of answering one that says `leave`.
async fn websocket(stream: tokio::net::TcpStream) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        if message.is_close() || message.to_text().is_ok_and(|text| text == "leave") {
            return;
        }
        if !message.is_pong() && socket.send(message).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn messages_over_websockets_that_stay_open() {
    let server = listen(websocket).await;
    let url = format!("ws://test.localhost:{}/ws", server.address.port());
    let aim = |body: &str| Aim {
        kind: Kind::WebSocketEcho,
        body: Template::parse(body).expect("valid"),
        ..Aim::new(url.clone())
    };
    let report = load(Options { connections: 4, ..Options::of(aim("message {{counter}}")) }).await;
    assert_eq!((codes(&report), report.counts.errors.total()), (vec![(101, 40)], 0));
    assert!(report.connections <= 4 && report.counts.bytes >= 40 * 9, "{}", report.counts.bytes);
    let report = load(Options { connections: 4, ..Options::of(aim("leave")) }).await;
    assert_eq!(report.counts.errors.reset, 40);
}

fn url_of(server: &Server) -> String {
    format!("http://test.localhost:{}/", server.address.port())
}

#[tokio::test]
async fn websockets_that_are_held() {
    let server = listen(websocket).await;
    let url = format!("ws://test.localhost:{}/ws", server.address.port());
    let aim = Aim { kind: Kind::WebSocketHold(500 * MS), ..Aim::new(url) };
    let report = load(Options { connections: 100, ..Options::of(aim) }).await;
    assert_eq!((codes(&report), report.counts.errors.total()), (vec![(101, 40)], 0));
    // None was closed before the last one was opened: each has a connection of its own.
    assert_eq!(server.connections.load(Ordering::SeqCst), 40);
    let closing = listen(|stream| async { drop(tokio_tungstenite::accept_async(stream).await) }).await;
    let url = format!("ws://test.localhost:{}/ws", closing.address.port());
    let aim = Aim { kind: Kind::WebSocketHold(3_600_000 * MS), ..Aim::new(url) };
    let report = load(Options { connections: 100, ..Options::of(aim) }).await;
    assert_eq!((report.requests, report.counts.errors.closed), (40, 40), "opened and closed is not held");
    let plain = listen(say_version).await;
    let url = format!("ws://test.localhost:{}/ws", plain.address.port());
    let report = load(Options::of(Aim { kind: Kind::WebSocketEcho, ..Aim::new(url) })).await;
    assert_eq!(codes(&report), [(211, 40)], "a server that has no WebSockets says what it has");
    assert!(
        report.counts.examples["status"].contains("are there WebSockets"),
        "{:?}",
        report.counts.examples
    );
    let report = load(Options { h2: Some(1), ..Options::new(url_of(&closing)) }).await;
    assert!(
        report.counts.examples["reset"].contains("does the server speak HTTP/2?"),
        "{:?}",
        report.counts.examples
    );
}

/// Answers every other call with UNAVAILABLE.
async fn grpc(stream: tokio::net::TcpStream, calls: Arc<AtomicU64>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        async move {
            let right = request.headers().get("content-type").is_some_and(|kind| kind == "application/grpc")
                && request.headers().get("te").is_some_and(|te| te == "trailers")
                && request.uri().path() == "/shop.Cart/Add";
            let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let right = right && body == b"\0\0\0\0\x04cart"[..];
            let status = if !right {
                "3"
            } else if call.is_multiple_of(2) {
                "0"
            } else {
                "14"
            };
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", status.parse().expect("a value"));
            let frames =
                [Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\x02ok"))), Ok(Frame::trailers(trailers))];
            let body: Body = BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)));
            Ok::<_, std::convert::Infallible>(Response::new(body))
        }
    });
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

#[tokio::test]
async fn calls_of_grpc_have_a_status_of_their_own() {
    let calls = Arc::new(AtomicU64::new(0));
    let server = listen(move |stream| grpc(stream, Arc::clone(&calls))).await;
    let url = format!("http://test.localhost:{}/shop.Cart/Add", server.address.port());
    let aim = Aim { kind: Kind::Grpc, body: Template::plain("cart"), ..Aim::new(url) };
    let report = load(Options::of(aim)).await;
    let statuses: Vec<_> = report.counts.grpc.iter().map(|(status, count)| (*status, *count)).collect();
    assert_eq!((codes(&report), statuses), (vec![(200, 40)], vec![(0, 20), (14, 20)]));
    assert_eq!((report.counts.errors.status, report.connections), (20, 1));
}

#[tokio::test]
async fn connections_are_used_as_often_as_was_said() {
    let server = listen(say_version).await;
    let url = format!("http://test.localhost:{}/", server.address.port());
    let report = load(Options { connections: 1, reuse: Reuse::Times(4), ..Options::new(url) }).await;
    assert_eq!((codes(&report), report.connections), (vec![(211, 40)], 10));
    assert_eq!(server.connections.load(Ordering::SeqCst), 10);
}

#[tokio::test]
async fn targets_get_their_share() {
    let server = listen(say_version).await;
    let url = |path: &str| format!("http://test.localhost:{}/{path}", server.address.port());
    let aims = vec![
        Aim { weight: 3, ..Aim::new(url("a?n={{counter}}")) },
        Aim { weight: 1, ..Aim::new(url("b")) },
        Aim { weight: 0, ..Aim::new(url("never")) },
    ];
    let plan = Plan::even(2000.0, 200 * MS).expect("valid");
    let report = run(Options { aims, ..Options::new("") }, plan, |_| ()).await.expect("the run starts");
    let counts: Vec<u64> = report.counts.targets.iter().map(|target| target.latency.count()).collect();
    assert_eq!((counts.iter().sum::<u64>(), counts[2]), (400, 0));
    // Six standard deviations around 300.
    assert!((248..=352).contains(&counts[0]), "{counts:?}");
}
