//! What a request says about who sends it (RFC 7617, RFC 6750). Pure. Absent: whether it is true.

use base64::{Engine, engine::general_purpose};
use http::{HeaderMap, header::AUTHORIZATION};

/// Longer credentials are none: hashing them would be work for nothing.
const LONGEST: usize = 8 << 10;

/// What a request brings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// A user's name and password.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: Vec<u8>,
    },
    /// A token.
    Bearer(String),
}

/// What stands in the request's one `Authorization`; `None` for anything that cannot be read in one way only.
pub(crate) fn parse(headers: &HeaderMap) -> Option<Credentials> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (all.next(), all.next()) else { return None };
    let text = only.to_str().ok().filter(|text| text.len() <= LONGEST)?;
    let (scheme, rest) = text.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        let good = !rest.is_empty() && rest.bytes().all(|c| c.is_ascii_graphic());
        return good.then(|| Credentials::Bearer(rest.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain =
        general_purpose::STANDARD.decode(rest).or_else(|_| general_purpose::STANDARD_NO_PAD.decode(rest));
    let plain = plain.ok()?;
    let colon = plain.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(plain[..colon].to_vec()).ok()?;
    Some(Credentials::Basic { user, password: plain[colon + 1..].to_vec() })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(sent: &[&str], want: Option<Credentials>) {
        let pair = |value: &&str| (AUTHORIZATION, HeaderValue::from_str(value).expect("a value"));
        let mut headers = HeaderMap::new();
        for (name, value) in sent.iter().map(pair) {
            headers.append(name, value);
        }
        assert_eq!(parse(&headers), want, "{sent:?}");
    }

    #[test]
    fn credentials_are_read_in_one_way_only() {
        let basic = |user: &str, password: &str| {
            Some(Credentials::Basic { user: user.into(), password: password.into() })
        };
        check(&["Basic YWxpY2U6czNjcmV0"], basic("alice", "s3cret"));
        check(&["bASIC  YWxpY2U6czNjcmV0"], basic("alice", "s3cret"));
        check(&["Basic YTpiOmM="], basic("a", "b:c"));
        check(&["Basic YTo"], basic("a", ""));
        check(&["Bearer t0ken"], Some(Credentials::Bearer("t0ken".into())));
        for none in [
            &[][..],
            &["Basic YWxpY2U6czNjcmV0", "Basic YWxpY2U6czNjcmV0"],
            &["Basic"],
            &["Basic YWxpY2U"],
            &["Basic %%%"],
            &["Basic YWxpY2U6czNjcmV0, Bearer x"],
            &["Bearer "],
            &["Bearer a b"],
            &["Digest username=alice"],
        ] {
            check(none, None);
        }
        check(&[&format!("Bearer {}", "x".repeat(LONGEST))], None);
    }
}
