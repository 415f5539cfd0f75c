//! A change of protocol in both dialects, and each told as the other: HTTP/1.1's `Upgrade`, answered with 101 (RFC 9110,
//! 7.8), and HTTP/2's extended CONNECT, answered with 200 (RFC 8441). Pure; the bytes after it are the
//! [tunnel](super::upgrade)'s.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderValue, Method, Request, StatusCode,
    header::{
        CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
    },
    request::Parts,
    response,
};
use hyper::ext::Protocol as Word;
use tidegate_config::spec::Protocol;

use super::headers;

/// What a WebSocket's answer is made with (RFC 6455, 1.3).
const WEBSOCKET: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A client's wish to change to another protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The protocol.
    pub(crate) to: HeaderValue,
    dialect: Dialect,
    /// Proves to a client over HTTP/1.1 that its WebSocket was understood.
    key: Option<HeaderValue>,
}

/// In what a client asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Http1,
    Http2,
}

/// What a replica's answer means to one who wishes for another protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// From here on, bytes.
    Switched,
    /// An answer as any other.
    Answered,
    /// It would be taken for a change that has not happened.
    Confusing,
}

impl Wish {
    /// What the request wishes for, if it does. An extended CONNECT becomes a GET, which it stands for.
    pub(crate) fn of<B>(request: &mut Request<B>) -> Option<Self> {
        if request.method() != Method::CONNECT {
            let (to, dialect) = (headers::upgrade(request.version(), request.headers())?, Dialect::Http1);
            return Some(Self { to, dialect, key: request.headers().get(SEC_WEBSOCKET_KEY).cloned() });
        }
        // What is not taken stays a CONNECT without a protocol, and is refused as that.
        let to = request.extensions_mut().remove::<Word>().filter(|to| headers::may_upgrade(to.as_ref()))?;
        *request.method_mut() = Method::GET;
        request.headers_mut().remove(CONTENT_LENGTH);
        let to = HeaderValue::from_str(to.as_str()).ok()?;
        Some(Self { to, dialect: Dialect::Http2, key: None })
    }

    /// Puts the wish into a head that goes to a replica which speaks `protocol`. `chance` is for a key of ours.
    pub(crate) fn ask(&self, head: &mut Parts, protocol: Protocol, chance: [u8; 16]) {
        match protocol {
            Protocol::Http1 | Protocol::Tcp => {
                head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                head.headers.insert(UPGRADE, self.to.clone());
                if self.dialect == Dialect::Http2 && self.is_websocket() {
                    head.headers.insert(SEC_WEBSOCKET_KEY, text(&STANDARD.encode(chance)));
                    head.headers
                        .entry(SEC_WEBSOCKET_VERSION)
                        .or_insert_with(|| HeaderValue::from_static("13"));
                }
            }
            Protocol::H2c => {
                head.headers.remove(SEC_WEBSOCKET_KEY);
                head.method = Method::CONNECT;
                head.extensions.insert(Word::from(self.to.to_str().unwrap_or_default()));
            }
        }
    }

    /// What a replica that speaks `protocol` means with `status`.
    pub(crate) fn reply(&self, status: StatusCode, protocol: Protocol) -> Reply {
        match (protocol, status) {
            (Protocol::Http1 | Protocol::Tcp, StatusCode::SWITCHING_PROTOCOLS)
            | (Protocol::H2c, StatusCode::OK) => Reply::Switched,
            (Protocol::Http1 | Protocol::Tcp, status)
                if status.is_success() && self.dialect == Dialect::Http2 =>
            {
                Reply::Confusing
            }
            (Protocol::H2c, status) if status.is_success() || status.is_informational() => Reply::Confusing,
            (Protocol::Http1 | Protocol::Tcp | Protocol::H2c, _) => Reply::Answered,
        }
    }

    /// Makes a replica's head, without its hop-by-hop fields, the client's: the change has happened.
    pub(crate) fn switched(&self, head: &mut response::Parts) {
        match self.dialect {
            Dialect::Http1 => {
                head.status = StatusCode::SWITCHING_PROTOCOLS;
                head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                head.headers.insert(UPGRADE, self.to.clone());
                if let Some(key) = self.key.as_ref().filter(|_| self.is_websocket()) {
                    head.headers.entry(SEC_WEBSOCKET_ACCEPT).or_insert_with(|| accept(key));
                }
            }
            Dialect::Http2 => {
                head.status = StatusCode::OK;
                head.headers.remove(SEC_WEBSOCKET_ACCEPT);
            }
        }
    }

    fn is_websocket(&self) -> bool {
        self.to.as_bytes().eq_ignore_ascii_case(b"websocket")
    }
}

/// The answer to a WebSocket's key. SHA-1 is what the standard wants; it guards nothing.
fn accept(key: &HeaderValue) -> HeaderValue {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.as_bytes());
    hash.update(WEBSOCKET);
    text(&STANDARD.encode(hash.finish()))
}

fn text(base64: &str) -> HeaderValue {
    HeaderValue::from_str(base64).expect("base64 is text")
}

#[cfg(test)]
mod tests {
    use http::{Response, header::SEC_WEBSOCKET_PROTOCOL};

    use super::*;

    /// The key of RFC 6455's example, and its answer.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ANSWER: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn over_http1() -> Request<()> {
        let request = Request::get("/chat").header("connection", "Upgrade").header("upgrade", "websocket");
        let request = request.header("sec-websocket-key", KEY).header("sec-websocket-protocol", "chat");
        request.body(()).expect("a request")
    }

    fn over_http2() -> Request<()> {
        let request = Request::connect("https://a.org/chat").header("sec-websocket-protocol", "chat");
        let request = request.extension(Word::from_static("websocket"));
        request.body(()).expect("a request")
    }

    #[test]
    fn either_side_is_asked_in_its_own_words() {
        for (from, mut request) in [(Dialect::Http1, over_http1()), (Dialect::Http2, over_http2())] {
            let wish = Wish::of(&mut request).expect("a wish");
            let mut head = request.into_parts().0;
            assert_eq!(
                (wish.dialect, wish.to.as_bytes(), &head.method),
                (from, &b"websocket"[..], &Method::GET)
            );
            headers::strip_hop_by_hop(&mut head.headers);
            let mut to = head.clone();
            wish.ask(&mut to, Protocol::Http1, [7; 16]);
            assert_eq!(
                (&to.headers[CONNECTION], &to.headers[UPGRADE]),
                (&text("upgrade"), &text("websocket"))
            );
            let key = if from == Dialect::Http1 { KEY.to_owned() } else { STANDARD.encode([7; 16]) };
            assert_eq!(
                (&to.method, to.headers[SEC_WEBSOCKET_KEY].as_bytes()),
                (&Method::GET, key.as_bytes())
            );
            wish.ask(&mut head, Protocol::H2c, [7; 16]);
            assert_eq!(
                (&head.method, head.headers.contains_key(SEC_WEBSOCKET_KEY)),
                (&Method::CONNECT, false)
            );
            assert_eq!(head.extensions.get::<Word>().map(Word::as_str), Some("websocket"));
            assert_eq!(head.headers[SEC_WEBSOCKET_PROTOCOL], "chat");
        }
        let mut plain = Request::connect("a.org:443").body(()).expect("a request");
        assert_eq!(Wish::of(&mut plain), None, "a plain CONNECT wishes for a tunnel to somewhere else");
        assert_eq!(plain.method(), Method::CONNECT);
    }

    #[test]
    fn in_either_dialect_no_tunnel_is_for_http() {
        for word in ["h2c", "H2C", "websocket, h2c"] {
            let mut tunnel = over_http2();
            tunnel.extensions_mut().insert(Word::from(word));
            assert_eq!((Wish::of(&mut tunnel), tunnel.method()), (None, &Method::CONNECT), "{word}");
            let mut upgrade = over_http1();
            upgrade.headers_mut().insert(UPGRADE, text(word));
            assert_eq!(Wish::of(&mut upgrade), None, "{word}");
        }
    }

    #[test]
    fn each_client_is_answered_in_its_own_words() {
        for (mut head, status, proof) in [(over_http1(), 101, Some(ANSWER)), (over_http2(), 200, None)] {
            let wish = Wish::of(&mut head).expect("a wish");
            let mut answer = Response::new(()).into_parts().0;
            wish.switched(&mut answer);
            assert_eq!(answer.status.as_u16(), status);
            let accept = answer.headers.get(SEC_WEBSOCKET_ACCEPT).and_then(|value| value.to_str().ok());
            assert_eq!(accept, proof);
        }
    }

    #[test]
    fn what_looks_like_a_change_and_is_none_is_told_apart() {
        use Protocol::{H2c, Http1};
        let wish = |mut head| Wish::of(&mut head).expect("a wish");
        for (wish, protocol, status, want) in [
            (wish(over_http1()), Http1, 101, Reply::Switched),
            (wish(over_http2()), Http1, 101, Reply::Switched),
            (wish(over_http1()), Http1, 200, Reply::Answered),
            (wish(over_http2()), Http1, 200, Reply::Confusing),
            (wish(over_http2()), Http1, 403, Reply::Answered),
            (wish(over_http1()), H2c, 200, Reply::Switched),
            (wish(over_http1()), H2c, 204, Reply::Confusing),
            (wish(over_http2()), H2c, 404, Reply::Answered),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(wish.reply(status, protocol), want, "{wish:?} {status}");
        }
    }
}
