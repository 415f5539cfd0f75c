//! Leave for handshakes over TLS, each of which costs the gateway more than it costs the client: so many at once, and so many in
//! so long, of each client address and of all. Asked once per connection.
//! Holds: bounded memory, whoever comes; what is refused to an address takes nothing from the others.

use std::{net::IpAddr, sync::Arc, time::Instant};

use parking_lot::Mutex;
use tidegate_config::{
    model::{Limits, RateLimit},
    units::Rate,
};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    hello::Broken,
    seats::{Seat, Seats},
};
use crate::{household::household, middleware::Buckets};

/// One client address has at most this part of the handshakes at once: so many would have to get together to keep others from theirs.
const SHAKERS: u32 = 10;

/// Addresses whose rates are remembered at once.
const ADDRESSES: usize = 4096;

/// Handshakes of all listeners.
#[derive(Debug)]
pub(super) struct Handshakes {
    at_once: Semaphore,
    /// The same by client address.
    seats: Arc<Seats>,
    each: Option<Mutex<Buckets>>,
    all: Option<Mutex<Buckets>>,
}

impl Handshakes {
    /// As many as the file allows.
    pub(super) fn new(limits: &Limits) -> Self {
        let buckets =
            |rate: Option<Rate>, most| rate.map(|rate| Mutex::new(Buckets::new(&RateLimit::to(rate), most)));
        Self {
            at_once: Semaphore::new(limits.handshakes as usize),
            seats: Arc::new(Seats::new((limits.handshakes / SHAKERS).max(1))),
            each: buckets(limits.handshake_rate_per_address, ADDRESSES),
            all: buckets(limits.handshake_rate, 1),
        }
    }

    /// Leave for one more, for as long as it takes. `from`: the client, where its own are bounded.
    pub(super) fn begin(&self, from: Option<IpAddr>) -> Result<(SemaphorePermit<'_>, Option<Seat>), Broken> {
        let permit = self.at_once.try_acquire().map_err(|_| Broken::TooMany)?;
        let seat = from.map(|from| self.seats.take(from).ok_or(Broken::TooMany)).transpose()?;
        Ok((permit, seat))
    }

    /// Counts one that we are to go on with.
    pub(super) fn count(&self, from: Option<IpAddr>, now: Instant) -> Result<(), Broken> {
        let take = |buckets: &Option<Mutex<Buckets>>, caller| match buckets {
            Some(buckets) => buckets.lock().take(caller, now).map_err(|_| Broken::TooOften),
            None => Ok(()),
        };
        if let Some(from) = from {
            take(&self.each, caller(from))?;
        }
        take(&self.all, 0)
    }
}

/// A client as a number: an address, or the network of one subscriber.
fn caller(from: IpAddr) -> u64 {
    match household(from) {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(network) => (network.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_address_is_refused_takes_nothing_from_the_others() {
        let limits = Limits {
            handshake_rate_per_address: "2/m".parse().ok(),
            handshake_rate: "4/m".parse().ok(),
            ..Limits::default()
        };
        let (handshakes, now) = (Handshakes::new(&limits), crate::clock::now());
        let count = |from: &str| handshakes.count(from.parse().ok(), now).is_ok();
        for _ in 0..2 {
            assert!(count("192.0.2.1"));
        }
        for _ in 0..100 {
            assert!(!count("192.0.2.1") && !count("::ffff:192.0.2.1"));
        }
        assert!(count("2001:db8::1") && count("2001:db8::2"), "two of one network");
        assert!(!count("192.0.2.2") && !count("a proxy that is trusted"), "that was all of all");
    }
}
