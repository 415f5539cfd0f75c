//! Who has how many connections, or handshakes: a bound for each client, so that one of them cannot take all. Asked once per
//! connection.

use std::{net::IpAddr, sync::Arc};

use dashmap::{DashMap, Entry};

use crate::household::household;

/// Places by address.
#[derive(Debug)]
pub(super) struct Seats {
    each: u32,
    taken: DashMap<IpAddr, u32>,
}

/// A place. Dropping it gives it back.
#[derive(Debug)]
#[must_use]
pub(super) struct Seat {
    seats: Arc<Seats>,
    address: IpAddr,
}

impl Seats {
    /// Room for `each` of every address.
    pub(super) fn new(each: u32) -> Self {
        Self { each, taken: DashMap::new() }
    }

    /// A place for a client from there, unless all are taken.
    pub(super) fn take(self: &Arc<Self>, from: IpAddr) -> Option<Seat> {
        let address = household(from);
        let mut taken = self.taken.entry(address).or_insert(0);
        if *taken >= self.each {
            return None;
        }
        *taken += 1;
        Some(Seat { seats: Arc::clone(self), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Entry::Occupied(mut taken) = self.seats.taken.entry(self.address) else { return };
        *taken.get_mut() -= 1;
        if *taken.get() == 0 {
            taken.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_places_and_gives_them_back() {
        let seats = Arc::new(Seats::new(2));
        let take = |address: &str| seats.take(address.parse().expect("an address"));
        let first = take("192.0.2.1");
        let (_second, mapped) = (take("::ffff:192.0.2.1"), take("192.0.2.1"));
        assert!(first.is_some() && mapped.is_none());
        drop(first);
        assert!(take("192.0.2.1").is_some());
        let (_a, _b) = (take("2001:db8::1"), take("2001:db8::2"));
        assert!(take("2001:db8::3").is_none() && take("2001:db8:0:1::1").is_some());
        assert_eq!(seats.taken.len(), 2, "what is given back is forgotten");
    }
}
