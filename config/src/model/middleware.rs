//! What is done with the requests of a route before they are sent on, and with the responses to them. A key of a route
//! stands instead of the same key of its service; that is settled here, so that each route has one whole value.

use std::{collections::BTreeMap, time::Duration};

use ipnet::IpNet;

use crate::{
    hashed::{PasswordHash, TokenHash},
    name::{PathPrefix, ServiceName},
    units::{Bytes, Percent, Rate},
};

/// What is done with a route's requests and responses. The default is nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Middleware {
    /// Who names a request.
    pub request_id: RequestId,
    /// Which clients may come.
    pub ip: Option<Ip>,
    /// What pages of other origins may do.
    pub cors: Option<Cors>,
    /// Where requests are sent instead.
    pub redirect: Option<Redirect>,
    /// How many requests may come.
    pub rate_limit: Option<RateLimit>,
    /// Users with passwords.
    pub basic_auth: Option<BasicAuth>,
    /// Holders of tokens.
    pub bearer_auth: Option<BearerAuth>,
    /// How long a request's body may be.
    pub body_limit: Option<Bytes>,
    /// What of the target is changed.
    pub rewrite: Option<Rewrite>,
    /// Changes of a request's fields.
    pub request_headers: Option<Edits>,
    /// Changes of a response's fields.
    pub response_headers: Option<Edits>,
    /// From a request's head to its response's.
    pub timeout: Option<Duration>,
    /// Who gets a copy of requests.
    pub mirror: Option<Mirror>,
    /// What browsers are told to remember.
    pub hsts: Hsts,
    /// Which responses are compressed.
    pub compression: Option<Compression>,
}

impl Middleware {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it decides who may come, how often, or with how much.
    #[must_use]
    pub fn guards(&self) -> bool {
        self.ip.is_some()
            || self.basic_auth.is_some()
            || self.bearer_auth.is_some()
            || self.rate_limit.is_some()
            || self.body_limit.is_some()
    }
}

/// Who names a request in `X-Request-Id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestId {
    /// Nobody.
    #[default]
    Off,
    /// We do, whatever the client says.
    Make,
    /// The client if it does, else we.
    Keep,
}

/// Which clients may come, by address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ip {
    /// These and no others; all if there are none.
    pub allow: Vec<IpNet>,
    /// These not, whatever `allow` says.
    pub deny: Vec<IpNet>,
}

/// All of many, or some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All.
    Any,
    /// These.
    Of(Vec<String>),
}

/// What pages of other origins may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Which origins: `SCHEME://HOST` or `SCHEME://HOST:PORT` in lower case, `*.` for every name below.
    pub origins: Which,
    /// By which methods.
    pub methods: Which,
    /// With which fields besides those that need no leave.
    pub headers: Which,
    /// Which fields of a response they may read.
    pub expose: Vec<String>,
    /// Whether cookies and credentials go along.
    pub credentials: bool,
    /// How long a browser may remember the answer.
    pub max_age: Duration,
}

impl Default for Cors {
    fn default() -> Self {
        let methods = ["GET", "HEAD", "POST"].map(str::to_owned);
        Self {
            origins: Which::Of(Vec::new()),
            methods: Which::Of(methods.into()),
            headers: Which::Of(Vec::new()),
            expose: Vec::new(),
            credentials: false,
            max_age: Duration::from_secs(600),
        }
    }
}

/// Where requests are sent instead. What is not named stays as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// A host, with a port if it has one.
    pub host: Option<String>,
    /// Instead of the route's path.
    pub prefix: Option<PathPrefix>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

impl Default for Redirect {
    fn default() -> Self {
        Self { scheme: None, host: None, prefix: None, status: 308 }
    }
}

/// How many requests may come. Routes of one service with the same limit share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// So many in so long;
    pub rate: Rate,
    /// so many at once after a pause.
    pub burst: u32,
    /// Whose requests are counted together.
    pub by: RateKey,
    /// Callers that are remembered at once.
    pub keys: u32,
}

impl RateLimit {
    /// So many, for each address.
    #[must_use]
    pub fn to(rate: Rate) -> Self {
        Self { rate, burst: rate.burst(), by: RateKey::Address, keys: 10_000 }
    }
}

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RateKey {
    /// Those of a client's address; of IPv6, of its /64 network.
    Address,
    /// Those with the same value of a field; without it, those of an address.
    Header(String),
    /// All.
    Route,
}

/// Users with passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicAuth {
    /// What browsers show.
    pub realm: String,
    /// Who may come.
    pub users: BTreeMap<String, PasswordHash>,
    /// Whether the service gets the credentials too.
    pub forward: bool,
}

/// Holders of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BearerAuth {
    /// Who may come.
    pub tokens: BTreeMap<String, TokenHash>,
    /// Whether the service gets the token too.
    pub forward: bool,
}

/// What of a request's target is changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// The path.
    pub path: Option<PathRewrite>,
    /// The host that the service sees.
    pub host: Option<String>,
}

/// How a path is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRewrite {
    /// This in front of it.
    Add(PathPrefix),
    /// This instead of the route's path.
    Replace(PathPrefix),
    /// This instead of all of it.
    Set(String),
}

/// Changes of a head's fields: first removed, then set, then added. Names are in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edits {
    /// Fields that have this value alone.
    pub set: BTreeMap<String, String>,
    /// Values beside those that are there.
    pub add: BTreeMap<String, String>,
    /// Fields that go.
    pub remove: Vec<String>,
}

/// Who gets a copy of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// This service; its responses are thrown away.
    pub service: ServiceName,
    /// Of so many requests.
    pub share: Percent,
    /// Whether copies wake it.
    pub wake: bool,
    /// Requests with larger bodies are not copied.
    pub body: Bytes,
    /// Copies under way at once; further ones are dropped.
    pub concurrency: u32,
}

impl Mirror {
    /// All requests, to this service.
    #[must_use]
    pub fn to(service: ServiceName) -> Self {
        let share = Percent::new(100).expect("in range");
        Self { service, share, wake: false, body: Bytes(64 << 10), concurrency: 32 }
    }
}

/// What browsers are told to remember of a host that is called over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hsts {
    /// What the gateway says of all.
    #[default]
    Gateway,
    /// Nothing.
    Nothing,
    /// That it speaks HTTPS only.
    Only {
        /// For so long.
        max_age: Duration,
        /// Every name below it, too.
        subdomains: bool,
    },
}

/// Which responses are compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    /// How; which one, the client says, and the first of those that it likes best if it likes several.
    pub encodings: Vec<Encoding>,
    /// Media types, `TYPE/SUBTYPE` or `TYPE/*`.
    pub types: Vec<String>,
    /// Shorter bodies are not.
    pub min_size: Bytes,
}

impl Default for Compression {
    fn default() -> Self {
        let types = [
            "text/*",
            "application/json",
            "application/ld+json",
            "application/problem+json",
            "application/manifest+json",
            "application/graphql-response+json",
            "application/javascript",
            "application/xml",
            "application/xhtml+xml",
            "application/rss+xml",
            "application/atom+xml",
            "application/wasm",
            "application/vnd.ms-fontobject",
            "font/ttf",
            "font/otf",
            "image/svg+xml",
            "image/bmp",
            "image/x-icon",
        ];
        Self {
            encodings: vec![Encoding::Zstd, Encoding::Br, Encoding::Gzip],
            types: types.map(str::to_owned).into(),
            min_size: Bytes(1 << 10),
        }
    }
}

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// RFC 1952.
    Gzip,
    /// Brotli, RFC 7932.
    Br,
    /// Zstandard, RFC 8878.
    Zstd,
}

impl Encoding {
    /// Its name in HTTP.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Br => "br",
            Self::Zstd => "zstd",
        }
    }
}
