//! What is done with the requests and responses of a route: each key switches one thing on.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::duration;
use crate::{
    decode::{
        At, Decode, Named,
        leaf::{Counted, Often, Size, Span, Text},
        section,
        switch::Switch,
    },
    model::{self, Encoding, RequestId},
    problem::Draft,
    tree::Node,
    units::Percent,
};

section! {
    /// What is done with a service's requests and responses on all its routes. Each key switches one thing on, and they
    /// are applied in the order in which they stand here (the responses' in the opposite one). A route may have the same
    /// table, whose keys stand instead of these; `false` switches off.
    Middleware => {
        /// Whether requests get an `X-Request-Id`, which the service, the client, the log and refusals see: a new one each
        /// (`make`), or the client's where it sent one of up to 128 letters, digits, `-`, `_`, `.`, `:` and `+` (`keep`).
        request_id: RequestId = "off",
        /// Which clients may come, by address. Others get 403.
        ip: Switch<Ip>,
        /// What pages of other origins may do. Preflight requests are answered and wake nothing.
        cors: Switch<Cors>,
        /// Where requests are sent instead.
        redirect: Switch<Redirect>,
        /// How many requests may come. Others get 429.
        rate_limit: Switch<RateLimit>,
        /// Users with passwords. Others get 401, unless they have a token that `bearer_auth` knows.
        basic_auth: Switch<BasicAuth>,
        /// Holders of tokens. Others get 401, unless they have a password that `basic_auth` knows.
        bearer_auth: Switch<BearerAuth>,
        /// How long a request's body may be. Longer ones get 413, also when they turn out to be so on the way.
        body_limit: Switch<Size>,
        /// What of the target is changed before the service sees it.
        rewrite: Switch<Rewrite>,
        /// How the fields of requests are changed.
        request_headers: Switch<Edits>,
        /// How long a request may take until its response begins, waiting for a replica included. Later ones get 504. What
        /// has begun is not cut.
        timeout: Switch<Span>,
        /// Who gets a copy of requests. Its responses are thrown away, and it delays and fails nobody.
        mirror: Switch<Mirror>,
        /// How the fields of responses are changed.
        response_headers: Switch<Edits>,
        /// How long browsers are to remember that the host speaks HTTPS only (`Strict-Transport-Security`, over TLS), instead of
        /// what `gateway.tls` says; `false`: nothing of it is said here.
        hsts: Switch<Hsts>,
        /// Which responses are compressed.
        compression: Switch<Compression>,
    }
}

section! {
    /// Which clients may come. Behind a proxy in `gateway.trusted_proxies` it is the address that the proxy names.
    Ip => {
        /// Addresses and networks; without any, all.
        allow: Vec<At<Text>> = Vec::<String>::new(),
        /// Addresses and networks that may not come, whatever `allow` says.
        deny: Vec<At<Text>> = Vec::<String>::new(),
    }
}

section! {
    /// What pages of other origins may do (CORS). What the service says about it is replaced.
    Cors, d = model::Cors::default() => {
        /// Origins, as in `"https://app.example.org"` or `"https://*.example.org"`, or `["*"]` for any. Required.
        origins: Vec<At<Text>>,
        /// Methods, or `["*"]` for any.
        methods: Vec<At<Text>> = words(&d.methods),
        /// Request fields besides those that need no leave, or `["*"]` for any.
        headers: Vec<At<Text>> = words(&d.headers),
        /// Response fields that pages may read besides those that need no leave.
        expose: Vec<At<Text>> = d.expose,
        /// Whether cookies and credentials go along. Not together with any `*`.
        credentials: bool = d.credentials,
        /// How long browsers may remember the answer to a preflight.
        max_age: Span = duration(d.max_age),
    }
}

section! {
    /// Where requests are sent instead. What is not named stays as it was; requests that would be sent to where they are
    /// already pass.
    Redirect, d = model::Redirect::default() => {
        /// `"http"` or `"https"`.
        scheme: Text,
        /// A host, with a port if it has one.
        host: Text,
        /// What stands instead of the route's path.
        prefix: Text,
        /// 301, 302, 303, 307 or 308. The last two keep the method.
        status: u32 = d.status,
    }
}

section! {
    /// How many requests may come. Routes of one service that have the same limit share it.
    RateLimit, d = model::RateLimit::to("1/s".parse().expect("a rate")) => {
        /// How many in how long, as in `"10/s"`, `"60/m"` or `"1000/h"`. Required.
        rate: Often,
        /// How many at once after a pause. Default: the number in `rate`.
        burst: u32,
        /// Whose requests are counted together: those of an `address` (of IPv6: of a /64 network), of a `header`'s value,
        /// or all of a `route`.
        by: Counted = "address",
        /// The header, with `by = "header"`, as in `"X-Api-Key"`. Requests without it are counted by address.
        header: Text,
        /// How many callers are remembered at once. When there are more, the one that used least is forgotten.
        keys: u32 = d.keys,
    }
}

section! {
    /// Users with passwords, which are hashed: argon2, bcrypt, or `sha256:` for those that no one can guess. `tidegate hash`
    /// makes hashes. The service is told the name in `X-Forwarded-User`.
    BasicAuth => {
        /// What browsers show. Default: the service's name.
        realm: Text,
        /// Hashes by user.
        users: Named<At<Text>> = serde_json::Map::new(),
        /// A file with `USER:HASH` on each line, as `htpasswd -B` writes it, relative to this file's folder. Read when this
        /// file is.
        file: Text,
        /// Whether the service gets the credentials too.
        forward: bool = false,
    }
}

section! {
    /// Holders of tokens, as in `Authorization: Bearer TOKEN`. Tokens are hashed: `sha256:` and 64 hexadecimal digits, which
    /// `tidegate hash --sha256` makes. The service is told the name in `X-Forwarded-User`.
    BearerAuth => {
        /// Hashes by name.
        tokens: Named<At<Text>> = serde_json::Map::new(),
        /// A file with `NAME:HASH` on each line, relative to this file's folder. Read when this file is.
        file: Text,
        /// Whether the service gets the token too.
        forward: bool = false,
    }
}

section! {
    /// What of the target is changed, after `strip`; one of the first three at most. Who may come is decided on the result.
    Rewrite => {
        /// A path that is put in front.
        add_prefix: Text,
        /// A path that stands instead of the route's.
        replace_prefix: Text,
        /// A path that stands instead of the whole one.
        path: Text,
        /// The `Host` that the service sees, with a port if it has one. `X-Forwarded-Host` has the client's.
        host: Text,
    }
}

section! {
    /// How fields are changed: first those go that are removed, then some are set, then added to.
    Edits => {
        /// Fields that have this value alone.
        set: Named<At<Text>> = serde_json::Map::new(),
        /// Values beside those that are there.
        add: Named<At<Text>> = serde_json::Map::new(),
        /// Fields that go.
        remove: Vec<At<Text>> = Vec::<String>::new(),
    }
}

section! {
    /// Who gets a copy of requests. Upgrades are not copied. Copies count as requests of that service.
    Mirror, d = model::Mirror::to("mirror".parse().expect("a name")) => {
        /// A service of this file, another one. Required.
        service: Text,
        /// The share of requests.
        share: Percent = d.share.fraction(),
        /// Whether copies wake that service and keep it awake. If not, there are none while it sleeps.
        wake: bool = d.wake,
        /// Requests with longer bodies are not copied.
        body: Size = d.body.to_string(),
        /// Copies under way at once; further ones are dropped.
        concurrency: u32 = d.concurrency,
    }
}

section! {
    /// How long browsers are to remember that a host speaks HTTPS only. They remember it of the host, whatever the path.
    Hsts => {
        /// For so long from each response on, as in `"365d"`; `"0s"`: they are to forget it. Required.
        max_age: Span,
        /// Whether they are to remember it of every name below, too.
        subdomains: bool = false,
    }
}

section! {
    /// Which responses are compressed: whole ones of these types that the service has not compressed itself.
    Compression, d = model::Compression::default(); bare = true => {
        /// How. Of those that a client likes equally well: `zstd`, then `br`, then `gzip`.
        encodings: Vec<At<Encoding>> = d.encodings.iter().map(|encoding| encoding.name()).collect::<Vec<_>>(),
        /// Media types, as in `"text/html"` or `"text/*"`.
        types: Vec<At<Text>> = d.types,
        /// Shorter bodies are not.
        min_size: Size = d.min_size.to_string(),
    }
}

/// All or some as the file would say it.
fn words(which: &model::Which) -> Vec<String> {
    match which {
        model::Which::Any => vec!["*".into()],
        model::Which::Of(words) => words.clone(),
    }
}

/// The table of a service once more, for a route.
#[derive(Debug, Clone)]
pub(crate) struct RouteMiddleware(pub(crate) Middleware);

impl Decode for RouteMiddleware {
    const TABLE: bool = true;

    fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
        Middleware::decode(node, key, problems).map(Self)
    }
}

impl JsonSchema for RouteMiddleware {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RouteMiddleware".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = generator.subschema_for::<Middleware>();
        // A table with a title is described elsewhere.
        schema.insert("title".into(), "table".into());
        schema
    }
}
