//! Who names a request. Pure; a new name is an argument.

use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate_config::model::RequestId;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longer names are not kept: they would stand in every line of the log.
const LONGEST: usize = 128;

/// The request's name: the client's if it is kept and sensible, else a new one. `None`: nobody names it.
pub(crate) fn name(
    rule: RequestId,
    headers: &HeaderMap,
    fresh: impl FnOnce() -> u128,
) -> Option<HeaderValue> {
    let kept = match rule {
        RequestId::Off => return None,
        RequestId::Keep => kept(headers).cloned(),
        RequestId::Make => None,
    };
    kept.or_else(|| HeaderValue::try_from(format!("{:032x}", fresh())).ok())
}

fn kept(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut all = headers.get_all(X_REQUEST_ID).iter();
    let (first, None) = (all.next()?, all.next()) else { return None };
    let sensible = |c: u8| c.is_ascii_alphanumeric() || b"-_.:+/=".contains(&c);
    let good = (1..=LONGEST).contains(&first.len()) && first.as_bytes().iter().copied().all(sensible);
    good.then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: RequestId, sent: &[&'static str], want: Option<&str>) {
        let sent = sent.iter().map(|value| (X_REQUEST_ID, HeaderValue::from_static(value)));
        let got = name(rule, &sent.collect(), || 0xab);
        assert_eq!(got.as_ref().and_then(|name| name.to_str().ok()), want, "{rule:?}");
    }

    #[test]
    fn names_are_made_or_kept() {
        const NEW: Option<&str> = Some("000000000000000000000000000000ab");
        check(RequestId::Off, &["a"], None);
        check(RequestId::Make, &["a"], NEW);
        check(RequestId::Keep, &["a-b_c.1:2"], Some("a-b_c.1:2"));
        check(RequestId::Keep, &[], NEW);
        check(RequestId::Keep, &["a", "b"], NEW);
        check(RequestId::Keep, &["a b"], NEW);
        check(RequestId::Keep, &["a\"}"], NEW);
        check(RequestId::Keep, &[""], NEW);
    }
}
