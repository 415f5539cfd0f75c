//! How often a service may be woken, by each client and by all of them. Owned by [`Awake`](super::awake::Awake).
//! Counts wakes, not requests: who comes while one is under way joins it. Holds: bounded memory, whoever comes. Pure.

use std::{collections::HashMap, net::IpAddr, time::Instant};

use tidegate_config::{model::Wake, units::Rate};

use crate::household::household;

/// Clients that are remembered at once; those who may wake it again first are forgotten first.
const CLIENTS: usize = 4096;

/// The wakes of one service so far.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    under_way: Option<Instant>,
    all: Option<Instant>,
    clients: HashMap<IpAddr, Instant>,
}

/// A wake that was one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooMany {
    /// This client has caused as many as one may.
    OfClient {
        /// When it may again.
        again: Instant,
    },
    /// All clients together have.
    OfService {
        /// When one may again.
        again: Instant,
    },
}

impl Wakes {
    /// Somebody comes while no replica is ready. True if that wakes the service, false if it is being woken already.
    pub(crate) fn knock(&mut self, now: Instant, client: IpAddr, limits: &Wake) -> Result<bool, TooMany> {
        if self.under_way.is_some() {
            return Ok(false);
        }
        let client = household(client);
        let all = next(now, self.all, limits.per_service).map_err(|again| TooMany::OfService { again })?;
        let one = next(now, self.clients.get(&client).copied(), limits.per_client)
            .map_err(|again| TooMany::OfClient { again })?;
        self.all = all;
        if let Some(until) = one {
            self.remember(now, client, until);
        }
        self.under_way = Some(now);
        Ok(true)
    }

    /// The wake has ended, one way or another: the next one is another.
    pub(crate) fn over(&mut self) {
        self.under_way = None;
    }

    /// Since when it is being woken, if it is.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.under_way
    }

    fn remember(&mut self, now: Instant, client: IpAddr, until: Instant) {
        if self.clients.len() >= CLIENTS && !self.clients.contains_key(&client) {
            self.clients.retain(|_, until| *until > now);
            let soonest = self.clients.iter().min_by_key(|(_, until)| **until).map(|(client, _)| *client);
            if let Some(soonest) = soonest.filter(|_| self.clients.len() >= CLIENTS) {
                self.clients.remove(&soonest);
            }
        }
        self.clients.insert(client, until);
    }
}

/// Up to when the allowance is used once one more has come (the generic cell rate algorithm), or when it may come.
fn next(now: Instant, used: Option<Instant>, rate: Option<Rate>) -> Result<Option<Instant>, Instant> {
    let Some(rate) = rate else { return Ok(None) };
    let until = used.unwrap_or(now).max(now) + rate.interval();
    match until.checked_sub(rate.per()).filter(|again| *again > now) {
        Some(again) => Err(again),
        None => Ok(Some(until)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limits(per_client: &str, per_service: &str) -> Wake {
        let rate = |text: &str| text.parse().ok();
        Wake { per_client: rate(per_client), per_service: rate(per_service), ..Wake::default() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// Wakes that end at once.
    fn woken(wakes: &mut Wakes, at: Instant, client: &str, limits: &Wake) -> Result<bool, TooMany> {
        let knocked = wakes.knock(at, ip(client), limits);
        wakes.over();
        knocked
    }

    #[test]
    fn only_what_wakes_is_counted() {
        let (mut wakes, now) = (Wakes::default(), crate::clock::now());
        let one = limits("1/m", "off");
        assert_eq!(wakes.knock(now, ip("10.0.0.1"), &one), Ok(true));
        for _ in 0..100 {
            assert_eq!(wakes.knock(now, ip("10.0.0.1"), &one), Ok(false), "it is being woken");
        }
        wakes.over();
        let again = now + Duration::from_secs(60);
        assert_eq!(woken(&mut wakes, now, "10.0.0.1", &one), Err(TooMany::OfClient { again }));
        assert_eq!(woken(&mut wakes, now, "10.0.0.2", &one), Ok(true), "others may");
        assert_eq!(woken(&mut wakes, again, "10.0.0.1", &one), Ok(true));
    }

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let (mut wakes, now) = (Wakes::default(), crate::clock::now());
        let three = limits("off", "3/m");
        for n in 0..3 {
            assert_eq!(woken(&mut wakes, now, &format!("10.0.0.{n}"), &three), Ok(true));
        }
        let again = now + Duration::from_secs(20);
        assert_eq!(woken(&mut wakes, now, "10.0.0.9", &three), Err(TooMany::OfService { again }));
        assert_eq!(woken(&mut wakes, again, "10.0.0.9", &three), Ok(true));
        assert!(woken(&mut wakes, again, "10.0.0.9", &three).is_err());
    }

    #[test]
    fn a_network_of_one_subscriber_is_one_client() {
        let (mut wakes, now) = (Wakes::default(), crate::clock::now());
        let one = limits("1/m", "off");
        assert_eq!(woken(&mut wakes, now, "2001:db8::1", &one), Ok(true));
        assert!(woken(&mut wakes, now, "2001:db8::ffff:1", &one).is_err());
        assert_eq!(woken(&mut wakes, now, "2001:db8:0:1::1", &one), Ok(true));
        assert_eq!(woken(&mut wakes, now, "::ffff:10.0.0.1", &one), Ok(true));
        assert!(woken(&mut wakes, now, "10.0.0.1", &one).is_err(), "the same in IPv4");
    }

    #[test]
    fn memory_is_bounded() {
        let (mut wakes, now) = (Wakes::default(), crate::clock::now());
        let one = limits("1/h", "off");
        for n in 0..2 * u32::try_from(CLIENTS).expect("a small number") {
            let client = IpAddr::from(n.to_be_bytes());
            assert_eq!(wakes.knock(now + Duration::from_micros(n.into()), client, &one), Ok(true));
            wakes.over();
        }
        assert_eq!(wakes.clients.len(), CLIENTS);
    }
}
