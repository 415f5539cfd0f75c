//! Asks a replica whether it is well: by a connect, a GET, a call of gRPC, or a command in it.
//! [`until_ready`] dials densely at first, because a slow poll is time that a waiting request loses; it must be called
//! only once the engine says running (an earlier dial to a bridge address costs a second of ARP).

mod grpc;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tidegate_config::{name::ReplicaId, spec::Protocol};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::Runner;

/// How long a connection is looked at that must stay open.
const OPEN_FOR: Duration = Duration::from_millis(50);

/// Whom to ask, and what.
#[derive(Clone)]
pub struct Target {
    /// Where the replica listens.
    pub address: SocketAddr,
    /// What is asked once it accepts connections.
    pub check: Check,
}

/// What is asked of a replica that accepts connections.
#[derive(Clone)]
pub enum Check {
    /// Nothing more.
    Tcp,
    /// A `GET /` that must answer, whatever the status: for a published port, which takes connections on behalf of a
    /// replica that does not listen yet.
    AnyAnswer {
        /// HTTP as the replica speaks it.
        protocol: Protocol,
    },
    /// The connection must stay open for a moment, or bring something: for a published port of a replica that speaks
    /// no HTTP.
    StaysOpen,
    /// A GET that must answer 2xx or 3xx.
    Http {
        /// Where; usually the target's address.
        address: SocketAddr,
        /// Path and query.
        path: String,
        /// HTTP as the replica speaks it.
        protocol: Protocol,
    },
    /// A call of gRPC's health protocol that must say `SERVING`.
    Grpc {
        /// Where; usually the target's address.
        address: SocketAddr,
        /// Of which service; the empty name stands for the whole server.
        service: String,
    },
    /// A command in the replica that must end with 0.
    Exec {
        /// Who runs it.
        runner: Arc<dyn Runner>,
        /// In which replica.
        id: ReplicaId,
        /// The command and its arguments.
        command: Vec<String>,
    },
}

/// Why a probe was not passed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection.
    #[error("no connection to {address}: {why}")]
    Connect {
        /// The address that was dialled.
        address: SocketAddr,
        /// As in `connection refused`.
        why: String,
    },
    /// We could not even ask: out of ports, file descriptors or memory. Says nothing about whom we asked.
    #[error("{address} could not be asked: {why}")]
    Ours {
        /// The address that was to be dialled.
        address: SocketAddr,
        /// What we lack.
        why: String,
    },
    /// It answered, but not well.
    #[error("GET {path} answered {status}")]
    Status {
        /// Path and query.
        path: String,
        /// Neither 2xx nor 3xx.
        status: StatusCode,
    },
    /// The exchange broke.
    #[error("GET {path} failed: {why}")]
    Http {
        /// Path and query.
        path: String,
        /// What broke.
        why: String,
    },
    /// The health protocol did not say that the service serves.
    #[error("the gRPC health of {service:?}: {why}")]
    Grpc {
        /// Which service; the empty name stands for the whole server.
        service: String,
        /// What it said instead.
        why: String,
    },
    /// The command ended with something other than 0.
    #[error("`{command}` ended with {code}: {output}")]
    Exit {
        /// The command and its arguments.
        command: String,
        /// Its exit code.
        code: i64,
        /// The beginning of what it printed.
        output: String,
    },
    /// The command could not be run.
    #[error("`{command}` could not be run: {why}")]
    Exec {
        /// The command and its arguments.
        command: String,
        /// The runner's words.
        why: String,
    },
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl Failure {
    /// Whether it says something about us instead of whom we asked.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Ours { .. })
    }

    fn of_dial(address: SocketAddr, error: &io::Error) -> Self {
        let ours = [libc::EMFILE, libc::ENFILE, libc::EADDRNOTAVAIL, libc::ENOBUFS, libc::ENOMEM];
        if error.raw_os_error().is_some_and(|code| ours.contains(&code)) {
            return Self::Ours { address, why: error.to_string() };
        }
        let why = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".into(),
            io::ErrorKind::HostUnreachable => "host unreachable".into(),
            _ => error.to_string(),
        };
        Self::Connect { address, why }
    }
}

/// A replica that did not become ready in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not ready after {waited:?}: {last}")]
pub struct NotReady {
    /// How long it was asked.
    pub waited: Duration,
    /// What the last probe said.
    pub last: Failure,
}

/// Asks once.
///
/// # Errors
/// What happened instead of a good answer.
pub async fn once(target: &Target, limit: Duration) -> Result<(), Failure> {
    timeout(limit, ask(target, limit)).await.unwrap_or(Err(Failure::Timeout(limit)))
}

/// Asks until `successes` probes in a row were passed, for `deadline` at most; each probe may take `limit`.
///
/// # Errors
/// What the last probe said when the deadline passed.
pub async fn until_ready(
    target: &Target,
    successes: u32,
    limit: Duration,
    deadline: Duration,
) -> Result<(), NotReady> {
    let started = Instant::now();
    let mut passed = 0;
    let mut last = Failure::Timeout(deadline);
    let asking = async {
        loop {
            match once(target, limit).await {
                Ok(()) => passed += 1,
                Err(failure) => (passed, last) = (0, failure),
            }
            if passed >= successes {
                return;
            }
            sleep(pause(&target.check, &last, started.elapsed())).await;
        }
    };
    let outcome = timeout_at(started + deadline, asking).await;
    outcome.map_err(|_| NotReady { waited: deadline, last })
}

/// How long to wait before the next dial, this long after the first.
#[must_use]
pub fn backoff(elapsed: Duration) -> Duration {
    match elapsed.as_millis() {
        0..500 => Duration::from_millis(2),
        500..5000 => Duration::from_millis(10),
        _ => Duration::from_millis(50),
    }
}

/// A command is dear: once the replica accepts connections it is not asked as densely as a connect.
fn pause(check: &Check, last: &Failure, elapsed: Duration) -> Duration {
    match (check, last) {
        (Check::Exec { .. }, Failure::Connect { .. })
        | (
            Check::Tcp | Check::StaysOpen | Check::AnyAnswer { .. } | Check::Http { .. } | Check::Grpc { .. },
            _,
        ) => backoff(elapsed),
        (Check::Exec { .. }, _) => Duration::from_millis(100).max(elapsed / 10).min(Duration::from_secs(1)),
    }
}

async fn ask(target: &Target, limit: Duration) -> Result<(), Failure> {
    // Also before a command: a replica that does not listen is not ready, and a dial costs nothing.
    let stream = dial(target.address).await?;
    match &target.check {
        Check::Tcp => Ok(()),
        Check::StaysOpen => stays_open(stream, target.address).await,
        Check::AnyAnswer { protocol } => get(stream, target.address, "/", *protocol).await.map(drop),
        Check::Http { address, path, protocol } => {
            let stream = if *address == target.address { stream } else { dial(*address).await? };
            let status = get(stream, *address, path, *protocol).await?;
            let well = status.is_success() || status.is_redirection();
            if well { Ok(()) } else { Err(Failure::Status { path: path.clone(), status }) }
        }
        Check::Grpc { address, service } => {
            let stream = if *address == target.address { stream } else { dial(*address).await? };
            grpc::check(stream, &address.to_string(), service).await
        }
        Check::Exec { runner, id, command } => {
            drop(stream);
            run(&**runner, id, command, limit).await
        }
    }
}

/// Whoever publishes a port for a replica that does not listen takes the connection and closes it at once.
async fn stays_open(mut stream: TcpStream, address: SocketAddr) -> Result<(), Failure> {
    let mut byte = [0];
    match timeout(OPEN_FOR, stream.read(&mut byte)).await {
        Err(_) | Ok(Ok(1..)) => Ok(()),
        Ok(Ok(0)) => Err(Failure::Connect { address, why: "closed at once".into() }),
        Ok(Err(error)) => Err(Failure::Connect { address, why: error.to_string() }),
    }
}

async fn dial(address: SocketAddr) -> Result<TcpStream, Failure> {
    TcpStream::connect(address).await.map_err(|error| Failure::of_dial(address, &error))
}

async fn get(
    stream: TcpStream,
    address: SocketAddr,
    path: &str,
    protocol: Protocol,
) -> Result<StatusCode, Failure> {
    let broke = |why: &dyn std::fmt::Display| Failure::Http { path: path.into(), why: why.to_string() };
    let version = match protocol {
        Protocol::Http1 | Protocol::Tcp => Version::HTTP_11,
        Protocol::H2c => Version::HTTP_2,
    };
    let (uri, host) = match protocol {
        Protocol::Http1 | Protocol::Tcp => (path.to_owned(), Some(address.to_string())),
        Protocol::H2c => (format!("http://{address}{path}"), None),
    };
    let mut request = Request::get(uri).version(version).header("user-agent", "tidegate-probe");
    if let Some(host) = host {
        request = request.header("host", host);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| broke(&e))?;
    let io = TokioIo::new(stream);
    let answered = match protocol {
        Protocol::Http1 | Protocol::Tcp => {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(io).await.map_err(|e| broke(&e))?;
            exchange(sender.send_request(request), connection).await
        }
        Protocol::H2c => {
            let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                .await
                .map_err(|e| broke(&e))?;
            exchange(sender.send_request(request), connection).await
        }
    };
    answered.map_err(|e| broke(&e))
}

/// Drives a connection until its one request is answered.
async fn exchange<B>(
    answer: impl Future<Output = hyper::Result<http::Response<B>>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> hyper::Result<StatusCode> {
    let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
    tokio::select! {
        biased;
        response = &mut answer => Ok(response?.status()),
        // A connection that ended may have left an answer behind.
        _ = &mut connection => Ok(answer.await?.status()),
    }
}

async fn run(
    runner: &dyn Runner,
    id: &ReplicaId,
    command: &[String],
    limit: Duration,
) -> Result<(), Failure> {
    let line = command.join(" ");
    match runner.exec(id, command, limit).await {
        Ok(done) if done.code == 0 => Ok(()),
        Ok(done) => {
            Err(Failure::Exit { command: line, code: done.code, output: done.output.trim().to_owned() })
        }
        Err(error) => Err(Failure::Exec { command: line, why: error.message }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        task::JoinSet,
    };

    #[test]
    fn the_dial_is_dense_at_first() {
        for (elapsed, pause) in [(0, 2), (499, 2), (500, 10), (4999, 10), (5000, 50), (3_600_000, 50)] {
            assert_eq!(backoff(Duration::from_millis(elapsed)), Duration::from_millis(pause), "{elapsed} ms");
        }
    }

    #[test]
    fn what_we_lack_is_not_held_against_whom_we_asked() {
        let at = ([127, 0, 0, 1], 80).into();
        for (code, ours) in [(libc::EADDRNOTAVAIL, true), (libc::EMFILE, true), (libc::ECONNREFUSED, false)] {
            let failure = Failure::of_dial(at, &io::Error::from_raw_os_error(code));
            assert_eq!(failure.is_ours(), ours, "{failure}");
        }
    }

    /// A server that answers its connections with these status lines, the last one for ever.
    async fn server(tasks: &mut JoinSet<()>, answers: Vec<&'static str>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tasks.spawn(async move {
            for n in 0.. {
                let (mut stream, _) = listener.accept().await.expect("accepted");
                let mut request = [0; 1024];
                let read = stream.read(&mut request).await.unwrap_or(0);
                if read > 0 {
                    let status = answers[n.min(answers.len() - 1)];
                    let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                    stream.write_all(head.as_bytes()).await.expect("written");
                }
            }
        });
        address
    }

    fn http(address: SocketAddr) -> Target {
        let check = Check::Http { address, path: "/healthz".into(), protocol: Protocol::Http1 };
        Target { address, check }
    }

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn answers_are_judged_by_status() {
        for (status, words) in [
            ("200 OK", None),
            ("302 Found", None),
            ("404 Not Found", Some("GET /healthz answered 404 Not Found")),
            ("503 Service Unavailable", Some("GET /healthz answered 503 Service Unavailable")),
        ] {
            let mut tasks = JoinSet::new();
            let target = http(server(&mut tasks, vec![status]).await);
            let outcome = once(&target, LIMIT).await.err().map(|f| f.to_string());
            assert_eq!(outcome.as_deref(), words, "{status}");
        }
    }

    #[tokio::test]
    async fn any_answer_is_one_and_a_connection_alone_is_none() {
        for (status, well) in [("200 OK", true), ("404 Not Found", true), ("503 Service Unavailable", true)] {
            let mut tasks = JoinSet::new();
            let address = server(&mut tasks, vec![status]).await;
            let target = Target { address, check: Check::AnyAnswer { protocol: Protocol::Http1 } };
            assert_eq!(once(&target, LIMIT).await.is_ok(), well, "{status}");
        }
        // As a published port does before its container listens: it takes the connection and closes it.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(stream);
            }
        });
        once(&Target { address, check: Check::Tcp }, LIMIT).await.expect("the connection is taken");
        for protocol in [Protocol::Http1, Protocol::H2c] {
            let target = Target { address, check: Check::AnyAnswer { protocol } };
            let failed = once(&target, LIMIT).await.expect_err("nobody answers");
            assert!(matches!(failed, Failure::Http { .. }), "{failed:?}");
        }
    }

    #[tokio::test]
    async fn any_answer_over_http2_is_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (stream, _) = listener.accept().await.expect("accepted");
            let answer = hyper::service::service_fn(|_| async {
                let response = http::Response::builder().status(404).body(Empty::<Bytes>::new());
                Ok::<_, std::convert::Infallible>(response.expect("a response"))
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), answer).await;
        });
        let target = Target { address, check: Check::AnyAnswer { protocol: Protocol::H2c } };
        once(&target, LIMIT).await.expect("any status is an answer");
    }

    #[tokio::test]
    async fn a_server_of_grpc_says_how_its_services_are() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ =
                    server.serve_connection(TokioIo::new(stream), hyper::service::service_fn(health)).await;
            }
        });
        for (service, words) in [
            ("", None),
            ("good", None),
            ("bad", Some("the gRPC health of \"bad\": NOT_SERVING")),
            ("nobody", Some("the gRPC health of \"nobody\": no such service (grpc-status 5)")),
        ] {
            let target = Target { address, check: Check::Grpc { address, service: service.into() } };
            let outcome = once(&target, LIMIT).await.err().map(|failure| failure.to_string());
            assert_eq!(outcome.as_deref(), words, "{service:?}");
        }
    }

    /// A health service: the whole server and `good` serve, `bad` does not, others are not there.
    async fn health(
        request: Request<hyper::body::Incoming>,
    ) -> Result<
        http::Response<http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>>,
        hyper::Error,
    > {
        use http_body_util::{BodyExt, Full};
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        let question = request.into_body().collect().await?.to_bytes();
        let name = question.get(7..).unwrap_or_default();
        let serving = match name {
            b"" | b"good" => Some(1),
            b"bad" => Some(2),
            _ => None,
        };
        let code = if serving.is_some() { "0" } else { "5" };
        let trailers = http::HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            http::HeaderValue::from_static(code),
        )]);
        let message = serving.map(|status| Bytes::from(vec![0, 0, 0, 0, 2, 8, status])).unwrap_or_default();
        let body = Full::new(message).with_trailers(async { Some(Ok(trailers)) });
        Ok(http::Response::new(body.boxed()))
    }

    #[tokio::test]
    async fn ready_takes_successes_in_a_row() {
        let mut tasks = JoinSet::new();
        let answers = vec!["503 Service Unavailable", "200 OK", "503 Service Unavailable", "200 OK"];
        let target = http(server(&mut tasks, answers).await);
        until_ready(&target, 2, LIMIT, LIMIT).await.expect("it becomes ready");
    }

    #[tokio::test]
    async fn nothing_there_is_said_so() {
        let address = {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            listener.local_addr().expect("bound")
        };
        let target = Target { address, check: Check::Tcp };
        let failed =
            until_ready(&target, 1, LIMIT, Duration::from_millis(20)).await.expect_err("nobody listens");
        assert_eq!(failed.last.to_string(), format!("no connection to {address}: connection refused"));
    }
}
