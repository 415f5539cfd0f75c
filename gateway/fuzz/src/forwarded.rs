//! Nobody but a trusted peer says where a request came from, and nothing that ends here goes further.

use arbitrary::Arbitrary;
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use ipnet::IpNet;

use crate::tidegate::headers::{self, From};

/// Fields of a request, and whether its peer is believed.
#[derive(Debug, Arbitrary)]
pub struct Input {
    fields: Vec<(Name, Vec<u8>)>,
    trusted: bool,
    ipv6: bool,
    secure: bool,
}

#[derive(Debug, Arbitrary)]
enum Name {
    Connection,
    Te,
    Upgrade,
    TransferEncoding,
    KeepAlive,
    Host,
    Cookie,
    Forwarded,
    For,
    Proto,
    ForwardedHost,
    RealIp,
    Alias,
    OtherAlias,
    RealAlias,
    User,
    Proxy,
    Other(u8),
    Any(Vec<u8>),
}

impl Name {
    fn bytes(&self) -> Vec<u8> {
        let text: &[u8] = match self {
            Self::Connection => b"connection",
            Self::Te => b"te",
            Self::Upgrade => b"upgrade",
            Self::TransferEncoding => b"transfer-encoding",
            Self::KeepAlive => b"keep-alive",
            Self::Host => b"host",
            Self::Cookie => b"cookie",
            Self::Forwarded => b"forwarded",
            Self::For => b"x-forwarded-for",
            Self::Proto => b"x-forwarded-proto",
            Self::ForwardedHost => b"x-forwarded-host",
            Self::RealIp => b"x-real-ip",
            Self::Alias => b"x_forwarded_for",
            Self::OtherAlias => b"x-forwarded_for",
            Self::RealAlias => b"x-real_ip",
            Self::User => b"x-forwarded-user",
            Self::Proxy => b"proxy",
            Self::Other(number) => return format!("x-{number}").into_bytes(),
            Self::Any(bytes) => bytes,
        };
        text.to_vec()
    }
}

/// Panics where a promise is broken.
pub fn look(input: &Input) {
    let mut fields = HeaderMap::new();
    for (name, value) in input.fields.iter().take(64) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&name.bytes()), HeaderValue::from_bytes(value))
        {
            fields.append(name, value);
        }
    }
    if let Some(to) = headers::upgrade(Version::HTTP_11, &fields) {
        assert!(!to.as_bytes().eq_ignore_ascii_case(b"h2c"), "{to:?}");
    }
    let peer = if input.ipv6 { "2001:db8::7".parse() } else { "192.0.2.7".parse() }.expect("an address");
    let text = HeaderValue::try_from(format!("{peer}")).expect("text");
    let networks: Vec<IpNet> = if input.trusted { vec![IpNet::from(peer)] } else { Vec::new() };
    let host = HeaderValue::from_static("api.org");
    let before = fields.clone();
    let from = From { peer, text: &text, trusted: &networks, secure: input.secure };
    let client = headers::client(&fields, &from);
    assert!(input.trusted || client == peer, "a stranger says that it is {client}");
    headers::prepare_request(&mut fields, &host, &from);
    assert!(input.trusted || !fields.contains_key("x-forwarded-user"), "a stranger names a user: {fields:?}");
    ended(&before, &fields);
    if input.trusted {
        extended(&fields, &text)
    } else {
        replaced(&before, &fields, &text, &host, input.secure)
    }
    headers::join_cookies(&mut fields);
    assert!(fields.get_all("cookie").iter().count() <= 1);
    headers::strip_hop_by_hop(&mut fields);
}

/// What ends here is gone.
fn ended(before: &HeaderMap, after: &HeaderMap) {
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
        "proxy",
        "http2-settings",
    ] {
        assert!(!after.contains_key(name), "{name} in {after:?}");
    }
    assert!(after.get_all("te").iter().all(|te| te == "trailers"), "{after:?}");
    let ours = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];
    for name in after.keys().filter(|name| name.as_str().contains('_')) {
        assert!(!ours.contains(&&*name.as_str().replace('_', "-")), "{name} in {after:?}");
    }
    let kept = [
        "host",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
        "te",
        "content-length",
        "authorization",
        "cookie",
    ];
    let named = before.get_all("connection").iter().filter_map(|value| value.to_str().ok());
    for token in named.flat_map(|value| value.split(',')).map(|token| token.trim().to_ascii_lowercase()) {
        let gone = kept.contains(&&*token)
            || !HeaderName::from_bytes(token.as_bytes()).is_ok_and(|name| after.contains_key(name));
        assert!(gone, "Connection named {token}, which is in {after:?}");
    }
}

/// From a stranger: our words alone.
fn replaced(before: &HeaderMap, after: &HeaderMap, text: &HeaderValue, host: &HeaderValue, secure: bool) {
    let only = |name: &str| {
        let mut all = after.get_all(name).iter();
        let first = all.next().cloned();
        assert!(all.next().is_none(), "{name} twice in {after:?}");
        first
    };
    assert_eq!(only("x-forwarded-for").as_ref(), Some(text));
    assert_eq!(only("x-real-ip").as_ref(), Some(text));
    assert_eq!(only("x-forwarded-host").as_ref(), Some(host));
    assert_eq!(
        only("x-forwarded-proto").as_ref(),
        Some(&HeaderValue::from_static(if secure { "https" } else { "http" }))
    );
    let hop = only("forwarded");
    assert_eq!(hop.is_some(), before.contains_key("forwarded"), "{after:?}");
    if let Some(hop) = hop {
        assert!(hop.to_str().is_ok_and(|hop| hop.starts_with("for=") && !hop.contains(',')), "{hop:?}");
    }
}

/// From a proxy that is believed: its words, and ours after them.
fn extended(after: &HeaderMap, text: &HeaderValue) {
    let mut all = after.get_all("x-forwarded-for").iter();
    let chain = all.next().and_then(|chain| chain.to_str().ok()).expect("a chain");
    assert!(all.next().is_none(), "{after:?}");
    assert!(chain == "unknown" || chain.ends_with(text.to_str().expect("text")), "{chain}");
}
