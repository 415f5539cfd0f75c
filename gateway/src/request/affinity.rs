//! Which replica a request belongs to: read from its cookie or header, and told to the client in a cookie of ours that names
//! the replica. A name and not a key that is hashed: so that a replica that comes moves no session at all.
//! Called by [`exchange`](super::exchange). Pure. Absent: which replica it gets (the [`balancer`](crate::fleet::balancer)'s).

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{COOKIE, SET_COOKIE},
};
use tidegate_config::model::{Affinity, Common};

use crate::fleet::balancer::{Wish, affinity::hash};

/// What the connection's protocol is called; set before for every request.
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A request's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// The replica that it would like.
    pub(crate) wish: Option<Wish>,
    /// The client is reached over TLS.
    secure: bool,
}

impl Session {
    /// The session of a request with these headers.
    pub(crate) fn of(affinity: &Affinity, headers: &HeaderMap) -> Self {
        let wish = match &affinity.by {
            Common::Cookie(name) => {
                Some(cookie(headers, name).and_then(replica).map_or(Wish::New, Wish::Named))
            }
            Common::Header(name) => headers.get(name).map(|value| Wish::Hashed(hash(value.as_bytes()))),
        };
        let secure = headers.get(X_FORWARDED_PROTO).is_some_and(|proto| proto == "https");
        Self { wish, secure }
    }

    /// Tells the client which replica it was answered by, unless its cookie names one that still `serves`.
    pub(crate) fn remember(
        &self,
        affinity: &Affinity,
        name: u64,
        headers: &mut HeaderMap,
        serves: impl FnOnce(u64) -> bool,
    ) {
        let Common::Cookie(cookie) = &affinity.by else { return };
        match self.wish {
            Some(Wish::Named(wished)) if wished == name || serves(wished) => {}
            Some(_) | None => {
                let secure = if self.secure { "; Secure" } else { "" };
                let text = format!("{cookie}={name:016x}; Path=/; HttpOnly; SameSite=Lax{secure}");
                headers.append(SET_COOKIE, HeaderValue::try_from(text).expect("a checked name and digits"));
            }
        }
    }
}

/// The value of a cookie.
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let pairs =
        headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(';'));
    let mut values = pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(key, _)| *key == name);
    values.next().map(|(_, value)| value)
}

/// The replica that a cookie's value names.
fn replica(value: &str) -> Option<u64> {
    let digits = value.len() == 16 && value.bytes().all(|c| c.is_ascii_hexdigit());
    u64::from_str_radix(value, 16).ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
        };
        all.iter().map(pair).collect()
    }

    fn by_cookie() -> Affinity {
        Affinity { by: Common::Cookie("tg".into()), bound: Affinity::BOUND }
    }

    #[test]
    fn a_cookie_names_a_replica() {
        for (cookie, want) in [
            ("tg=00000000000000ff", Some(255)),
            ("a=1; tg=00000000000000ff; b=2", Some(255)),
            ("a=1;tg=00000000000000ff", Some(255)),
            ("tg=ff", None),
            ("tg=+0000000000000ff", None),
            ("tg=00000000000000fg", None),
            ("xtg=00000000000000ff", None),
            ("tg", None),
            ("", None),
        ] {
            let session = Session::of(&by_cookie(), &headers(&[("cookie", cookie)]));
            assert_eq!(session.wish, Some(want.map_or(Wish::New, Wish::Named)), "{cookie}");
        }
    }

    #[test]
    fn the_cookie_is_set_where_it_is_missing_or_names_one_that_is_gone() {
        let own = ("cookie", "tg=00000000000000ff");
        for (request, serves, want) in [
            (&[][..], false, Some("tg=0000000000000007; Path=/; HttpOnly; SameSite=Lax")),
            (&[own][..], true, None),
            (&[own][..], false, Some("tg=0000000000000007; Path=/; HttpOnly; SameSite=Lax")),
            (&[("cookie", "tg=0000000000000007")][..], false, None),
            (
                &[("x-forwarded-proto", "https")][..],
                false,
                Some("tg=0000000000000007; Path=/; HttpOnly; SameSite=Lax; Secure"),
            ),
        ] {
            let mut answer = headers(&[("set-cookie", "app=1")]);
            Session::of(&by_cookie(), &headers(request)).remember(&by_cookie(), 7, &mut answer, |_| serves);
            let set: Vec<_> = answer.get_all(SET_COOKIE).iter().skip(1).collect();
            assert_eq!(set, want.into_iter().collect::<Vec<_>>(), "{request:?}");
        }
    }

    #[test]
    fn a_header_is_no_cookie() {
        let affinity = Affinity { by: Common::Header("x-user".into()), bound: Affinity::BOUND };
        let session = Session::of(&affinity, &headers(&[("x-user", "ann")]));
        assert_eq!(session.wish, Some(Wish::Hashed(hash(b"ann"))));
        assert_eq!(Session::of(&affinity, &HeaderMap::new()).wish, None);
        let mut answer = HeaderMap::new();
        session.remember(&affinity, 7, &mut answer, |_| false);
        assert!(answer.is_empty());
    }
}
