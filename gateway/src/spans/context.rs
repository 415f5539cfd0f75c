//! The trace that a request is part of: W3C's `traceparent`, read and written. Pure; chance is an argument.
//! Holds: what is malformed starts a trace of its own, and its `tracestate` goes no further.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Longer states are not passed on; every implementation must take as many.
const STATE: usize = 512;

/// The flag that says that the caller records the trace.
const SAMPLED: u8 = 1;

/// Where a request stands in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: u128,
    /// The caller's span, if the trace did not begin here.
    pub parent: Option<u64>,
    /// Our own span.
    pub span: u64,
    /// Whether it is recorded.
    pub sampled: bool,
}

impl Context {
    /// The context of a request with these fields. A caller that records is followed; of the traces that begin here
    /// those are recorded whose `drawn` (0 to 1) is below `sample`. `trace` and `span` are chance.
    #[must_use]
    pub fn of(headers: &HeaderMap, trace: u128, span: u64, drawn: f64, sample: f64) -> Self {
        let span = span.max(1);
        match parent(headers) {
            Some((trace, parent, flags)) => {
                Self { trace, parent: Some(parent), span, sampled: flags & SAMPLED != 0 }
            }
            None => Self { trace: trace.max(1), parent: None, span, sampled: drawn < sample },
        }
    }

    /// Makes a head tell of it: whoever comes next is below our span. What is not recorded here stays as the caller sent it.
    pub fn pass_on(self, headers: &mut HeaderMap) {
        let state: usize = headers.get_all(TRACESTATE).iter().map(HeaderValue::len).sum();
        if self.parent.is_none() || state > STATE {
            headers.remove(TRACESTATE);
        }
        if self.parent.is_none() || self.sampled {
            let mut text = String::with_capacity(55);
            let flags = u8::from(self.sampled);
            write!(text, "00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
                .expect("a string takes everything");
            headers.insert(TRACEPARENT, HeaderValue::try_from(text).expect("digits and dashes"));
        }
    }
}

/// The trace that a request says that it is part of.
#[must_use]
pub fn trace_of(headers: &HeaderMap) -> Option<u128> {
    parent(headers).map(|(trace, ..)| trace)
}

/// Trace, span and flags of the caller.
fn parent(headers: &HeaderMap) -> Option<(u128, u64, u8)> {
    // Asked of every request, and few have one: a look at the names is cheaper.
    headers.keys().find(|name| **name == TRACEPARENT)?;
    let mut all = headers.get_all(TRACEPARENT).iter();
    let text = all.next()?.to_str().ok()?;
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // Later versions may add parts; this one may not.
    let alone = all.next().is_none() && (version != "00" || parts.next().is_none()) && version != "ff";
    hex(version, 2).filter(|_| alone)?;
    let (trace, span) = (hex(trace, 32)?, u64::try_from(hex(span, 16)?).ok()?);
    let flags = u8::try_from(hex(flags, 2)?).ok()?;
    (trace != 0 && span != 0).then_some((trace, span, flags))
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = text.len() == digits && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    if lower { u128::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;

    fn head(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
        };
        fields.iter().map(field).collect()
    }

    fn parsed(text: &str) -> Option<(u128, u64, u8)> {
        parent(&head(&[("traceparent", text)]))
    }

    #[test]
    fn only_what_the_standard_allows_is_believed() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(parsed(good), Some((TRACE, 0x00f0_67aa_0ba9_02b7, 1)));
        assert_eq!(parsed(&format!("cc{}-what-the-future-brings", &good[2..])).map(|(t, ..)| t), Some(TRACE));
        for bad in [
            "",
            "00",
            &format!("{good}-more"),
            &format!("ff{}", &good[2..]),
            &good.to_uppercase(),
            &good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &good.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &good[..54],
            &format!(" {good}"),
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
        assert_eq!(
            parent(&head(&[("traceparent", good), ("traceparent", good)])),
            None,
            "one of two is a guess"
        );
    }

    #[test]
    fn a_trace_goes_on_below_our_span_or_begins_here() {
        let passed = |fields: &[(&'static str, &str)], drawn: f64| {
            let mut headers = head(fields);
            let context = Context::of(&headers, 7, 9, drawn, 0.5);
            context.pass_on(&mut headers);
            let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            (context.sampled, text(TRACEPARENT).unwrap_or_default(), text(TRACESTATE))
        };
        let caller = |flags| format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
        let ours = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000009-01".to_owned();
        let state = Some("a=1".to_owned());
        let recorded = caller("01");
        let (on, off) = (&[("traceparent", &*recorded), ("tracestate", "a=1")][..], caller("00"));
        assert_eq!(passed(on, 0.9), (true, ours, state.clone()), "the caller decides");
        let quiet = &[("traceparent", &*off), ("tracestate", "a=1")];
        assert_eq!(passed(quiet, 0.0), (false, off.clone(), state), "not recorded: as it came");
        let begun = |flags| format!("00-{:032x}-{:016x}-{flags}", 7, 9);
        assert_eq!(
            passed(&[("traceparent", "nonsense"), ("tracestate", "a=1")], 0.1),
            (true, begun("01"), None)
        );
        assert_eq!(passed(&[], 0.9), (false, begun("00"), None));
    }
}
