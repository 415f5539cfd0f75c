//! Tunnels: after a [change of protocol](super::switch) both ends talk bytes. The lease is held until both directions have
//! closed, and so is the connection's place among the others. When the gateway or the replica goes, a WebSocket is told so
//! with a close frame (1001) in either direction, between two frames.

use std::{any::Any, io, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio_util::sync::CancellationToken;

use super::{
    body::Hold,
    frames::{self, Frames},
    h2c, wire,
};
use crate::http1::server::Switch;

/// After a tunnel was told to end: to finish the frame that is under way, and for the other end's farewell.
const FAREWELL: Duration = Duration::from_secs(1);

/// Read at once, as [`tokio::io::copy_bidirectional`] does.
const BUFFER: usize = 8 * 1024;

/// Carries bytes both ways until both ends have closed, one breaks, or the gateway (`cut`) or the replica goes.
pub(crate) async fn tunnel(
    mut client: Client,
    replica: Replica,
    to: HeaderValue,
    cut: CancellationToken,
    hold: Arc<Hold>,
) {
    let end = End { gateway: cut, replica: hold.replica().cut.clone() };
    let is_websocket = to.as_bytes().eq_ignore_ascii_case(b"websocket");
    let ended = match &mut client {
        Client::Http1(switch) => match switch.switched().await {
            Some(client) => joined(client, replica, is_websocket, &end).await,
            None => Err(io::ErrorKind::NotConnected.into()),
        },
        Client::Http2(stream, _) => match stream.await {
            Ok(client) => joined(TokioIo::new(client), replica, is_websocket, &end).await,
            Err(error) => Err(io::Error::other(error)),
        },
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "tunnel broke");
    }
    drop((client, hold));
}

/// The client's end of a tunnel, which is there once the client has its answer.
#[derive(Debug)]
pub(crate) enum Client {
    /// A connection of its own.
    Http1(Switch),
    /// A stream, and what its connection has given it.
    Http2(OnUpgrade, #[expect(dead_code, reason = "held, and dropped")] Option<Held>),
}

/// What a request that may become a tunnel holds of its connection over HTTP/2, for as long as the tunnel is there.
#[derive(Debug, Clone)]
pub(crate) struct Held(#[expect(dead_code, reason = "held, and dropped")] Arc<dyn Any + Send + Sync>);

impl Held {
    /// This is held by a request which may become a tunnel.
    pub(crate) fn by<B>(request: &mut Request<B>, what: impl FnOnce() -> Arc<dyn Any + Send + Sync>) {
        if request.method() == Method::CONNECT {
            request.extensions_mut().insert(Self(what()));
        }
    }
}

impl Client {
    /// Whether the request may wish for another protocol, from what its connection knows.
    pub(crate) fn may_switch<B>(request: &Request<B>) -> bool {
        request.method() == Method::CONNECT || Switch::is_there(request)
    }

    /// The client's end, of one who wishes for another protocol.
    pub(crate) fn of<B>(request: &mut Request<B>) -> Self {
        let held = request.extensions_mut().remove();
        Switch::of(request).map_or_else(|| Self::Http2(hyper::upgrade::on(request), held), Self::Http1)
    }
}

/// The replica's end of a tunnel.
#[derive(Debug)]
pub(crate) enum Replica {
    /// A connection of its own.
    Http1(wire::Tunnel),
    /// A stream, and its room on the connection.
    Http2(OnUpgrade, Option<h2c::Place>),
}

async fn joined<C>(client: C, replica: Replica, is_websocket: bool, end: &End) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    match replica {
        Replica::Http1(replica) => carry(client, replica, is_websocket, end).await,
        Replica::Http2(replica, _place) => {
            let replica = replica.await.map_err(io::Error::other)?;
            carry(client, TokioIo::new(replica), is_websocket, end).await
        }
    }
}

async fn carry<A, B>(client: A, replica: B, is_websocket: bool, end: &End) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    if is_websocket { websocket(client, replica, end).await } else { plain(client, replica, end).await }
}

/// What ends a tunnel besides its two ends.
#[derive(Debug)]
struct End {
    gateway: CancellationToken,
    replica: CancellationToken,
}

impl End {
    async fn told(&self) {
        tokio::select! {
            () = self.gateway.cancelled() => {}
            () = self.replica.cancelled() => {}
        }
    }

    fn is_told(&self) -> bool {
        self.gateway.is_cancelled() || self.replica.is_cancelled()
    }
}

/// Bytes of which we know nothing: cut where they are.
async fn plain<A, B>(mut client: A, mut replica: B, end: &End) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    tokio::select! {
        ended = tokio::io::copy_bidirectional(&mut client, &mut replica) => ended.map(drop),
        () = end.told() => Ok(()),
    }
}

async fn websocket<A, B>(client: A, replica: B, end: &End) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let ((client_reads, client_writes), (replica_reads, replica_writes)) = (split(client), split(replica));
    let (goodbye_client, goodbye_replica) = (frames::close_from_server(), frames::close_from_client());
    let down = Direction::new(replica_reads, client_writes, end).run(&goodbye_client);
    let up = Direction::new(client_reads, replica_writes, end).run(&goodbye_replica);
    let both = async { tokio::try_join!(down, up).map(drop) };
    let late = async {
        end.told().await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        ended = both => ended,
        // Whoever neither finishes its frame nor says goodbye is left.
        () = late => Ok(()),
    }
}

/// One direction of a WebSocket.
struct Direction<'e, R, W> {
    from: ReadHalf<R>,
    to: WriteHalf<W>,
    end: &'e End,
    frames: Frames,
}

impl<'e, R: AsyncRead, W: AsyncWrite> Direction<'e, R, W> {
    fn new(from: ReadHalf<R>, to: WriteHalf<W>, end: &'e End) -> Self {
        Self { from, to, end, frames: Frames::default() }
    }

    /// Passes bytes on to their end; once told, puts `close` behind the current frame and then only listens.
    async fn run(mut self, close: &[u8]) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        let end = self.end;
        let mut told = std::pin::pin!(end.told());
        loop {
            let may_close = self.frames.at_boundary() && !self.frames.is_closed();
            let read = tokio::select! {
                // Reading is cancel-safe: what was not read stays where it is.
                read = self.from.read(&mut buffer) => read,
                // All tunnels are told by one token: registered with it once, and not for each message.
                () = told.as_mut(), if may_close => return self.say(close, &mut buffer).await,
            };
            match read {
                Ok(0) if may_close && self.end.is_told() => return self.say(close, &mut buffer).await,
                Ok(0) => return self.to.shutdown().await,
                Ok(length) => {
                    self.frames.pass(&buffer[..length]);
                    self.to.write_all(&buffer[..length]).await?;
                    self.to.flush().await?;
                }
                // The replica may go before it has said so.
                Err(_) if may_close && self.end.is_told() => return self.say(close, &mut buffer).await,
                Err(error) => return Err(error),
            }
        }
    }

    async fn say(mut self, close: &[u8], buffer: &mut [u8]) -> io::Result<()> {
        self.to.write_all(close).await?;
        self.to.flush().await?;
        // The answer to the close frame that the other direction has sent; nobody is there any more to read it.
        while !self.frames.is_closed() {
            match self.from.read(buffer).await {
                Ok(0) | Err(_) => break,
                Ok(length) => self.frames.pass(&buffer[..length]),
            }
        }
        self.to.shutdown().await
    }
}
