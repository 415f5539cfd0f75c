//! Which replica gets a request, and which gets none for a while.

use super::duration;
use crate::{
    decode::{
        At,
        leaf::{Span, Text},
        section,
    },
    model,
    units::Percent,
};

section! {
    /// Which replica gets a request, and which gets none for a while.
    Balance, d = model::Balance::default() => {
        /// How long a fresh replica gets less than its part, from a tenth to all of it. Where `scaling.concurrency` is 3 or
        /// less the oldest replica with room is always first.
        slow_start: Span = duration(d.slow_start),
        /// When a replica that fails gets nothing for a while.
        ejection: Ejection,
        /// Which requests go to the same replica. Default: it does not matter.
        affinity: Affinity,
        /// How many requests at once a replica gets is learned from how long its answers take: for services without
        /// `scaling.concurrency` whose answers are short. `{}` for the defaults. Default: not learned.
        adaptive: Adaptive,
        /// When requests are refused at once because too many have failed. `{}` for the defaults. Default: never.
        circuit: Circuit,
        /// When a GET, HEAD, OPTIONS, PUT or DELETE with a small body or none is sent to a second replica because no answer has
        /// come. The first good answer counts. `{}` for the defaults. Default: never.
        hedge: Hedge,
    }
}

section! {
    /// When a replica that fails gets nothing for a while: then one request tries it, and if that fails too it is for
    /// twice as long. The last replica is never ejected.
    Ejection, d = model::Ejection::default(); bare = true => {
        /// Failures in a row: no connection, a broken one, no answer in time. 0: nobody is ejected.
        failures: u32 = d.failures.get(),
        /// Answers that count as failures too, as in `[502, 503, 504]`.
        statuses: Vec<At<u32>> = d.statuses,
        /// How long the first time.
        base: Span = duration(d.base),
        /// How long at most.
        longest: Span = duration(d.longest),
        /// The share of the replicas that may be ejected at once.
        max_ejected: Percent = d.max_ejected.fraction(),
    }
}

section! {
    /// Which requests go to the same replica: either `cookie` or `header`. A replica that is full, ejected or has more than
    /// its part is passed over; when it is gone its sessions move.
    Affinity => {
        /// The name of a cookie, which the gateway sets and which names the replica.
        cookie: Text,
        /// The name of a header; requests with the same value go to the same replica.
        header: Text,
        /// So many times the average of requests at once is the most that a replica gets because of this; up to 8 at once
        /// are never too many.
        bound: f64 = model::Affinity::BOUND,
    }
}

section! {
    /// Within which bounds the limit of a replica is learned. While answers take as long as they have for long it grows,
    /// when they take longer it shrinks; what does not fit waits, and counts as demand.
    Adaptive, d = model::Adaptive::default(); bare = true => {
        /// Where it starts.
        initial: u32 = d.initial.get(),
        /// What it never goes below.
        min: u32 = d.min.get(),
        /// What it never goes above.
        max: u32 = d.max.get(),
    }
}

section! {
    /// When requests are refused at once because too many have failed: then one request tries, and if that fails too it is
    /// for twice as long. What fails is what `ejection` counts.
    Circuit, d = model::Circuit::default(); bare = true => {
        /// The share of attempts that fail.
        failures: Percent = d.failures.fraction(),
        /// Among at least so many.
        least: u32 = d.least,
        /// Within so long.
        window: Span = duration(d.window),
        /// How long requests are refused the first time.
        base: Span = duration(d.base),
        /// How long at most.
        longest: Span = duration(d.longest),
    }
}

section! {
    /// When a request that may be sent twice is sent to a second replica.
    Hedge, d = model::Hedge::default(); bare = true => {
        /// Once no answer has come for so long: a duration, or `"p95"` for longer than 95 % of the last answers took.
        after: Text = "p95",
        /// The share of requests that this may happen to; the service's budget of retries bounds it too.
        max: Percent = d.max.fraction(),
    }
}
