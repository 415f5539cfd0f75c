//! HTTP/2: a few connections that all workers share, a stream for each request. `[IO]`
//! Absent: a bound on streams; there are as many as there are workers.

use std::{fmt, io};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rand::Rng;
use tokio::{sync::Mutex, task::JoinSet};

use super::{dial::Dial, worker::Went};
use crate::{
    aim::{Kind, Prepared},
    record::{Answer, Failure, Told},
    target::Target,
    wire::head::tell,
};

/// Connections, by [`Prepared::link`] and number.
pub(crate) struct Pool {
    connections: Vec<Vec<Mutex<Option<Connection>>>>,
}

struct Connection {
    sender: http2::SendRequest<Full<Bytes>>,
    /// Drives the socket; ends with the connection.
    _driver: JoinSet<()>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    pub(crate) fn new(links: usize, connections: usize) -> Self {
        let connections = || (0..connections.max(1)).map(|_| Mutex::new(None)).collect();
        Self { connections: (0..links).map(|_| connections()).collect() }
    }

    /// Sends a request and reads the answer to its end; what a connection that is going away gave back goes out on a new one.
    pub(super) async fn exchange(
        &self,
        worker: usize,
        aim: &Prepared,
        number: u64,
        random: &mut impl Rng,
        dial: &dyn Dial,
    ) -> Went {
        let mut went = Went::failed(Failure::Connect);
        let Ok(mut request) = aim.request(number, random) else { return Went::failed(Failure::Reset) };
        let connections = &self.connections[aim.link];
        let slot = &connections[worker % connections.len()];
        loop {
            let (mut sender, opened) = match sender(slot, &aim.target, dial).await {
                Ok(found) => found,
                Err(error) => return went.because(error),
            };
            went.opened += u32::from(opened);
            let mut error = match sender.try_send_request(request).await {
                Ok(response) => return finish(response, aim.kind, went).await,
                Err(error) => error,
            };
            let unsent = error.take_message();
            match unsent.filter(|_| !opened) {
                Some(given_back) => request = given_back,
                None => {
                    let words = chain(error.into_error());
                    let hint = if opened { "; does the server speak HTTP/2?" } else { "" };
                    return Went { answer: Answer::Failed(Failure::Reset), ..went }
                        .because(format!("{words}{hint}"));
                }
            }
            went.stale += 1;
        }
    }
}

/// A way to send over a connection, and whether it was opened for that.
async fn sender(
    slot: &Mutex<Option<Connection>>,
    target: &Target,
    dial: &dyn Dial,
) -> io::Result<(http2::SendRequest<Full<Bytes>>, bool)> {
    let mut slot = slot.lock().await;
    if let Some(connection) = slot.as_mut()
        && connection.sender.ready().await.is_ok()
    {
        return Ok((connection.sender.clone(), false));
    }
    *slot = None;
    let io = TokioIo::new(dial.dial(target, true).await?);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(io::Error::other)?;
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    *slot = Some(Connection { sender: sender.clone(), _driver: driver });
    Ok((sender, true))
}

/// Reads the body to its end, and the trailers behind it.
async fn finish(response: Response<Incoming>, kind: Kind, went: Went) -> Went {
    let (head, mut body) = response.into_parts();
    let mut status = grpc_status(&head.headers);
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                return Went { answer: Answer::Failed(Failure::Reset), ..went }.because(chain(error));
            }
        };
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        status = frame.trailers_ref().and_then(grpc_status).or(status);
    }
    let silent = kind == Kind::Grpc && status.is_none();
    let grpc = match kind {
        // An answer without a status is one that was cut off: UNKNOWN, as clients of gRPC have it.
        Kind::Grpc => Some(status.unwrap_or(2)),
        Kind::Http | Kind::WebSocketEcho | Kind::WebSocketHold(_) => None,
    };
    Went {
        answer: Answer::Status { code: head.status.as_u16(), grpc, bytes },
        told: told(&head.headers),
        words: silent.then(|| "no grpc-status came; does the server speak gRPC?".to_owned()),
        ..went
    }
}

/// An error with its causes.
fn chain(error: hyper::Error) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

fn grpc_status(headers: &HeaderMap) -> Option<u8> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// What the server says about itself.
pub(super) fn told(headers: &HeaderMap) -> Told {
    let mut told =
        Told { cold: headers.get("x-tidegate-cold").is_some_and(|value| value == "1"), ..Told::default() };
    headers.get_all("server-timing").iter().for_each(|value| tell(&mut told, value.as_bytes()));
    told
}
