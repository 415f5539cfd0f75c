//! Stands before a registry: notes who asks for what, and does to answers what networks and liars do.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::Notify, task::JoinSet};

use super::{PASSWORD, USER};

const TOKEN: &str = "a-token";
/// As many bytes are in a piece of a blob.
const PIECE: usize = 16 << 10;

/// What is done to answers with blobs of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The next one that is longer than this ends after so many bytes; then nothing more is done.
    Cut(usize),
    /// The next one that is longer than this comes to a halt after so many bytes; then nothing more is done.
    Halt(usize),
    /// One byte in the middle is another.
    Tamper,
    /// They are not there.
    Missing,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub method: String,
    pub path: String,
    pub range: Option<String>,
}

/// A proxy before a registry.
pub(crate) struct Proxy {
    pub host: String,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    host: String,
    upstream: String,
    bearer: bool,
    client: Client<HttpConnector, Empty<Bytes>>,
    fault: Mutex<Fault>,
    seen: Mutex<Vec<Seen>>,
    sent: AtomicU64,
    halted: Notify,
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

impl Proxy {
    /// One that lets everyone in.
    pub(crate) async fn before(upstream: &str) -> Self {
        Self::start(upstream, false).await
    }

    /// One that wants a token, and gives it to who has the password.
    pub(crate) async fn with_tokens(upstream: &str) -> Self {
        Self::start(upstream, true).await
    }

    async fn start(upstream: &str, bearer: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let host = listener.local_addr().expect("an address").to_string();
        let state = Arc::new(State {
            host: host.clone(),
            upstream: upstream.into(),
            bearer,
            client: Client::builder(TokioExecutor::new()).build_http(),
            fault: Mutex::new(Fault::None),
            seen: Mutex::default(),
            sent: AtomicU64::new(0),
            halted: Notify::new(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::clone(&state)));
        Self { host, state, _tasks: tasks }
    }

    /// What is done to answers from now on.
    pub(crate) fn fault(&self, fault: Fault) {
        *self.state.fault.lock() = fault;
    }

    /// The requests so far for paths with this in them.
    pub(crate) fn seen(&self, part: &str) -> Vec<Seen> {
        self.state.seen.lock().iter().filter(|seen| seen.path.contains(part)).cloned().collect()
    }

    /// Bytes of answers so far.
    pub(crate) fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }

    /// Ends when an answer has come to a halt.
    pub(crate) async fn halted(&self) {
        self.state.halted.notified().await;
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(answer(&state, request).await) }
            });
            // A connection that is cut on purpose is an error, too.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(state: &Arc<State>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let text = |name| request.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let (range, authorization) = (text(header::RANGE), text(header::AUTHORIZATION));
    state.seen.lock().push(Seen { method: request.method().to_string(), path: path.clone(), range });
    if state.bearer {
        if path.starts_with("/token") {
            return token(authorization.as_deref());
        }
        if authorization.as_deref() != Some(&format!("Bearer {TOKEN}")) {
            return challenge(state);
        }
    }
    let uri = format!("http://{}{path}", state.upstream);
    let mut forward = Request::builder().method(request.method()).uri(uri);
    for name in [header::ACCEPT, header::RANGE] {
        if let Some(value) = request.headers().get(&name) {
            forward = forward.header(name, value);
        }
    }
    let forward = forward.body(Empty::new()).expect("a request");
    let (head, body) = state.client.request(forward).await.expect("the registry answers").into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    // Configurations are small; what is larger is a layer.
    let layer = path.contains("/blobs/") && head.status.is_success() && bytes.len() > 2000;
    if layer { spoil(state, head, bytes) } else { whole(head, bytes) }
}

fn token(authorization: Option<&str>) -> Response<Body> {
    let expected = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    if authorization == Some(&expected) {
        return plain(StatusCode::OK, format!("{{\"token\":\"{TOKEN}\"}}"));
    }
    // As careless services do, it repeats what it was told.
    plain(
        StatusCode::UNAUTHORIZED,
        format!("{{\"details\":\"incorrect username or password: {authorization:?}\"}}"),
    )
}

fn challenge(state: &State) -> Response<Body> {
    let body = "{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"authentication required\"}]}";
    let mut response = plain(StatusCode::UNAUTHORIZED, body.into());
    let value = format!("Bearer realm=\"http://{}/token\",service=\"test\"", state.host);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, value.parse().expect("a header's value"));
    response
}

fn plain(status: StatusCode, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(status).body(body).expect("a response")
}

fn whole(head: http::response::Parts, bytes: Bytes) -> Response<Body> {
    Response::from_parts(head, Full::new(bytes).map_err(|never| match never {}).boxed_unsync())
}

fn spoil(state: &Arc<State>, head: http::response::Parts, bytes: Bytes) -> Response<Body> {
    let fault = {
        let mut fault = state.fault.lock();
        let now = *fault;
        match now {
            Fault::Cut(after) | Fault::Halt(after) if bytes.len() > after => *fault = Fault::None,
            _ => {}
        }
        now
    };
    match fault {
        Fault::Missing => plain(StatusCode::NOT_FOUND, "{\"errors\":[{\"code\":\"BLOB_UNKNOWN\"}]}".into()),
        Fault::Tamper => {
            let mut bytes = bytes.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            pieces(state, head, bytes.into(), End::Whole)
        }
        Fault::Cut(after) if bytes.len() > after => pieces(state, head, bytes.slice(..after), End::Cut),
        Fault::Halt(after) if bytes.len() > after => pieces(state, head, bytes.slice(..after), End::Halt),
        Fault::None | Fault::Cut(_) | Fault::Halt(_) => pieces(state, head, bytes, End::Whole),
    }
}

/// How an answer ends.
#[derive(Clone, Copy)]
enum End {
    Whole,
    Cut,
    Halt,
}

fn pieces(state: &Arc<State>, head: http::response::Parts, bytes: Bytes, end: End) -> Response<Body> {
    let counted = Arc::clone(state);
    let pieces: Vec<Bytes> = bytes.chunks(PIECE).map(Bytes::copy_from_slice).collect();
    let pieces = futures_util::stream::iter(pieces).map(move |piece| {
        counted.sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
        Ok(Frame::data(piece))
    });
    let state = Arc::clone(state);
    let tail: BoxStream<'static, Result<Frame<Bytes>, io::Error>> = match end {
        End::Whole => futures_util::stream::empty().boxed(),
        End::Cut => futures_util::stream::once(async {
            // What was written has to leave first.
            tokio::task::yield_now().await;
            Err(io::Error::from(io::ErrorKind::ConnectionReset))
        })
        .boxed(),
        End::Halt => futures_util::stream::once(async move {
            state.halted.notify_one();
            std::future::pending().await
        })
        .boxed(),
    };
    Response::from_parts(head, BodyExt::boxed_unsync(StreamBody::new(pieces.chain(tail))))
}
