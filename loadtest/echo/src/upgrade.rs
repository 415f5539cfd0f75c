//! Answers `Upgrade` requests with 101 at once and then echoes bytes as they are; of WebSockets the frames come back
//! unmasked, as a server's have to be (RFC 6455, section 5.1).

use base64::{Engine, prelude::BASE64_STANDARD};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, HeaderName, HeaderValue, UPGRADE},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::{body::Answer, frames::Unmask};

/// RFC 6455, section 1.3.
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// The protocol asked for, unless it is HTTP/2, which RFC 9113 no longer upgrades to.
pub(crate) fn wanted(request: &Request<Incoming>) -> Option<HeaderValue> {
    let protocol = request.headers().get(UPGRADE)?;
    (!protocol.as_bytes().eq_ignore_ascii_case(b"h2c")).then(|| protocol.clone())
}

/// The 101 answer.
pub(crate) fn switching(protocol: HeaderValue, key: Option<&HeaderValue>) -> Response<Answer> {
    let mut response = Response::new(Answer::text(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, protocol);
    if let Some(accept) = key.and_then(|key| HeaderValue::try_from(accept(key.as_bytes())).ok()) {
        response.headers_mut().insert(ACCEPT, accept);
    }
    response
}

/// The key in a WebSocket request.
pub(crate) fn key(request: &Request<Incoming>) -> Option<HeaderValue> {
    request.headers().get(KEY).cloned()
}

/// Echoes until the client ends its side or `ending` is cancelled.
pub(crate) async fn echo(request: Request<Incoming>, ending: CancellationToken) {
    let mut unmask = key(&request).is_some().then(Unmask::default);
    let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
    let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            () = ending.cancelled() => break,
        };
        match read {
            Ok(size) if size > 0 => {
                let bytes = match &mut unmask {
                    Some(unmask) => unmask.take(&buffer[..size]),
                    None => buffer[..size].to_vec(),
                };
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Ok(_) | Err(_) => break,
        }
    }
    let _ = to.shutdown().await;
}

fn accept(key: &[u8]) -> String {
    let mut sha = sha1_smol::Sha1::new();
    sha.update(key);
    sha.update(WEBSOCKET_GUID);
    BASE64_STANDARD.encode(sha.digest().bytes())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_of_rfc_6455() {
        assert_eq!(super::accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
