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
) -> Result<Socket, (Answer, String)> {
    let stream = dial.dial(&aim.target, false).await;
    let stream = stream.map_err(|error| (Answer::Failed(Failure::Connect), error.to_string()))?;
    let broken = |words: String| (Answer::Failed(Failure::Reset), words);
    let wanted = aim.request(number, random).map_err(|error| broken(error.to_string()))?;
    let scheme = if aim.target.secure { "wss" } else { "ws" };
    let path = wanted.uri().path_and_query().map_or("/", |path| path.as_str());
    let host = wanted.uri().authority().map_or("", |authority| authority.as_str());
    let request = format!("{scheme}://{host}{path}").into_client_request();
    let mut request = request.map_err(|error| broken(error.to_string()))?;
    request.headers_mut().extend(wanted.headers().clone());
    match client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => {
            let words = format!("{} instead of 101; are there WebSockets at this path?", response.status());
            Err((Answer::Status { code: response.status().as_u16(), grpc: None, bytes: 0 }, words))
        }
        Err(error) => Err(broken(format!("{error}; does the server speak WebSocket?"))),
    }
}

/// Sends a message and waits for the next one that comes back, or tells in words why none does.
pub(crate) async fn echo(socket: &mut Socket, message: Vec<u8>) -> Result<Answer, String> {
    let message = match String::from_utf8(message) {
        Ok(text) => Message::text(text),
        Err(error) => Message::binary(error.into_bytes()),
    };
    socket.send(message).await.map_err(|error| error.to_string())?;
    loop {
        match socket.next().await {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                return Ok(Answer::Status { code: 101, grpc: None, bytes: message.len() as u64 });
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Err(error)) => return Err(error.to_string()),
            Some(Ok(Message::Close(_))) | None => return Err("the server closed the WebSocket".to_owned()),
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
