//! Two attempts at one request, of which the first good answer counts: where a request that may be sent twice is not answered
//! in time, it is sent to another replica too ("The Tail at Scale", Dean and Barroso 2013). Called by
//! [`exchange`](super::exchange) for services that ask for it.
//! Holds: whoever loses is dropped, and with it its connection; its lease is given back by its owner.

use std::{pin::pin, sync::Arc, time::Instant};

use http::{Response, request::Parts};
use tidegate_config::model;

use super::{
    body::{Hold, Inbound, Outbound},
    upstream::Failed,
};
use crate::{
    clock,
    fleet::{Lease, Service},
};

/// What an attempt that went well gives.
type Answer = Response<Inbound>;

/// What a hedged attempt needs besides the attempt.
pub(crate) struct Hedged<'e> {
    pub(crate) service: &'e Arc<Service>,
    pub(crate) rules: &'e model::Hedge,
    pub(crate) upstream: &'e model::Upstream,
    pub(crate) head: &'e Parts,
    /// Holds the lease of the attempt, and in the end that of the one that counts.
    pub(crate) hold: &'e Arc<Hold>,
}

impl Hedged<'_> {
    /// The answer of `first`, which begins at `begun`, or of an attempt on another replica with the body of `again`; and when
    /// the one that counts began.
    pub(crate) async fn send(
        &self,
        first: impl Future<Output = Result<Answer, Failed>>,
        begun: Instant,
        again: impl FnOnce() -> Outbound,
    ) -> (Result<Answer, Failed>, Instant) {
        let delay = self.service.hedges.lock().request(begun, self.rules);
        let late = async {
            match delay {
                Some(delay) => tokio::time::sleep_until((begun + delay).into()).await,
                None => std::future::pending().await,
            }
        };
        let second = || {
            let lease = self.service.hedge(self.hold.slot()?, self.rules)?;
            let (replica, begun) = (Arc::clone(&lease.replica), clock::now());
            let attempt =
                async move { replica.pool.send(self.head, again(), None, self.upstream, begun).await };
            Some(((lease, begun), attempt))
        };
        let is_good = |response: &Answer| !response.status().is_server_error();
        let (answer, since) = match race(first, late, second, is_good).await {
            Race::First(answer, other) => {
                if let Some(((lease, since), fate)) = other {
                    lost(lease, since, fate);
                }
                (answer, begun)
            }
            Race::Second(answer, (lease, since), fate) => {
                self.service.metrics.hedges_won.increment(1);
                if let Some(first) = self.hold.take() {
                    lost(first, begun, fate);
                }
                self.hold.put(lease);
                (Ok(answer), since)
            }
        };
        if answer.is_ok() {
            self.service.hedges.lock().answered(clock::now().saturating_duration_since(begun));
        }
        (answer, since)
    }
}

/// Gives back the lease of the attempt that does not count.
fn lost(mut lease: Lease, begun: Instant, fate: Fate) {
    match fate {
        Fate::Overtaken => lease.overtaken(begun),
        Fate::Worse => {}
        Fate::Failed => lease.failed(),
    }
    drop(lease);
}

/// How a race ended.
enum Race<R, S, E> {
    /// The first attempt counts; what became of the second, if there was one.
    First(Result<R, E>, Option<(S, Fate)>),
    /// The second counts; what became of the first.
    Second(R, S, Fate),
}

/// What became of the attempt that does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It was still under way.
    Overtaken,
    /// It was answered with an error of the service's.
    Worse,
    /// It failed.
    Failed,
}

/// Waits for the first attempt and, once it is `late`, for the one that `second` makes, if it makes one.
async fn race<R, S, E, F>(
    first: impl Future<Output = Result<R, E>>,
    late: impl Future<Output = ()>,
    second: impl FnOnce() -> Option<(S, F)>,
    is_good: impl Fn(&R) -> bool,
) -> Race<R, S, E>
where
    F: Future<Output = Result<R, E>>,
{
    let mut first = pin!(first);
    tokio::select! {
        biased;
        result = first.as_mut() => return Race::First(result, None),
        () = late => {}
    }
    let Some((other, second)) = second() else { return Race::First(first.await, None) };
    let mut second = pin!(second);
    // Cancel-safe: both are polled again where they were.
    tokio::select! {
        biased;
        result = first.as_mut() => match result {
            Ok(answer) if is_good(&answer) => Race::First(Ok(answer), Some((other, Fate::Overtaken))),
            worse => {
                let fate = if worse.is_ok() { Fate::Worse } else { Fate::Failed };
                match second.await {
                    Ok(answer) if is_good(&answer) || worse.is_err() => Race::Second(answer, other, fate),
                    Ok(_) => Race::First(worse, Some((other, Fate::Worse))),
                    Err(_) => Race::First(worse, Some((other, Fate::Failed))),
                }
            }
        },
        result = second.as_mut() => match result {
            Ok(answer) if is_good(&answer) => Race::Second(answer, other, Fate::Overtaken),
            Ok(_) => Race::First(first.await, Some((other, Fate::Worse))),
            Err(_) => Race::First(first.await, Some((other, Fate::Failed))),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::{FutureExt, future::BoxFuture};

    use super::*;

    type Attempt = BoxFuture<'static, Result<Response<()>, ()>>;

    fn good(response: &Response<()>) -> bool {
        !response.status().is_server_error()
    }

    /// What an attempt does: `.` never ends, `f` fails, digits are the first of a status.
    fn attempt(does: char) -> Attempt {
        let status =
            |status: u16| ready(Ok(Response::builder().status(status).body(()).expect("a response"))).boxed();
        match does {
            '2' => status(200),
            '4' => status(404),
            '5' => status(503),
            'f' => ready(Err(())).boxed(),
            _ => pending().boxed(),
        }
    }

    /// The first attempt does nothing before the second begins.
    fn check(first: char, second: char) -> Option<String> {
        let (go, begin) = tokio::sync::oneshot::channel();
        let first = async move {
            drop(begin.await);
            attempt(first).await
        };
        let second = || {
            go.send(()).expect("the first attempt waits");
            Some(("second", attempt(second)))
        };
        let race = race(first, ready(()), second, good).now_or_never()?;
        Some(match race {
            Race::First(Ok(response), fate) => format!("first {} {:?}", response.status().as_u16(), fate?.1),
            Race::First(Err(()), fate) => format!("first fails {:?}", fate?.1),
            Race::Second(response, _, fate) => format!("second {} {fate:?}", response.status().as_u16()),
        })
    }

    #[test]
    fn the_first_good_answer_counts() {
        for (first, second, want) in [
            ('2', '.', Some("first 200 Overtaken")),
            ('4', '2', Some("first 404 Overtaken")),
            ('.', '2', Some("second 200 Overtaken")),
            ('5', '2', Some("second 200 Worse")),
            ('f', '2', Some("second 200 Failed")),
            ('f', '5', Some("second 503 Failed")),
            ('5', '5', Some("first 503 Worse")),
            ('5', 'f', Some("first 503 Failed")),
            ('f', 'f', Some("first fails Failed")),
            ('.', 'f', None),
            ('.', '5', None),
            ('f', '.', None),
        ] {
            assert_eq!(check(first, second).as_deref(), want, "{first} and {second}");
        }
    }

    #[tokio::test]
    async fn who_answers_in_time_is_not_hedged() {
        let never = || -> Option<((), Attempt)> { panic!("hedged") };
        let race = race(attempt('2'), pending(), never, good).await;
        assert!(matches!(race, Race::First(Ok(_), None)));
    }
}
