//! The rate limits of one service, which its routes share where they are the same, and which outlive a reload that leaves
//! them as they are. Owned by [`Service`](crate::fleet::Service), found by [`Chain`](super::Chain).

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Arc, Weak},
    time::Instant,
};

use http::{HeaderMap, HeaderName};
use parking_lot::Mutex;
use tidegate_config::model::{RateKey, RateLimit};

use super::rate::Buckets;
use crate::household::household;

/// Callers are spread over so many locks.
const SHARDS: usize = 16;

/// All limits that are in use.
#[derive(Debug, Default)]
pub(crate) struct Limits(Mutex<Vec<Weak<Limiter>>>);

impl Limits {
    /// The limiter for these settings: the one that is there already, else a new one.
    pub(crate) fn of(&self, settings: &RateLimit) -> Arc<Limiter> {
        let mut all = self.0.lock();
        all.retain(|limiter| limiter.strong_count() > 0);
        let found = all.iter().filter_map(Weak::upgrade).find(|limiter| limiter.settings == *settings);
        found.unwrap_or_else(|| {
            let limiter = Arc::new(Limiter::new(settings));
            all.push(Arc::downgrade(&limiter));
            limiter
        })
    }
}

/// One limit and who has used how much of it.
#[derive(Debug)]
pub(crate) struct Limiter {
    settings: RateLimit,
    header: Option<HeaderName>,
    /// Keyed: nobody can choose a caller's number.
    hasher: RandomState,
    shards: [Mutex<Buckets>; SHARDS],
}

impl Limiter {
    fn new(settings: &RateLimit) -> Self {
        let header = match &settings.by {
            RateKey::Header(name) => name.parse().ok(),
            RateKey::Address | RateKey::Route => None,
        };
        let most = (settings.keys as usize).div_ceil(SHARDS);
        let shards = std::array::from_fn(|_| Mutex::new(Buckets::new(settings, most)));
        Self { settings: settings.clone(), header, hasher: RandomState::new(), shards }
    }

    /// Counts a request, or says when one may come.
    pub(crate) fn take(&self, client: IpAddr, headers: &HeaderMap, now: Instant) -> Result<(), Instant> {
        let value = self.header.as_ref().and_then(|name| headers.get(name));
        let caller = match (&self.settings.by, value) {
            (RateKey::Route, _) => 0,
            (RateKey::Header(_), Some(value)) => self.hasher.hash_one(("header", value.as_bytes())),
            (RateKey::Header(_) | RateKey::Address, _) => {
                self.hasher.hash_one(("address", household(client)))
            }
        };
        let shard = usize::try_from(caller % SHARDS as u64).unwrap_or_default();
        self.shards[shard].lock().take(caller, now)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn limit(by: RateKey) -> RateLimit {
        RateLimit { by, ..RateLimit::to("1/h".parse().expect("a rate")) }
    }

    #[test]
    fn requests_are_counted_by_what_the_file_says() {
        let now = crate::clock::now();
        let keyed = |value| {
            [(HeaderName::from_static("x-api-key"), HeaderValue::from_static(value))].into_iter().collect()
        };
        let rows: [(RateKey, &str, HeaderMap, bool); 7] = [
            (RateKey::Address, "10.0.0.2", keyed("a"), true),
            (RateKey::Address, "10.0.0.1", keyed("b"), false),
            (RateKey::Address, "::ffff:10.0.0.1", keyed("b"), false),
            (RateKey::Route, "10.0.0.2", keyed("b"), false),
            (RateKey::Header("x-api-key".into()), "10.0.0.2", keyed("a"), false),
            (RateKey::Header("x-api-key".into()), "10.0.0.1", keyed("b"), true),
            (RateKey::Header("x-api-key".into()), "10.0.0.1", HeaderMap::new(), true),
        ];
        for (by, client, headers, want) in rows {
            let limiter = Limiter::new(&limit(by.clone()));
            assert!(limiter.take("10.0.0.1".parse().expect("an address"), &keyed("a"), now).is_ok());
            let second = limiter.take(client.parse().expect("an address"), &headers, now);
            assert_eq!(second.is_ok(), want, "{by:?} {client}");
        }
    }

    #[test]
    fn the_same_limit_is_one_and_goes_with_its_last_route() {
        let (limits, one) = (Limits::default(), limit(RateKey::Address));
        let first = limits.of(&one);
        assert!(Arc::ptr_eq(&first, &limits.of(&one)));
        assert!(!Arc::ptr_eq(&first, &limits.of(&limit(RateKey::Route))));
        drop(first);
        drop(limits.of(&one));
        assert_eq!(limits.0.lock().len(), 1);
    }
}
