//! Whether and when a failed attempt may be made again. Pure; the budget is asked by the caller.
//! Nothing was sent: any method, as often as [`UNSENT`] says; it costs the replica nothing, so it costs no budget either.
//! Later: only what is replayable, before its response has begun, within the budget.

use std::time::Duration;

use http::Method;

use super::refusal::Refusal;

/// Bodies up to this size are kept for a replay.
pub(crate) const REPLAY_BYTES: u32 = 64 << 10;

/// How often one request is sent again after a reset, whatever the budget has left.
pub(crate) const RESETS: u32 = 3;

/// How often one request is tried again of which nothing was sent. Between connect failures lies a growing pause, so that
/// this is time enough for a replica to be replaced.
pub(crate) const UNSENT: u32 = 30;

/// The longest pause before a request is tried again on a replica that took none of it.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// How an attempt failed before its response began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The replica did not take a connection.
    Connect,
    /// We could not even try: out of file descriptors or ports.
    Ours,
    /// The connection was gone before anything was sent on it.
    NotSent,
    /// It broke off after something may have been sent.
    Reset,
    /// The response did not begin in time.
    Timeout,
    /// The client's side of the exchange failed.
    Client,
    /// The client wants what the replica says it cannot do.
    Unable,
}

impl Failure {
    /// Whether the replica has seen nothing of it.
    pub(crate) fn is_unsent(self) -> bool {
        matches!(self, Self::Connect | Self::NotSent)
    }

    /// Whether it speaks against the replica.
    pub(crate) fn is_the_replicas(self) -> bool {
        matches!(self, Self::Connect | Self::Reset | Self::Timeout)
    }

    /// A word for metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Ours => "ours",
            Self::NotSent => "not_sent",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Client => "client",
            Self::Unable => "unable",
        }
    }
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Swap the lease and send again.
    Again {
        /// Whether the replica is to be left alone for a moment.
        suspend: bool,
    },
    /// Answer with this.
    Refuse(Refusal),
}

/// How long to wait after the `tries`-th time, counted from 1, that nothing of a request was sent. A kept connection that had
/// ended is made up for at once; a replica that refuses is given a little longer each time. Where it did not even take a
/// connection, it is suspended instead.
pub(crate) fn pause(failure: Failure, tries: u32) -> Option<Duration> {
    let doublings = tries.checked_sub(2)?;
    let pause = Duration::from_millis(1 << doublings.min(10)).min(LONGEST_PAUSE);
    (failure == Failure::NotSent).then_some(pause)
}

/// Whether a request of this method may be sent twice if its body can.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

/// What to do about a failed attempt. `replayable`: idempotent, and with no body or one that was kept.
pub(crate) fn verdict(failure: Failure, replayable: bool, within_budget: bool) -> Verdict {
    match failure {
        Failure::Connect if within_budget => Verdict::Again { suspend: true },
        Failure::Connect => Verdict::Refuse(Refusal::UpstreamRefused),
        Failure::NotSent if within_budget => Verdict::Again { suspend: false },
        Failure::Reset if replayable && within_budget => Verdict::Again { suspend: false },
        Failure::NotSent | Failure::Reset => Verdict::Refuse(Refusal::UpstreamReset),
        Failure::Timeout => Verdict::Refuse(Refusal::UpstreamTimeout),
        Failure::Ours => Verdict::Refuse(Refusal::NoCapacity { cause: "out of sockets".into() }),
        Failure::Client => Verdict::Refuse(Refusal::BadRequest("the request's body broke off")),
        Failure::Unable => Verdict::Refuse(Refusal::BadRequest("the service takes no upgrades over HTTP/2")),
    }
}

/// What a request is told that found no other replica in time: rather why it needed one.
pub(crate) fn late(failure: Failure, refusal: Refusal) -> Refusal {
    match (failure, refusal) {
        (Failure::Connect, Refusal::HoldDeadline) => Refusal::UpstreamRefused,
        (_, refusal) => refusal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_sent_again() {
        let again = |suspend| Verdict::Again { suspend };
        for (failure, replayable, want) in [
            (Failure::Connect, false, again(true)),
            (Failure::NotSent, false, again(false)),
            (Failure::Reset, true, again(false)),
            (Failure::Reset, false, Verdict::Refuse(Refusal::UpstreamReset)),
            (
                Failure::Unable,
                true,
                Verdict::Refuse(Refusal::BadRequest("the service takes no upgrades over HTTP/2")),
            ),
            (Failure::Timeout, true, Verdict::Refuse(Refusal::UpstreamTimeout)),
        ] {
            assert_eq!(verdict(failure, replayable, true), want, "{failure:?}, replayable {replayable}");
        }
        assert_eq!(verdict(Failure::Connect, true, false), Verdict::Refuse(Refusal::UpstreamRefused));
        assert_eq!(verdict(Failure::Reset, true, false), Verdict::Refuse(Refusal::UpstreamReset));
    }

    #[test]
    fn who_refuses_is_asked_at_once_and_then_less_and_less_often() {
        let millis = |tries| pause(Failure::NotSent, tries).map(|pause| pause.as_millis());
        assert_eq!(
            [1, 2, 3, 8, 9, UNSENT].map(millis),
            [None, Some(1), Some(2), Some(64), Some(100), Some(100)]
        );
        assert_eq!(pause(Failure::Connect, 9), None);
    }

    #[test]
    fn posts_are_never_sent_twice() {
        assert!(is_idempotent(&Method::GET) && is_idempotent(&Method::DELETE));
        assert!(!is_idempotent(&Method::POST) && !is_idempotent(&Method::PATCH));
    }
}
