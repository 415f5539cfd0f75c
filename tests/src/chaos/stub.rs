//! A Docker API that lies: it stands on a socket of its own before a real engine, passes everything on, and does to
//! chosen calls and to the event stream what failing engines do.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::ROOT;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Failure>;

/// What happens to a call.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    /// The engine never hears of it; this status is the answer.
    Refuse(u16),
    /// The engine does it; this status is the answer.
    Deny(u16),
    /// The engine never hears of it; the answer's head comes, its body never ends.
    Stall,
    /// The engine never hears of it and no answer comes.
    Hang,
    /// The engine hears of it this much later.
    Late(Duration),
}

/// Which calls, what happens to them, how often.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Their method.
    pub method: Method,
    /// What their path contains.
    pub path: &'static str,
    /// What happens.
    pub act: Act,
    /// How many of them.
    pub times: u32,
}

/// What happens to events, in percent of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Events {
    /// Lost.
    pub lost: u32,
    /// Told twice.
    pub twice: u32,
    /// Told late, by this; later ones overtake them.
    pub late: Option<Duration>,
    /// None is told, and the stream stays open.
    pub silent: bool,
}

#[derive(Default)]
struct Script {
    faults: Vec<Fault>,
    events: Events,
    calls: Vec<String>,
}

struct Shared {
    engine: PathBuf,
    script: Mutex<Script>,
    chance: Mutex<SmallRng>,
    /// Event streams end when this changes.
    cuts: watch::Sender<u64>,
}

/// The stub. Dropping it closes its socket and its connections.
pub struct Stub {
    folder: tempfile::TempDir,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Stub {
    /// Stands before this engine.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn before(engine: &Path, seed: u64) -> anyhow::Result<Self> {
        std::fs::create_dir_all(ROOT)?;
        let folder = tempfile::Builder::new().prefix("stub-").tempdir_in(ROOT)?;
        let listener = UnixListener::bind(folder.path().join("docker.sock")).context("the stub's socket")?;
        let shared = Arc::new(Shared {
            engine: engine.to_owned(),
            script: Mutex::default(),
            chance: Mutex::new(SmallRng::seed_from_u64(seed)),
            cuts: watch::Sender::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { folder, shared, _tasks: tasks })
    }

    /// The endpoint for a `[[hosts]]` table.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }

    /// From now on this happens; earlier faults that are not used up stay.
    pub fn fault(&self, method: Method, path: &'static str, act: Act, times: u32) {
        self.shared.script.lock().faults.push(Fault { method, path, act, times });
    }

    /// Nothing happens to calls any more. Those that hang go on hanging.
    pub fn heal(&self) {
        self.shared.script.lock().faults.clear();
    }

    /// Faults that are not used up.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.shared.script.lock().faults.iter().map(|fault| fault.times).sum()
    }

    /// From now on this happens to events.
    pub fn events(&self, events: Events) {
        self.shared.script.lock().events = events;
    }

    /// Ends all event streams that are open.
    pub fn cut_events(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// How many calls with this method and path there were.
    #[must_use]
    pub fn calls(&self, method: &Method, path: &str) -> usize {
        let script = self.shared.script.lock();
        script.calls.iter().filter(|call| call.starts_with(method.as_str()) && call.contains(path)).count()
    }
}

async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        // Cancel-safe: a connection that is not accepted stays in the backlog.
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let answer = service_fn(|request| answer(Arc::clone(&shared), request));
                    let server = hyper::server::conn::http1::Builder::new();
                    // A caller that leaves is nothing to report.
                    drop(server.serve_connection(TokioIo::new(stream), answer).await);
                });
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    let path = request.uri().to_string();
    let act = shared.next(request.method(), &path);
    match act {
        Some(Act::Refuse(status)) => Ok(message(status)),
        Some(Act::Deny(status)) => {
            forward(&shared, request).await?.into_body().collect().await?;
            Ok(message(status))
        }
        Some(Act::Stall) => Ok(Response::new(never_ending())),
        Some(Act::Hang) => std::future::pending().await,
        Some(Act::Late(by)) => {
            tokio::time::sleep(by).await;
            forward(&shared, request).await
        }
        None if path.contains("/events") => {
            Ok(forward(&shared, request).await?.map(|body| meddle(shared, body)))
        }
        None => forward(&shared, request).await,
    }
}

impl Shared {
    /// What happens to this call; counts it.
    fn next(&self, method: &Method, path: &str) -> Option<Act> {
        let mut script = self.script.lock();
        script.calls.push(format!("{method} {path}"));
        let fault = script
            .faults
            .iter_mut()
            .find(|fault| fault.times > 0 && fault.method == *method && path.contains(fault.path))?;
        fault.times -= 1;
        Some(fault.act)
    }

    fn chance(&self, percent: u32) -> bool {
        self.chance.lock().random_range(0..100) < percent
    }
}

async fn forward(shared: &Shared, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    let stream = UnixStream::connect(&shared.engine).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    let response = sender.send_request(request).await?;
    // The connection lives as long as the body that comes over it.
    Ok(response.map(|body| {
        body.map_err(move |error| {
            let _alive = &driver;
            Failure::from(error)
        })
        .boxed_unsync()
    }))
}

fn message(status: u16) -> Response<Body> {
    let text = if status == 304 { Bytes::new() } else { Bytes::from_static(b"{\"message\":\"injected\"}\n") };
    let mut response = Response::new(Full::new(text).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

fn never_ending() -> Body {
    StreamBody::new(stream::pending::<Result<Frame<Bytes>, Failure>>()).boxed_unsync()
}

/// An event stream, line by line, as the script has it.
fn meddle(shared: Arc<Shared>, body: Body) -> Body {
    let (sender, receiver) = mpsc::channel(64);
    let mut reader = JoinSet::new();
    reader.spawn(tell(shared, body, sender));
    let frames = stream::unfold((receiver, reader), |(mut receiver, reader)| async move {
        let line: Bytes = receiver.recv().await?;
        Some((Ok::<_, Failure>(Frame::data(line)), (receiver, reader)))
    });
    StreamBody::new(frames).boxed_unsync()
}

async fn tell(shared: Arc<Shared>, mut body: Body, sender: mpsc::Sender<Bytes>) {
    let (mut cuts, mut read, mut late) = (shared.cuts.subscribe(), BytesMut::new(), JoinSet::new());
    loop {
        // Cancel-safe: a frame that is not taken stays in the body.
        let frame = tokio::select! {
            _ = cuts.changed() => return,
            frame = body.frame() => frame,
            Some(_) = late.join_next(), if !late.is_empty() => continue,
        };
        let Some(Ok(frame)) = frame else { return };
        read.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            let line = read.split_to(end + 1).freeze();
            let events = shared.script.lock().events;
            if events.silent || shared.chance(events.lost) {
                continue;
            }
            let copies = if shared.chance(events.twice) { 2 } else { 1 };
            for _ in 0..copies {
                let (sender, line) = (sender.clone(), line.clone());
                match events.late {
                    Some(by) if shared.chance(50) => {
                        late.spawn(async move {
                            tokio::time::sleep(by).await;
                            drop(sender.send(line).await);
                        });
                    }
                    _ => drop(sender.send(line).await),
                }
            }
        }
    }
}
