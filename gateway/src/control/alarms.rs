//! When each service is to be looked at although nothing happens. Asked by the loop in each turn, so it answers without looking
//! at all services.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use tidegate_config::name::ServiceName;

/// One moment for each service that has one.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    at: BTreeMap<ServiceName, Instant>,
    in_order: BTreeSet<(Instant, ServiceName)>,
}

impl Alarms {
    /// In place of the one that it had.
    pub(super) fn set(&mut self, name: &ServiceName, at: Option<Instant>) {
        let before = self.at.get(name).copied();
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.in_order.remove(&(before, name.clone()));
            self.at.remove(name);
        }
        if let Some(at) = at {
            self.in_order.insert((at, name.clone()));
            self.at.insert(name.clone(), at);
        }
    }

    /// At this moment, or earlier if it has an earlier one.
    pub(super) fn by(&mut self, name: &ServiceName, at: Instant) {
        let earlier = self.at.get(name).map_or(at, |before| at.min(*before));
        self.set(name, Some(earlier));
    }

    /// The earliest of all.
    pub(super) fn next(&self) -> Option<Instant> {
        self.in_order.first().map(|(at, _)| *at)
    }

    /// Whose moment has come; each keeps it until it is given another.
    pub(super) fn due(&self, now: Instant) -> Vec<ServiceName> {
        self.in_order.iter().take_while(|(at, _)| *at <= now).map(|(_, name)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    #[test]
    fn each_service_has_one_moment_and_the_earliest_is_known() {
        let (now, second) = (clock::now(), Duration::from_secs(1));
        let name = |name: &str| -> ServiceName { name.parse().expect("a valid name") };
        let (a, b) = (name("a"), name("b"));
        let mut alarms = Alarms::default();
        assert_eq!(alarms.next(), None);
        alarms.set(&a, Some(now + second * 5));
        alarms.set(&b, Some(now + second * 3));
        alarms.set(&a, Some(now + second));
        assert_eq!((alarms.next(), alarms.due(now)), (Some(now + second), vec![]));
        assert_eq!(alarms.due(now + second * 3), [a.clone(), b.clone()]);
        alarms.by(&b, now + second * 4);
        assert_eq!(alarms.due(now + second * 3), [a.clone(), b.clone()]);
        alarms.by(&b, now);
        alarms.set(&a, None);
        assert_eq!((alarms.next(), alarms.due(now + second * 9)), (Some(now), vec![b]));
    }
}
