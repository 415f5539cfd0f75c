//! What engines that place by themselves share: how a replica stands there, and what is told of it when that changes.
//! Absent: calls, the clock; what a cluster's own words mean is each engine's to judge.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tidegate_config::{
    name::ReplicaId,
    spec::{Exit, Observed, ObservedState},
};

use crate::Event;

/// That no node takes a replica is said again after this, as long as it lasts.
const AGAIN: Duration = Duration::from_secs(1);

/// How a replica stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Standing {
    /// On its way.
    Coming,
    /// No node takes it, and why.
    Stuck(String),
    /// It runs, and is reached here; `None`: nobody says where.
    Running(Option<SocketAddr>),
    /// It has ended.
    Ended(Exit),
}

impl Standing {
    /// The same in the words of every engine.
    pub(crate) fn state(&self) -> ObservedState {
        match self {
            Self::Coming | Self::Stuck(_) => ObservedState::Created,
            Self::Running(_) => ObservedState::Running,
            Self::Ended(exit) => ObservedState::Exited(exit.clone()),
        }
    }

    /// Where it is reached.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Running(address) => *address,
            Self::Coming | Self::Stuck(_) | Self::Ended(_) => None,
        }
    }

    /// Whether it will be something else of itself.
    pub(crate) fn is_coming(&self) -> bool {
        matches!(self, Self::Coming | Self::Stuck(_))
    }
}

/// A replica, as its cluster has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub observed: Observed,
    pub standing: Standing,
}

/// What was told of each replica, and when.
#[derive(Debug, Default)]
pub(crate) struct Told(BTreeMap<ReplicaId, (Standing, Instant)>);

impl Told {
    /// What is new in everything that there is now, or is to be said again.
    pub(crate) fn news(&mut self, seen: &[Seen], now: Instant) -> Vec<Event> {
        let is_there = |id: &ReplicaId| seen.iter().any(|seen| seen.observed.id == *id);
        let gone: Vec<_> = self.0.keys().filter(|id| !is_there(id)).cloned().collect();
        let mut news = Vec::new();
        for id in gone {
            self.0.remove(&id);
            news.push(Event::Gone(id));
        }
        news.extend(seen.iter().filter_map(|seen| self.of_one(seen, now)));
        news
    }

    fn of_one(&mut self, seen: &Seen, now: Instant) -> Option<Event> {
        let id = &seen.observed.id;
        let known = |(standing, at): &(Standing, Instant)| {
            let due = matches!(standing, Standing::Stuck(_)) && now.duration_since(*at) >= AGAIN;
            *standing == seen.standing && !due
        };
        if self.0.get(id).is_some_and(known) {
            return None;
        }
        self.0.insert(id.clone(), (seen.standing.clone(), now));
        event(seen)
    }
}

fn event(seen: &Seen) -> Option<Event> {
    let id = seen.observed.id.clone();
    match &seen.standing {
        Standing::Coming => None,
        Standing::Stuck(why) => Some(Event::NoPlace { id, why: why.clone() }),
        Standing::Running(_) => Some(Event::Running(seen.observed.clone())),
        Standing::Ended(exit) => Some(Event::Exited { id, exit: exit.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use tidegate_config::spec::{Digest, Revision};

    fn seen(standing: Standing) -> Seen {
        let observed = Observed {
            id: "api-3-17".parse().expect("valid"),
            revision: Revision("r1".into()),
            digest: Digest("sha256:ab".into()),
            state: standing.state(),
            address: standing.address(),
            created: SystemTime::UNIX_EPOCH,
            healthcheck: None,
        };
        Seen { observed, standing }
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_told_once_and_what_is_stuck_again() {
        let (begun, mut told) = (tokio::time::Instant::now().into_std(), Told::default());
        let full = || Standing::Stuck("full".into());
        let running = || Standing::Running("10.0.0.2:80".parse().ok());
        let id = seen(full()).observed.id;
        let no_place = Event::NoPlace { id: id.clone(), why: "full".into() };
        for (millis, standing, expected) in [
            (0, Some(Standing::Coming), None),
            (1, Some(full()), Some(no_place.clone())),
            (900, Some(full()), None),
            (1001, Some(full()), Some(no_place)),
            (1002, Some(running()), Some(Event::Running(seen(running()).observed))),
            (9000, Some(running()), None),
            (9001, None, Some(Event::Gone(id))),
            (9002, None, None),
        ] {
            let now: Vec<_> = standing.into_iter().map(seen).collect();
            let news = told.news(&now, begun + Duration::from_millis(millis));
            assert_eq!(news, Vec::from_iter(expected), "after {millis} ms");
        }
    }
}
