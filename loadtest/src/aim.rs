//! What is sent: one of several targets of a load, as the user gave it and as bytes ready to go. `[P]`

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING},
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body_util::Full;
use rand::Rng;
use std::time::Duration;

use crate::{
    target::{self, Target},
    template::Template,
};

/// One target of a load.
#[derive(Debug, Clone, PartialEq)]
pub struct Aim {
    /// What reports call it.
    pub name: String,
    /// Its share of all requests, by the sum of all weights.
    pub weight: u32,
    /// An `http://` or `https://` URL; behind the host there may be places to fill in. `localhost` and names under it lead to
    /// this machine without DNS.
    pub url: String,
    /// The host to ask for instead of the URL's.
    pub host: Option<String>,
    /// The method of every request.
    pub method: Method,
    /// Header fields to add.
    pub headers: Vec<(HeaderName, Template)>,
    /// The body of every request.
    pub body: Template,
    /// What kind of request it is.
    pub kind: Kind,
}

/// What kind of request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request with an answer.
    Http,
    /// A message over a WebSocket that stays open, and the message that comes back.
    WebSocketEcho,
    /// A WebSocket that is opened, held for so long, and closed.
    WebSocketHold(Duration),
    /// A call of gRPC: the body is one message, the answer's status comes last. Speaks HTTP/2.
    Grpc,
}

/// It cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A path that is none.
    #[error("{0:?} is not a path; expected one as in /items?page=2")]
    Path(String),
    /// A header's value that is none.
    #[error("{value:?} is not a value of the header {name}")]
    Header {
        /// The header.
        name: HeaderName,
        /// Its value.
        value: String,
    },
}

impl Aim {
    /// `GET`, without a body.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        let url = url.into();
        Self {
            name: url.clone(),
            weight: 1,
            url,
            host: None,
            method: Method::GET,
            headers: Vec::new(),
            body: Template::default(),
            kind: Kind::Http,
        }
    }

    /// The name of the host that is asked for, in lower case; `None` where that cannot be read.
    #[must_use]
    pub fn host_name(&self) -> Option<String> {
        let location = target::locate(&self.url).ok()?;
        let authority = target::authority(&location, self.host.as_deref()).ok()?;
        Some(authority.host().to_ascii_lowercase())
    }
}

/// An aim with its place on the network.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) target: Target,
    /// Which of the connections of a worker it goes over, from 0: those at one place share one.
    pub(crate) link: usize,
    pub(crate) kind: Kind,
    pub(crate) to_head: bool,
    /// Whether a request that may not have been seen can be sent again.
    pub(crate) repeatable: bool,
    method: Method,
    authority: Authority,
    path: Template,
    headers: Vec<(HeaderName, Template)>,
    body: Template,
    /// The whole request in HTTP/1.1, if it is always the same.
    fixed: Option<Vec<u8>>,
}

impl Prepared {
    /// Puts the request together; `random` is for a look at what places may turn into.
    pub(crate) fn new(
        aim: &Aim,
        target: Target,
        authority: Authority,
        path: Template,
        random: &mut impl Rng,
    ) -> Result<Self, Invalid> {
        let mut headers = aim.headers.clone();
        if aim.kind == Kind::Grpc {
            headers.push((CONTENT_TYPE, Template::plain("application/grpc")));
            headers.push((TE, Template::plain("trailers")));
        }
        let mut prepared = Self {
            target,
            link: 0,
            kind: aim.kind,
            to_head: aim.method == Method::HEAD,
            repeatable: aim.method.is_idempotent(),
            method: if aim.kind == Kind::Grpc { Method::POST } else { aim.method.clone() },
            authority,
            path,
            headers,
            body: aim.body.clone(),
            fixed: None,
        };
        prepared.check(random)?;
        if prepared.is_fixed() {
            let mut bytes = Vec::new();
            prepared.write(0, random, &mut bytes);
            prepared.fixed = Some(bytes);
        }
        Ok(prepared)
    }

    /// The request in HTTP/1.1; `room` is for one that has places to fill in.
    pub(crate) fn bytes<'a>(&'a self, number: u64, random: &mut impl Rng, room: &'a mut Vec<u8>) -> &'a [u8] {
        if let Some(fixed) = &self.fixed {
            return fixed;
        }
        room.clear();
        self.write(number, random, room);
        room
    }

    /// The request for HTTP/2, or for a handshake.
    pub(crate) fn request(
        &self,
        number: u64,
        random: &mut impl Rng,
    ) -> Result<Request<Full<Bytes>>, Invalid> {
        let path = self.path.text(number, random);
        let path = PathAndQuery::try_from(path.as_slice()).map_err(|_| Invalid::Path(shown(&path)))?;
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(if self.target.secure { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        let mut request = Request::new(Full::new(self.content(number, random).into()));
        *request.uri_mut() = Uri::from_parts(parts).expect("all three parts are there");
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.fields(number, random)?;
        Ok(request)
    }

    /// The fields of one request, without those of the connection.
    fn fields(&self, number: u64, random: &mut impl Rng) -> Result<HeaderMap, Invalid> {
        let mut fields = HeaderMap::new();
        for (name, value) in &self.headers {
            if [HOST, CONNECTION, TRANSFER_ENCODING].contains(name) {
                continue;
            }
            let value = value.text(number, random);
            let field = HeaderValue::from_bytes(&value);
            let field = field.map_err(|_| Invalid::Header { name: name.clone(), value: shown(&value) })?;
            fields.append(name.clone(), field);
        }
        Ok(fields)
    }

    /// The body of one request; a message of gRPC says first that it is not compressed, and how long it is.
    pub(crate) fn content(&self, number: u64, random: &mut impl Rng) -> Vec<u8> {
        let body = self.body.text(number, random);
        match self.kind {
            Kind::Grpc => {
                let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
                [&[0], &length.to_be_bytes()[..], &body].concat()
            }
            Kind::Http | Kind::WebSocketEcho | Kind::WebSocketHold(_) => body,
        }
    }

    fn check(&self, random: &mut impl Rng) -> Result<(), Invalid> {
        self.request(0, random).map(drop)
    }

    fn is_fixed(&self) -> bool {
        let headers = self.headers.iter().map(|(_, value)| value);
        headers.chain([&self.path, &self.body]).all(|template| template.fixed().is_some())
    }

    fn write(&self, number: u64, random: &mut impl Rng, out: &mut Vec<u8>) {
        let given = |wanted: HeaderName| self.headers.iter().any(|(name, _)| *name == wanted);
        let body = self.content(number, random);
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.push(b' ');
        self.path.write(number, random, out);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        if !given(HOST) {
            field(out, HOST.as_str(), self.authority.as_str().as_bytes());
        }
        for (name, value) in &self.headers {
            field(out, name.as_str(), &value.text(number, random));
        }
        let has_body = !body.is_empty() || [Method::POST, Method::PUT, Method::PATCH].contains(&self.method);
        if has_body && !given(CONTENT_LENGTH) && !given(TRANSFER_ENCODING) {
            field(out, CONTENT_LENGTH.as_str(), body.len().to_string().as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&body);
    }
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
