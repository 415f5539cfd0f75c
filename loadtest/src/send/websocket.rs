//! WebSockets: opening one, a message there and back, holding one. `[IO]`

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rand::Rng;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use super::dial::{Dial, Io};
use crate::{
    aim::Prepared,
    record::{Answer, Failure},
};

pub(crate) type Socket = WebSocketStream<Io>;

/// What comes of a socket that is only opened.
pub(crate) const OPENED: Answer = Answer::Status { code: 101, grpc: None, bytes: 0 };

/// Opens one; a server that will not have it answers with something else than 101.
pub(crate) async fn open(
    aim: &Prepared,
    number: u64,
    random: &mut impl Rng,
    dial: &dyn Dial,
) -> Result<Socket, Answer> {
    let stream = dial.dial(&aim.target, false).await.map_err(|_| Answer::Failed(Failure::Connect))?;
    let broken = Answer::Failed(Failure::Reset);
    let wanted = aim.request(number, random).map_err(|_| broken)?;
    let scheme = if aim.target.secure { "wss" } else { "ws" };
    let path = wanted.uri().path_and_query().map_or("/", |path| path.as_str());
    let host = wanted.uri().authority().map_or("", |authority| authority.as_str());
    let mut request = format!("{scheme}://{host}{path}").into_client_request().map_err(|_| broken)?;
    request.headers_mut().extend(wanted.headers().clone());
    match client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => {
            Err(Answer::Status { code: response.status().as_u16(), grpc: None, bytes: 0 })
        }
        Err(_) => Err(broken),
    }
}

/// Sends a message and waits for the next one that comes back.
pub(crate) async fn echo(socket: &mut Socket, message: Vec<u8>) -> Result<Answer, Failure> {
    let message = match String::from_utf8(message) {
        Ok(text) => Message::text(text),
        Err(error) => Message::binary(error.into_bytes()),
    };
    socket.send(message).await.map_err(|_| Failure::Reset)?;
    loop {
        match socket.next().await {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                return Ok(Answer::Status { code: 101, grpc: None, bytes: message.len() as u64 });
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Failure::Reset),
        }
    }
}

/// Keeps one open, answering pings, until the time is over, or `ended`, or the server closes it; then says goodbye. Tells
/// whether the server has left it open.
pub(crate) async fn hold<T>(mut socket: Socket, length: Duration, ended: impl Future<Output = T>) -> bool {
    let listening = async { while let Some(Ok(_)) = socket.next().await {} };
    let closed = tokio::select! {
        () = listening => true,
        () = sleep(length) => false,
        _ = ended => false,
    };
    if !closed {
        drop(timeout(Duration::from_secs(1), socket.close(None)).await);
    }
    !closed
}
