//! One connection and the requests on it, one at a time. [`worker`] is run once per connection by [`send`](crate::send)
//! and connects when its first request comes, and again after a failure. `[IO]`
//! Absent: retries. One exception: a request that a stale connection gave back unsent goes out on a fresh one.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    record::{Answer, Failure},
    send::Sending,
};

/// A request to send now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    /// When the plan wanted it sent.
    pub(crate) due: Instant,
    /// When its connection had last become free, if the request had to wait for that.
    pub(crate) free: Option<Instant>,
}

/// A finished request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) worker: usize,
    pub(crate) job: Job,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    pub(crate) answer: Answer,
    /// Whether a connection was opened for it.
    pub(crate) opened: bool,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

struct Connection {
    sender: Sender,
    /// Drives the socket; ends with the connection.
    _driver: JoinSet<()>,
}

/// Sends what `jobs` brings until it is closed.
pub(crate) async fn worker(
    worker: usize,
    sending: std::sync::Arc<Sending>,
    mut jobs: mpsc::Receiver<Job>,
    done: mpsc::Sender<Done>,
) {
    let mut connection = None;
    while let Some(job) = jobs.recv().await {
        let begun = Instant::now();
        let fresh = connection.as_ref().is_none_or(Connection::is_closed);
        let mut opened = false;
        let exchange = exchange(&mut connection, fresh, &sending, &mut opened);
        let answer = match timeout(sending.timeout, exchange).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(failure)) => Answer::Failed(failure),
            Err(_) => Answer::Failed(Failure::Timeout),
        };
        if matches!(answer, Answer::Failed(_)) {
            connection = None;
        }
        let result = Done { worker, job, begun, ended: Instant::now(), answer, opened };
        if done.send(result).await.is_err() {
            return;
        }
    }
}

async fn exchange(
    slot: &mut Option<Connection>,
    fresh: bool,
    sending: &Sending,
    opened: &mut bool,
) -> Result<Answer, Failure> {
    let mut request = sending.request.clone();
    if !fresh && let Some(connection) = slot {
        match connection.send(request).await {
            Ok(response) => return finish(response).await,
            Err(mut error) => match error.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(Failure::Reset),
            },
        }
    }
    let connection = slot.insert(Connection::open(sending).await.map_err(|_| Failure::Connect)?);
    *opened = true;
    let response = connection.send(request).await.map_err(|_| Failure::Reset)?;
    finish(response).await
}

/// Reads the body to its end.
async fn finish(response: Response<Incoming>) -> Result<Answer, Failure> {
    let code: StatusCode = response.status();
    let mut body = response.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure::Reset)?;
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(Answer::Status { code, bytes })
}

impl Connection {
    async fn open(sending: &Sending) -> io::Result<Self> {
        let stream = dial(sending).await?;
        // Else a request may wait for the acknowledgement of the one before.
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        let mut driver = JoinSet::new();
        let sender = if sending.h2c {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), io).await.map_err(io::Error::other)?;
            driver.spawn(async move { drop(connection.await) });
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
            driver.spawn(async move { drop(connection.await) });
            Sender::Http1(sender)
        };
        Ok(Self { sender, _driver: driver })
    }

    fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                // The driver may still be tidying up after the last answer; a closed connection shows below.
                let _ = sender.ready().await;
                sender.try_send_request(request).await
            }
            Sender::Http2(sender) => {
                let _ = sender.ready().await;
                sender.try_send_request(request).await
            }
        }
    }
}

async fn dial(sending: &Sending) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in &sending.target.addresses {
        match timeout(Duration::from_secs(10), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}
