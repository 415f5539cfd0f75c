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

/// That no node takes a replica, or that its node is not well, is said again after this, as long as it lasts.
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
    /// What is wrong with its node, while it runs there.
    pub trouble: Option<String>,
}

/// What was told of each replica, and when.
#[derive(Debug, Default)]
pub(crate) struct Told {
    standing: BTreeMap<ReplicaId, (Standing, Instant)>,
    trouble: BTreeMap<ReplicaId, (String, Instant)>,
}

impl Told {
    /// What is new in everything that there is now, or is to be said again.
    pub(crate) fn news(&mut self, seen: &[Seen], now: Instant) -> Vec<Event> {
        let is_there = |id: &ReplicaId| seen.iter().any(|seen| seen.observed.id == *id);
        let gone: Vec<_> = self.standing.keys().filter(|id| !is_there(id)).cloned().collect();
        let mut news = Vec::new();
        for id in gone {
            self.standing.remove(&id);
            self.trouble.remove(&id);
            news.push(Event::Gone(id));
        }
        for seen in seen {
            news.extend(self.of_one(seen, now));
            news.extend(self.trouble_of(seen, now));
        }
        news
    }

    fn trouble_of(&mut self, seen: &Seen, now: Instant) -> Option<Event> {
        let id = &seen.observed.id;
        let Some(why) = seen.trouble.clone() else {
            self.trouble.remove(id);
            return None;
        };
        let known = |(said, at): &(String, Instant)| *said == why && now.duration_since(*at) < AGAIN;
        if self.trouble.get(id).is_some_and(known) {
            return None;
        }
        self.trouble.insert(id.clone(), (why.clone(), now));
        Some(Event::Trouble { id: id.clone(), why })
    }

    fn of_one(&mut self, seen: &Seen, now: Instant) -> Option<Event> {
        let id = &seen.observed.id;
        let known = |(standing, at): &(Standing, Instant)| {
            let due = matches!(standing, Standing::Stuck(_)) && now.duration_since(*at) >= AGAIN;
            *standing == seen.standing && !due
        };
        if self.standing.get(id).is_some_and(known) {
            return None;
        }
        self.standing.insert(id.clone(), (seen.standing.clone(), now));
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
        Seen { observed, standing, trouble: None }
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

    #[tokio::test(start_paused = true)]
    async fn trouble_is_told_as_long_as_it_lasts() {
        let (begun, mut told) = (tokio::time::Instant::now().into_std(), Told::default());
        let id = seen(Standing::Coming).observed.id;
        let trouble = Event::Trouble { id: id.clone(), why: "down".into() };
        for (millis, why, expected) in [
            (0, None, false),
            (1, Some("down"), true),
            (900, Some("down"), false),
            (1001, Some("down"), true),
            (1500, None, false),
            (1600, Some("down"), true),
        ] {
            let running = seen(Standing::Running("10.0.0.2:80".parse().ok()));
            let now = Seen { trouble: why.map(str::to_owned), ..running };
            let news = told.news(&[now], begun + Duration::from_millis(millis));
            assert_eq!(news.contains(&trouble), expected, "after {millis} ms: {news:?}");
        }
    }
}
