//! Asks a running gateway: HTTP/1.1 over its admin socket, or over TCP with a token; a connection per question.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::{
    Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, HOST},
};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tidegate_config::name::ServiceName;
use tokio::{net::UnixStream, task::JoinSet, time::timeout};

use super::{
    Gateway,
    remote::{Remote, Stream},
};
use crate::control::status::ServiceStatus;

/// The longest that a question which starts nothing may take.
const PROMPT: Duration = Duration::from_secs(15);

/// Runs a client command on a small runtime of its own.
pub(super) fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    wait_for(command)?
}

/// Waits for something where nothing else goes on.
pub(super) fn wait_for<T>(what: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.context("cannot make a runtime")?.block_on(what))
}

/// A gateway that can be asked.
#[derive(Debug)]
pub(super) struct Client {
    line: Line,
}

/// How it is reached.
#[derive(Debug)]
enum Line {
    Socket(PathBuf),
    Remote(Remote),
}

/// An answer whose body comes piece by piece.
#[derive(Debug)]
pub(super) struct Answer {
    response: Response<Incoming>,
    /// Moves the bytes; ends with this.
    _connection: JoinSet<()>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl Client {
    pub(super) fn new(gateway: &Gateway) -> Self {
        let line = match Remote::of(gateway) {
            Some(remote) => Line::Remote(remote),
            None => Line::Socket(gateway.socket()),
        };
        Self { line }
    }

    /// Every service.
    pub(super) async fn services<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        prompt(self.json(Method::GET, "/v1/services")).await
    }

    /// Every host.
    pub(super) async fn hosts<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        prompt(self.json(Method::GET, "/v1/hosts")).await
    }

    /// Tells a host what to do and waits until it has.
    pub(super) async fn order(&self, host: &str, order: &str) -> anyhow::Result<Value> {
        self.json(Method::POST, &format!("/v1/hosts/{host}/{order}")).await
    }

    /// What the gateway runs with.
    pub(super) async fn configuration<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        prompt(self.json(Method::GET, "/v1/configuration")).await
    }

    /// One service, in full.
    pub(super) async fn service<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<T> {
        prompt(async { self.open(Method::GET, name, "").await?.json().await }).await
    }

    /// Asks for something to be done to a service and waits until it is.
    pub(super) async fn ask(&self, name: &str, what: &str) -> anyhow::Result<Value> {
        self.open(Method::POST, name, what).await?.json().await
    }

    /// An answer about a service; one that nobody knows is answered with the names that exist.
    pub(super) async fn open(&self, method: Method, name: &str, rest: &str) -> anyhow::Result<Answer> {
        // What cannot be a name would not be a path either.
        if name.parse::<ServiceName>().is_err() {
            return Err(self.unknown(&format!("no service is called {name:?}")).await);
        }
        let answer = self.send(method, &format!("/v1/services/{name}{rest}")).await?;
        match answer.response.status() {
            StatusCode::NOT_FOUND => Err(self.unknown(&answer.refusal().await).await),
            StatusCode::CONFLICT => {
                bail!("{name}: {}; `tidegate explain {name}` says more", answer.refusal().await)
            }
            status if !status.is_success() => bail!("{}", answer.refusal().await),
            _ => Ok(answer),
        }
    }

    async fn json<T: DeserializeOwned>(&self, method: Method, path: &str) -> anyhow::Result<T> {
        let answer = self.send(method, path).await?;
        if !answer.response.status().is_success() {
            bail!("{}", answer.refusal().await);
        }
        answer.json().await
    }

    async fn send(&self, method: Method, path: &str) -> anyhow::Result<Answer> {
        let request = Request::builder().method(method).uri(path);
        let (stream, request): (Box<dyn Stream>, _) = match &self.line {
            Line::Socket(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(socket, error))?;
                (Box::new(stream), request.header(HOST, "tidegate"))
            }
            Line::Remote(remote) => {
                let token = remote.authorization()?;
                (remote.connect().await?, request.header(HOST, remote.host()).header(AUTHORIZATION, token))
            }
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.context(Self::CUT_OFF)?;
        let mut tasks = JoinSet::new();
        // Whatever breaks it shows at the request or its body too.
        tasks.spawn(async { drop(connection.await) });
        let request = request.body(Empty::<Bytes>::new()).context("not a request")?;
        let response = sender.send_request(request).await.context(Self::CUT_OFF)?;
        Ok(Answer { response, _connection: tasks })
    }

    /// The gateway's words about an unknown service, and the names that would do.
    async fn unknown(&self, words: &str) -> anyhow::Error {
        let names: Vec<String> = match self.services::<Vec<ServiceStatus>>().await {
            Ok(services) => services.into_iter().map(|service| service.service).collect(),
            Err(error) => return error,
        };
        if names.is_empty() {
            return anyhow!("{words}; the gateway's file has no services");
        }
        anyhow!("{words}; there is {}", names.join(", "))
    }

    const CUT_OFF: &str = "the gateway closed the connection; its log says why";
}

impl Answer {
    /// The next piece of the body; `None` at its end.
    pub(super) async fn piece(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            match self.response.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(bytes) = frame.context(Client::CUT_OFF)?.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    async fn json<T: DeserializeOwned>(self) -> anyhow::Result<T> {
        let body = self.response.into_body().collect().await.context(Client::CUT_OFF)?.to_bytes();
        serde_json::from_slice(&body)
            .context("the gateway's answer is not understood; are both of the same version?")
    }

    /// What the gateway says about an answer that is none.
    async fn refusal(self) -> String {
        let status = self.response.status();
        self.json::<Refusal>()
            .await
            .map_or_else(|_| format!("the gateway answered {status}"), |refusal| refusal.error)
    }
}

async fn prompt<T>(question: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    timeout(PROMPT, question).await.unwrap_or_else(|_| {
        Err(anyhow!("the gateway did not answer within {PROMPT:?}; its log says what it does"))
    })
}

fn unreachable(socket: &Path, error: io::Error) -> anyhow::Error {
    let path = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => anyhow!(
            "no gateway answers on {path}; is \"tidegate up\" running? (--state or --socket names another)"
        ),
        io::ErrorKind::PermissionDenied => {
            anyhow!("no permission to use {path}; ask as the user that the gateway runs as, or as root")
        }
        _ => anyhow::Error::new(error).context(format!("cannot connect to {path}")),
    }
}
