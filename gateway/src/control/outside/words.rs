//! What people are told of services that run elsewhere, and how their wishes are answered.

use metrics::Gauge;
use tidegate_config::{address::Address, name::ServiceName};

use super::{Health, Known, Outside};
use crate::{
    clock,
    control::{
        Control,
        event::Reply,
        publish,
        state::Goal,
        status::{BalanceStatus, Explanation, ReplicaStatus, ServiceStatus, seconds_until},
    },
};

/// Why nothing can be started, put to sleep or replaced.
const NOTHING_TO_START: &str = "it has addresses of its own; nothing to start";

/// An address's state in the words that replicas have.
pub(super) fn phase(health: &Health) -> &'static str {
    match health {
        Health::Unknown => "starting",
        Health::Well => "ready",
        Health::Ill(_) => "failed",
    }
}

impl Control {
    /// Answers what somebody wants of a service that runs elsewhere.
    pub(in crate::control) fn ask_outside(&mut self, name: &ServiceName, goal: Goal, reply: Reply) {
        let Some(outside) = self.outside.get_mut(name) else { return };
        match goal {
            Goal::Ready => {
                outside.waiters.push(reply);
                outside.answer_waiters();
            }
            Goal::Cold | Goal::RestartedSince(_) | Goal::Runs => {
                // Whoever asked may have gone.
                drop(reply.send(Err(format!("{NOTHING_TO_START}, to stop or to replace"))));
            }
        }
    }
}

impl Outside {
    /// Answers those who want an address that is well, once there is one or all are known not to be.
    pub(super) fn answer_waiters(&mut self) {
        let answer = match self.well() {
            0 if !self.is_settled() => return,
            0 => Err(format!("{NOTHING_TO_START}, and {}", self.trouble())),
            _ => Ok(()),
        };
        for waiter in self.waiters.drain(..) {
            // Whoever asked may have gone.
            drop(waiter.send(answer.clone()));
        }
    }

    /// Why no address takes requests.
    pub(super) fn trouble(&self) -> String {
        let ill = self.known.values().filter_map(|known| match &known.health {
            Health::Ill(why) if why.contains(&known.at.to_string()) => Some(why.clone()),
            Health::Ill(why) => Some(format!("{}: {why}", known.at)),
            Health::Unknown | Health::Well => None,
        });
        let unresolved =
            self.answers.iter().filter_map(|(address, answer)| Some((address, answer.trouble.as_ref()?)));
        let unresolved = unresolved.map(|(address, why)| format!("{address}: {why}"));
        let refused = self.refused.iter().map(|(at, why)| format!("{at} is not used: {why}"));
        let all: Vec<String> = ill.chain(unresolved).chain(refused).collect();
        if all.is_empty() {
            "no address is known to be well yet".into()
        } else {
            format!("no address is well: {}", all.join("; "))
        }
    }

    fn state_word(&self) -> &'static str {
        match self.well() {
            0 if !self.is_settled() => "starting",
            0 => "failing",
            _ => "ready",
        }
    }

    pub(in crate::control) fn status(&self) -> ServiceStatus {
        let settings = self.fleet.settings();
        let (queued, in_flight) = self.fleet.counts();
        let reason =
            if self.well() == 0 { self.trouble() } else { "addresses of its own; nothing to start".into() };
        ServiceStatus {
            service: self.fleet.name.to_string(),
            state: self.state_word().into(),
            image: String::new(),
            upstreams: settings.upstreams.iter().map(Address::to_string).collect(),
            digest: None,
            revision: None,
            rollout: None,
            newer: None,
            earlier: Vec::new(),
            want: u32::try_from(self.known.len()).unwrap_or(u32::MAX),
            in_flight,
            queued,
            circuit_open: self.fleet.broken_until().map(|until| seconds_until(until, clock::now())),
            reason,
            routes: publish::ways(&settings),
            replicas: self.address_statuses(),
        }
    }

    fn address_statuses(&self) -> Vec<ReplicaStatus> {
        let (forms, now) = (self.fleet.forms(), clock::now());
        let status = |known: &Known| ReplicaStatus {
            id: known.replica.id.to_string(),
            phase: phase(&known.health).into(),
            host: known.from.to_string(),
            address: Some(known.at.to_string()),
            revision: String::new(),
            digest: String::new(),
            in_flight: self.fleet.in_flight_of(known.slot),
            balance: BalanceStatus::of(&forms, known.slot, now),
            age: now.saturating_duration_since(known.since).as_secs(),
            waits_for: None,
            trouble: None,
        };
        self.known.values().map(status).collect()
    }

    pub(in crate::control) fn explain(&self) -> Explanation {
        let history = self.history.entries();
        Explanation {
            status: self.status(),
            history,
            last_failure: None,
            no_fit: None,
            waits: None,
            learned: None,
        }
    }

    /// Brings its gauges up to date, before they are read.
    pub(in crate::control) fn publish_gauges(&self) {
        let (queued, in_flight) = self.fleet.counts();
        self.fleet.metrics.queue.set(f64::from(queued));
        self.fleet.metrics.in_flight.set(f64::from(in_flight));
        for (phase, gauge) in self.phases() {
            let count = self.known.values().filter(|known| self::phase(&known.health) == phase).count();
            gauge.set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        }
    }

    /// It goes: its gauges must not stay where they were.
    pub(super) fn farewell(&self) {
        self.fleet.metrics.queue.set(0.0);
        self.fleet.metrics.in_flight.set(0.0);
        for (_, gauge) in self.phases() {
            gauge.set(0.0);
        }
    }

    fn phases(&self) -> [(&'static str, Gauge); 3] {
        ["starting", "ready", "failed"].map(|phase| (phase, publish::replicas(&self.fleet.name, phase)))
    }
}
