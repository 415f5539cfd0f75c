//! How many requests there are over HTTP/2, on all connections together: a connection has a bound of its own, and many connections
//! at it would hold more than the machine has (a head and what was sent ahead for each). Asked once per connection for a
//! [`Corner`], which counts its requests. Holds: a request costs two additions and no lock; one address cannot take all.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use dashmap::{DashMap, Entry};
use metrics::Gauge;

use crate::{household::household, telemetry};

/// One client address has at most this part of the requests, as it has of the connections unless the file says otherwise.
const SHARE: u32 = 5;

/// All requests over HTTP/2.
#[derive(Debug)]
pub(super) struct Crowd {
    all: Count,
    each: u32,
    homes: DashMap<IpAddr, Arc<Count>>,
    open: Gauge,
}

/// How many there are, and may be.
#[derive(Debug)]
struct Count {
    now: AtomicU32,
    most: u32,
}

/// Where the requests of one connection are counted.
#[derive(Debug)]
pub(super) struct Corner {
    crowd: Arc<Crowd>,
    /// With those of the same address, if that has a bound.
    home: Option<(IpAddr, Arc<Count>)>,
}

impl Crowd {
    /// Room for so many requests.
    pub(super) fn of(most: u32) -> Arc<Self> {
        let all = Count { now: AtomicU32::new(0), most };
        let (each, homes) = ((most / SHARE).max(1), DashMap::new());
        Arc::new(Self { all, each, homes, open: metrics::gauge!(telemetry::STREAMS) })
    }

    /// A connection from there; `None`: from where there may be any number of requests.
    pub(super) fn corner(self: &Arc<Self>, from: Option<IpAddr>) -> Corner {
        let home = from.map(household).map(|address| {
            let new = || Arc::new(Count { now: AtomicU32::new(0), most: self.each });
            (address, Arc::clone(&self.homes.entry(address).or_insert_with(new)))
        });
        Corner { crowd: Arc::clone(self), home }
    }
}

impl Corner {
    /// Counts one more request, if there is room for it; if not, says whose bound is reached.
    pub(super) fn enter(&self) -> Result<(), &'static str> {
        if self.home.as_ref().is_some_and(|(_, home)| !home.add()) {
            return Err("address");
        }
        if !self.crowd.all.add() {
            self.home.iter().for_each(|(_, home)| home.take());
            return Err("total");
        }
        self.crowd.open.increment(1.0);
        Ok(())
    }

    /// Counts a request a second time, wherever the bounds are.
    pub(super) fn stay(&self) {
        self.home.iter().for_each(|(_, home)| home.put());
        self.crowd.all.put();
        self.crowd.open.increment(1.0);
    }

    /// A request that was counted has ended.
    pub(super) fn leave(&self) {
        self.home.iter().for_each(|(_, home)| home.take());
        self.crowd.all.take();
        self.crowd.open.decrement(1.0);
    }
}

impl Count {
    fn add(&self) -> bool {
        // Two that meet at the bound may both be refused, and neither is counted.
        let fits = self.now.fetch_add(1, Ordering::Relaxed) < self.most;
        if !fits {
            self.take();
        }
        fits
    }

    fn put(&self) {
        self.now.fetch_add(1, Ordering::Relaxed);
    }

    fn take(&self) {
        self.now.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        let Some((address, home)) = self.home.take() else { return };
        // Nobody gets another one while the entry is held.
        if let Entry::Occupied(entry) = self.crowd.homes.entry(address)
            && Arc::strong_count(&home) == 2
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_share_and_all_have_the_rest() {
        let crowd = Crowd::of(10);
        let corner = |last: u8| crowd.corner(Some([192, 0, 2, last].into()));
        let (first, same) = (corner(1), corner(1));
        assert_eq!([first.enter(), same.enter(), first.enter()], [Ok(()), Ok(()), Err("address")]);
        let others: Vec<_> = (2..=5).map(corner).collect();
        assert!(others.iter().chain(&others).all(|corner| corner.enter().is_ok()));
        let (late, proxy) = (corner(6), crowd.corner(None));
        assert_eq!([late.enter(), proxy.enter()], [Err("total"), Err("total")]);
        first.leave();
        assert_eq!([first.enter(), late.enter()], [Ok(()), Err("total")]);
        first.leave();
        assert_eq!([late.enter(), late.enter()], [Ok(()), Err("total")]);
    }

    #[test]
    fn what_an_address_had_is_forgotten_with_its_last_connection() {
        let crowd = Crowd::of(10);
        let corner = || crowd.corner(Some([192, 0, 2, 1].into()));
        let (first, second) = (corner(), corner());
        drop(first);
        assert_eq!(crowd.homes.len(), 1);
        drop(second);
        assert!(crowd.homes.is_empty());
    }
}
