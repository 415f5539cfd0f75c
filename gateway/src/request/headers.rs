//! What may cross the gateway in a head: hop-by-hop fields are taken out both ways (RFC 9110, 7.6.1), and what tells
//! where a request came from is ours to say unless the peer is trusted. Pure.

use std::{
    borrow::Borrow,
    net::{IpAddr, SocketAddr},
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{CONNECTION, COOKIE, FORWARDED, PROXY_AUTHENTICATE, TE, TRANSFER_ENCODING, UPGRADE},
};
use ipnet::IpNet;

use crate::http1::{encode, fields};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_FORWARDED_USER: HeaderName = HeaderName::from_static("x-forwarded-user");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

const HOP_BY_HOP: [HeaderName; 6] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE, PROXY_AUTHENTICATE];

/// The protocol that a request wants to change to, if it does: any but those of HTTP, which end here. Only HTTP/1.1 can.
pub(crate) fn upgrade(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    if version != Version::HTTP_11 {
        return None;
    }
    let asks = tokens(headers, CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|to| asks && may_upgrade(to.as_bytes())).cloned()
}

/// Whether a connection to a replica may become one of this protocol, of which several may be named: in a tunnel of HTTP/2 requests
/// would pass that nobody looks at.
pub(crate) fn may_upgrade(to: &[u8]) -> bool {
    !to.split(|byte| *byte == b',').any(|word| {
        let name = word.trim_ascii().split(|byte| *byte == b'/').next().unwrap_or_default();
        [&b"h2c"[..], b"h2", b"http"].into_iter().any(|http| name.eq_ignore_ascii_case(http))
    })
}

/// Takes out what concerns one connection only, and what `Connection` names as such.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    strip(headers, is_hop_by_hop);
}

/// Makes a replica's head fit for a client: hop-by-hop fields out, and what only we say of a service.
pub(crate) fn prepare_response(headers: &mut HeaderMap) {
    strip(headers, |name| is_hop_by_hop(name) || name.as_str().starts_with("x-tidegate-"));
}

/// Takes out these fields, `Connection` among them, and what that names.
fn strip(headers: &mut HeaderMap, these: impl Fn(&HeaderName) -> bool) {
    // Nearly always it says `keep-alive` or `close` and names nothing.
    if headers.get_all(CONNECTION).iter().any(|said| !is_option(said.as_bytes())) {
        let named = tokens(headers, CONNECTION).filter(|token| !is_option(token.as_bytes()));
        let named: Vec<HeaderName> = named.filter_map(|token| token.parse().ok()).collect();
        fields::remove(headers, |name| these(name) || (named.contains(name) && !is_end_to_end(name)));
    } else {
        fields::remove(headers, these);
    }
}

/// What `Connection` says that is no field's name, or that of a field that is taken out anyway.
fn is_option(token: &[u8]) -> bool {
    [&b"close"[..], b"keep-alive", b"upgrade"].into_iter().any(|option| token.eq_ignore_ascii_case(option))
}

/// What `Connection` cannot name: a client would have us drop what we must pass on, or what tells who asks.
fn is_end_to_end(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "host"
            | "content-length"
            | "authorization"
            | "cookie"
            | "traceparent"
            | "tracestate"
            | "forwarded"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-proto"
            | "x-real-ip"
    )
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

/// Makes a client's head fit for a replica: hop-by-hop fields out, `TE: trailers` kept, forwarding fields set.
pub(crate) fn prepare_request(headers: &mut HeaderMap, host: &HeaderValue, from: &From<'_>) {
    let trusted = from.is_trusted();
    let client = client(headers, from);
    let ends_here = |name: &HeaderName| ends_here(name) || (!trusted && is_a_proxys(name));
    if headers.keys().any(ends_here) {
        let trailers = tokens(headers, TE).any(|token| token.eq_ignore_ascii_case("trailers"));
        strip(headers, ends_here);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    set_forwarded(headers, host, from, client);
}

/// Makes a client's trailers fit for a replica. Whatever a head says of who asks, of routing or of framing is not said again behind the
/// body: there are servers that take what comes late for what came first.
pub(crate) fn prepare_trailers(trailers: &mut HeaderMap) {
    fields::remove(trailers, |name| {
        ends_here(name) || is_a_proxys(name) || is_ours_to_say(name) || !encode::may_trail(name)
    });
}

/// What names the request, to the service and to whoever looks for it afterwards.
fn is_ours_to_say(name: &HeaderName) -> bool {
    matches!(name.as_str(), "x-request-id" | "traceparent" | "tracestate")
}

/// What only a proxy can say: who asks, for what, and how it came here. There are servers that believe each of these.
fn is_a_proxys(name: &HeaderName) -> bool {
    let text = name.as_str();
    text.starts_with("x-forwarded-")
        || matches!(
            text,
            "x-original-url" | "x-rewrite-url" | "x-client-ip" | "x-cluster-client-ip" | "true-client-ip"
        )
}

/// What goes no further than to us: hop-by-hop fields, what only a proxy reads, our own, and fields whose names a CGI-like
/// backend cannot tell from ours (`X_Forwarded_For`) or from framing. `Proxy` is httpoxy: CGI programs would take it for a setting.
fn ends_here(name: &HeaderName) -> bool {
    let text = name.as_str();
    let begins_like = |ours: &str| {
        let dashed = text.bytes().map(|byte| if byte == b'_' { b'-' } else { byte });
        text.len() >= ours.len() && dashed.take(ours.len()).eq(ours.bytes())
    };
    let alias = || {
        let ours = [
            "x-forwarded",
            "x-real",
            "x-original-url",
            "x-rewrite-url",
            "x-client-ip",
            "x-cluster-client-ip",
            "true-client-ip",
            "content-length",
            "transfer-encoding",
        ];
        ours.into_iter().any(begins_like)
    };
    is_hop_by_hop(name)
        || matches!(text, "te" | "http2-settings" | "proxy-authorization" | "proxy")
        || text.starts_with("x-tidegate-")
        || (text.as_bytes().contains(&b'_') && alias())
}

/// Where a request came from.
pub(crate) struct From<'f> {
    /// The connection's other end.
    pub(crate) peer: IpAddr,
    /// The same as a field's value.
    pub(crate) text: &'f HeaderValue,
    /// Whose word on forwarding is believed.
    pub(crate) trusted: &'f [IpNet],
    /// Whether it came over TLS.
    pub(crate) secure: bool,
}

impl From<'_> {
    fn is_trusted(&self) -> bool {
        self.trusts(self.peer)
    }

    fn proto(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&address))
    }
}

/// By which scheme the client came, as far as it can be known: where several proxies say so, the first saw the client.
pub(crate) fn scheme(headers: &HeaderMap, from: &From<'_>) -> &'static str {
    if !from.is_trusted() {
        return from.proto();
    }
    let first = match headers.get(X_FORWARDED_PROTO) {
        Some(said) => said.to_str().ok().and_then(|said| said.split(',').next()),
        None => elements(headers).next().and_then(|element| parameter(element, "proto")),
    };
    match first.map(str::trim) {
        Some(first) if first.eq_ignore_ascii_case("https") => "https",
        Some(first) if first.eq_ignore_ascii_case("http") => "http",
        Some(_) | None => from.proto(),
    }
}

/// Who asks: the last hop that no trusted peer tells of.
pub(crate) fn client(headers: &HeaderMap, from: &From<'_>) -> IpAddr {
    if !from.is_trusted() {
        return from.peer;
    }
    let told = if headers.contains_key(X_FORWARDED_FOR) { X_FORWARDED_FOR } else { FORWARDED };
    let chains = headers.get_all(&told).iter().rev().map(|chain| chain.to_str().unwrap_or("unknown"));
    let mut client = from.peer;
    for hop in chains.flat_map(|chain| chain.rsplit(',')) {
        let hop = if told == FORWARDED { parameter(hop, "for") } else { Some(hop) };
        // What is no address ends what can be known.
        let Some(hop) = hop.and_then(address) else { break };
        client = hop.to_canonical();
        if !from.trusts(client) {
            break;
        }
    }
    client
}

/// What proxies say in `Forwarded`, from the one that saw the client on (RFC 7239, 4).
fn elements(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(FORWARDED)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
}

/// What one element of `Forwarded` says of this, without quotation marks.
fn parameter<'e>(element: &'e str, of: &str) -> Option<&'e str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let said = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case(of)).map(|(_, said)| said);
    said.map(|said| said.trim().trim_matches('"'))
}

/// An address as proxies write it: quoted or not, with a port or without, of IPv6 in brackets or without.
fn address(node: &str) -> Option<IpAddr> {
    let node = node.trim().trim_matches('"');
    let bare = || node.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || node.parse::<SocketAddr>().ok().map(|address| address.ip());
    node.parse().ok().or_else(bare).or_else(with_port)
}

fn set_forwarded(headers: &mut HeaderMap, host: &HeaderValue, from: &From<'_>, client: IpAddr) {
    let (trusted, scheme) = (from.is_trusted(), scheme(headers, from));
    let mut set = |name: HeaderName, value: HeaderValue| {
        if !trusted || !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    };
    set(X_FORWARDED_HOST, host.clone());
    set(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    headers
        .insert(X_REAL_IP, if client == from.peer { from.text.clone() } else { text(&client.to_string()) });
    let peer = || from.text.to_str().unwrap_or("unknown");
    let chain = if trusted && headers.contains_key(X_FORWARDED_FOR) {
        joined(headers, &X_FORWARDED_FOR, peer())
    } else if trusted && headers.contains_key(FORWARDED) {
        retold(headers, peer())
    } else {
        from.text.clone()
    };
    headers.insert(X_FORWARDED_FOR, chain);
    // RFC 7239: the same once more for those who read it; kept and extended only from a trusted peer.
    if headers.contains_key(FORWARDED) {
        let hop = forwarded_hop(from.peer, from.proto());
        let chain = if trusted { joined(headers, &FORWARDED, &hop) } else { text(&hop) };
        headers.insert(FORWARDED, chain);
    }
}

fn forwarded_hop(peer: IpAddr, proto: &str) -> String {
    match peer {
        IpAddr::V4(ip) => format!("for={ip};proto={proto}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\";proto={proto}"),
    }
}

/// The chain of `Forwarded` as `X-Forwarded-For` has it, for services that read only that.
fn retold(headers: &HeaderMap, hop: &str) -> HeaderValue {
    let node = |element| parameter(element, "for").and_then(address);
    let node =
        |element| node(element).map_or_else(|| "unknown".into(), |node| node.to_canonical().to_string());
    let nodes: Vec<String> = elements(headers).map(node).collect();
    extended(&nodes, hop)
}

fn joined(headers: &HeaderMap, name: &HeaderName, hop: &str) -> HeaderValue {
    let before: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    extended(&before, hop)
}

fn extended<S: Borrow<str>>(before: &[S], hop: &str) -> HeaderValue {
    text(&[&*before.join(", "), hop].join(", "))
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// HTTP/2 may send cookies in pieces; HTTP/1.1 wants one field (RFC 9113, 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let pieces: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().expect("a name"), HeaderValue::from_str(value).expect("a value"))
        };
        list.iter().map(parse).collect()
    }

    fn prepared(list: &[(&str, &str)], trusted: &[&str]) -> HeaderMap {
        let mut headers = headers(list);
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().expect("a net")).collect();
        let (peer, text) = ([10, 1, 2, 3].into(), HeaderValue::from_static("10.1.2.3"));
        let host = HeaderValue::from_static("api.org");
        let from = From { peer, text: &text, trusted: &trusted, secure: false };
        prepare_request(&mut headers, &host, &from);
        headers
    }

    fn get<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
        headers.get(name).and_then(|value| value.to_str().ok())
    }

    #[test]
    fn hop_by_hop_fields_end_here() {
        let got = prepared(
            &[
                ("connection", "close, X-Hop, host"),
                ("host", "api.org"),
                ("x-hop", "1"),
                ("keep-alive", "timeout=5"),
                ("te", "gzip, trailers"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "h2c"),
                ("http2-settings", "AAA"),
                ("proxy", "evil"),
                ("x-keep", "1"),
            ],
            &[],
        );
        for gone in
            ["connection", "x-hop", "keep-alive", "transfer-encoding", "upgrade", "http2-settings", "proxy"]
        {
            assert_eq!(get(&got, gone), None, "{gone}");
        }
        assert_eq!(
            (get(&got, "x-keep"), get(&got, "host"), get(&got, "te")),
            (Some("1"), Some("api.org"), Some("trailers"))
        );
    }

    #[test]
    fn forwarded_is_told_to_services_that_read_the_older_fields() {
        let said = [("forwarded", "for=1.1.1.1;proto=https, for=\"[2001:db8::1]:80\", for=_hidden")];
        let got = prepared(&said, &["10.0.0.0/8"]);
        assert_eq!(get(&got, "x-forwarded-for"), Some("1.1.1.1, 2001:db8::1, unknown, 10.1.2.3"));
        assert_eq!(get(&got, "x-forwarded-proto"), Some("https"));
        let got = prepared(&said, &[]);
        assert_eq!(get(&got, "x-forwarded-for"), Some("10.1.2.3"), "of a stranger nothing is believed");
        assert_eq!(get(&got, "x-forwarded-proto"), Some("http"));
        let both = [("forwarded", "for=1.1.1.1;proto=https"), ("x-forwarded-proto", "http")];
        assert_eq!(get(&prepared(&both, &["10.0.0.0/8"]), "x-forwarded-proto"), Some("http"));
    }

    #[test]
    fn a_service_cannot_speak_for_the_gateway() {
        let mut answer = headers(&[
            ("x-tidegate-state", "asleep"),
            ("x-tidegate-refused", "no"),
            ("connection", "close"),
            ("x-own", "1"),
        ]);
        prepare_response(&mut answer);
        assert_eq!(answer.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-own"]);
    }

    #[test]
    fn trailers_say_nothing_that_a_head_may_not() {
        let forged = [
            "x_forwarded_user",
            "x-forwarded-port",
            "content_length",
            "x-original-url",
            "x-rewrite-url",
            "x-client-ip",
            "true-client-ip",
            "proxy",
            "x-tidegate-foo",
            "x-request-id",
            "traceparent",
            "te",
            "host",
        ];
        let mut trailers: HeaderMap = headers(&[("x-sum", "1"), ("grpc-status", "0")]);
        for name in forged {
            trailers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        prepare_trailers(&mut trailers);
        let mut left: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["grpc-status", "x-sum"]);
    }

    #[test]
    fn no_protocol_of_http_is_changed_to() {
        for (to, may) in [
            ("websocket", true),
            ("tls/1.0", true),
            ("h2c", false),
            ("websocket, H2C", false),
            ("HTTP/2.0", false),
            ("h2", false),
        ] {
            assert_eq!(may_upgrade(to.as_bytes()), may, "{to}");
        }
    }

    #[test]
    fn each_connection_field_names_what_ends_here() {
        let got = prepared(
            &[
                ("connection", "Keep-Alive"),
                ("connection", "x-hop, upgrade"),
                ("x-hop", "1"),
                ("x-keep", "1"),
            ],
            &[],
        );
        assert_eq!(
            (get(&got, "connection"), get(&got, "x-hop"), get(&got, "x-keep")),
            (None, None, Some("1"))
        );
    }

    #[test]
    fn the_client_is_the_last_hop_that_is_not_trusted() {
        let trusted: Vec<IpNet> = ["10.0.0.0/8"].map(|net| net.parse().expect("a net")).into();
        for (peer, chain, want) in [
            ("10.1.2.3", &[][..], "10.1.2.3"),
            ("10.1.2.3", &["1.1.1.1"][..], "1.1.1.1"),
            ("10.1.2.3", &["2.2.2.2, 1.1.1.1, 10.9.9.9"][..], "1.1.1.1"),
            ("10.1.2.3", &["2.2.2.2", "1.1.1.1"][..], "1.1.1.1"),
            ("10.1.2.3", &["1.1.1.1, unknown"][..], "10.1.2.3"),
            ("10.1.2.3", &["10.0.0.1"][..], "10.0.0.1"),
            ("3.3.3.3", &["1.1.1.1"][..], "3.3.3.3"),
        ] {
            let list: Vec<_> = chain.iter().map(|chain| ("x-forwarded-for", *chain)).collect();
            let mut fields = HeaderMap::new();
            for (name, value) in &list {
                fields.append(*name, HeaderValue::from_static(value));
            }
            let text = HeaderValue::from_static("unused");
            let from = From {
                peer: peer.parse().expect("an address"),
                text: &text,
                trusted: &trusted,
                secure: false,
            };
            assert_eq!(client(&fields, &from).to_string(), want, "{peer} {chain:?}");
        }
    }

    #[test]
    fn only_a_trusted_peer_is_believed() {
        let said =
            [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https"), ("forwarded", "for=1.1.1.1")];
        let got = prepared(&said, &["192.168.0.0/16"]);
        assert_eq!(get(&got, "x-forwarded-for"), Some("10.1.2.3"));
        assert_eq!(get(&got, "x-forwarded-proto"), Some("http"));
        assert_eq!(get(&got, "forwarded"), Some("for=10.1.2.3;proto=http"));
        let got = prepared(&said, &["10.0.0.0/8"]);
        assert_eq!(get(&got, "x-forwarded-for"), Some("1.1.1.1, 10.1.2.3"));
        assert_eq!(get(&got, "x-forwarded-proto"), Some("https"));
        assert_eq!(get(&got, "forwarded"), Some("for=1.1.1.1, for=10.1.2.3;proto=http"));
    }

    #[test]
    fn the_client_is_the_last_hop_that_nobody_trusted_tells_of() {
        for (lines, trusted, want) in [
            (&["1.1.1.1"][..], &[][..], "10.1.2.3"),
            (&["1.1.1.1"], &["10.0.0.0/8"], "1.1.1.1"),
            (&["6.6.6.6, 1.1.1.1, 10.9.9.9"], &["10.0.0.0/8"], "1.1.1.1"),
            (&["6.6.6.6", "1.1.1.1"], &["10.0.0.0/8"], "1.1.1.1"),
            (&["6.6.6.6, unknown, 10.9.9.9"], &["10.0.0.0/8"], "10.9.9.9"),
            (&["6.6.6.6, nonsense"], &["10.0.0.0/8"], "10.1.2.3"),
            (&["::ffff:1.1.1.1"], &["10.0.0.0/8"], "1.1.1.1"),
            (&[], &["10.0.0.0/8"], "10.1.2.3"),
            (&["1.1.1.1:4444"], &["10.0.0.0/8"], "1.1.1.1"),
            (&["\"1.1.1.1\""], &["10.0.0.0/8"], "1.1.1.1"),
            (&["[2001:db8::1]:80, 10.9.9.9:1"], &["10.0.0.0/8"], "2001:db8::1"),
            (&["[2001:db8::1]"], &["10.0.0.0/8"], "2001:db8::1"),
        ] {
            let mut sent = HeaderMap::new();
            for line in lines {
                sent.append(X_FORWARDED_FOR, HeaderValue::from_static(line));
            }
            let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().expect("a net")).collect();
            let text = HeaderValue::from_static("10.1.2.3");
            let from = From { peer: [10, 1, 2, 3].into(), text: &text, trusted: &trusted, secure: false };
            assert_eq!(client(&sent, &from).to_string(), want, "{lines:?}");
        }
    }

    #[test]
    fn forwarded_tells_of_the_client_where_nothing_else_does() {
        for (said, want) in [
            (
                &[("forwarded", "for=6.6.6.6, For=\"[2001:db8::1]:80\";proto=https, for=10.9.9.9")][..],
                "2001:db8::1",
            ),
            (&[("forwarded", "proto=https;for=1.1.1.1:80")], "1.1.1.1"),
            (&[("forwarded", "for=_hidden")], "10.1.2.3"),
            (&[("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "1.1.1.1")], "1.1.1.1"),
        ] {
            let got = prepared(said, &["10.0.0.0/8"]);
            assert_eq!(get(&got, "x-real-ip"), Some(want), "{said:?}");
        }
    }

    #[test]
    fn the_scheme_is_the_one_that_the_client_came_by() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().expect("a net")];
        let value = HeaderValue::from_static("unused");
        for (said, want) in [
            ("https", "https"),
            ("HTTPS", "https"),
            ("https, http", "https"),
            ("wss", "http"),
            ("http", "http"),
        ] {
            let from = From { peer: [10, 1, 2, 3].into(), text: &value, trusted: &trusted, secure: false };
            assert_eq!(scheme(&headers(&[("x-forwarded-proto", said)]), &from), want, "{said}");
        }
    }

    #[test]
    fn what_only_a_proxy_can_say_is_believed_of_trusted_ones_alone() {
        for name in [
            "x-forwarded-port",
            "x-forwarded-prefix",
            "x-forwarded-scheme",
            "x-original-url",
            "x-rewrite-url",
            "x-client-ip",
            "true-client-ip",
        ] {
            assert_eq!(get(&prepared(&[(name, "1")], &[]), name), None, "{name}");
            assert_eq!(get(&prepared(&[(name, "1")], &["10.0.0.0/8"]), name), Some("1"), "{name}");
        }
        let real = |trusted: &[&str]| {
            let said = [("x-real-ip", "6.6.6.6"), ("x-forwarded-for", "1.1.1.1")];
            get(&prepared(&said, trusted), "x-real-ip").map(str::to_owned)
        };
        assert_eq!(real(&[]).as_deref(), Some("10.1.2.3"));
        assert_eq!(real(&["10.0.0.0/8"]).as_deref(), Some("1.1.1.1"));
    }

    #[test]
    fn traces_are_end_to_end() {
        let got = prepared(&[("connection", "traceparent"), ("traceparent", "00-1-2-01")], &[]);
        assert_eq!(get(&got, "traceparent"), Some("00-1-2-01"));
    }

    #[test]
    fn only_a_trusted_peer_names_a_user() {
        let said = [("x-forwarded-user", "root"), ("x_forwarded_user", "root")];
        assert_eq!(get(&prepared(&said, &[]), "x-forwarded-user"), None);
        assert_eq!(get(&prepared(&said, &[]), "x_forwarded_user"), None);
        assert_eq!(get(&prepared(&said, &["10.0.0.0/8"]), "x-forwarded-user"), Some("root"));
    }

    #[test]
    fn aliases_with_underscores_are_dropped() {
        let aliases = ["x_forwarded_for", "x-forwarded_for", "x_real_ip", "x-real_ip", "content_length"];
        let mut said = aliases.map(|name| (name, "1.1.1.1")).to_vec();
        said.push(("my_own", "1"));
        let got = prepared(&said, &[]);
        assert!(aliases.iter().all(|name| get(&got, name).is_none()), "{got:?}");
        assert_eq!(get(&got, "my_own"), Some("1"));
    }

    #[test]
    fn upgrades_are_seen_and_h2c_is_not_one() {
        let upgrade = |version, connection, to| {
            upgrade(version, &headers(&[("connection", connection), ("upgrade", to)])).is_some()
        };
        let asks = |connection, to| upgrade(Version::HTTP_11, connection, to);
        assert!(asks("keep-alive, Upgrade", "websocket"));
        assert!(!upgrade(Version::HTTP_10, "upgrade", "websocket"));
        assert!(!asks("Upgrade, HTTP2-Settings", "h2c"));
        assert!(!asks("close", "websocket"));
    }

    #[test]
    fn cookies_become_one_field() {
        let mut got = headers(&[("cookie", "a=1"), ("cookie", "b=2")]);
        join_cookies(&mut got);
        assert_eq!(get(&got, "cookie"), Some("a=1; b=2"));
    }
}
