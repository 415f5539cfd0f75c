//! Tells the data plane what was decided: slots for phases, open or closed gates, the routes. And the figures.

use std::{sync::Arc, time::Instant};

use metrics::{counter, gauge, histogram};
use tidegate_autoscaler::{
    Cause, Decision, Phase, decide,
    refuse::{Refuse, RefuseReason},
};
use tidegate_config::{
    model::{self, Model, Route},
    name::{Authority, PathPrefix, ServiceName},
};

use super::{
    Control,
    history::What,
    member::Member,
    outside::Outside,
    state::{Goal, State},
    waits::Counts,
};
use crate::{
    clock,
    fleet::{Replica, Service, admission::SlotKey, tap::Heard},
    middleware::Destination,
    request::Refusal,
    router::RouteTable,
    telemetry,
};

/// Gives a replica's slots to the gate, or takes them back, as its phase demands.
pub(super) fn member(service: &Arc<Service>, member: &mut Member) {
    if matches!(member.phase, Phase::Stopping | Phase::Stopped | Phase::Failed(_) | Phase::Gone)
        && let Some(replica) = &member.replica
    {
        replica.cut.cancel();
    }
    // Where nobody answers, nobody says that the connection is gone either.
    if let (Phase::Lost | Phase::Failed(_) | Phase::Gone, Some(replica)) = (&member.phase, &member.replica) {
        replica.pool.abandon();
    }
    match member.phase {
        Phase::Ready => {
            let Some(replica) = connect(service, member) else { return };
            let capacity = if member.suspected { 0 } else { capacity(service).saturating_sub(member.lent) };
            service.set_slots(member.slot, &replica, capacity);
        }
        Phase::Draining
        | Phase::Freezing
        | Phase::Frozen
        | Phase::Thawing
        | Phase::Stopping
        | Phase::Lost => {
            if let Some(replica) = &member.replica {
                service.set_slots(member.slot, replica, 0);
            }
        }
        Phase::Starting => {}
        Phase::Stopped | Phase::Failed(_) | Phase::Gone => {
            service.remove_slots(member.slot);
            member.replica = None;
        }
    }
}

/// The replica's data-plane side; made when it is ready for the first time.
fn connect(service: &Service, member: &mut Member) -> Option<Arc<Replica>> {
    if member.replica.is_none() {
        let now = clock::now();
        let start = (!member.adopted).then_some((member.started, now));
        if let Some((asked, ready)) = start {
            let label = service.name.to_string();
            counter!(telemetry::STARTS, "service" => label.clone()).increment(1);
            let took = ready.saturating_duration_since(asked);
            histogram!(telemetry::START_SECONDS, "service" => label).record(took);
            service.awake.started_within(took);
            if service.tap.is_open() {
                service.tap.tell(Heard::Start { took });
            }
        }
        let protocol = member.settings.launch.protocol;
        let replica = Replica::new(member.id.clone(), start, member.address?, protocol);
        let replica = replica.of(member.revision.clone());
        member.replica = Some(Arc::new(replica));
    }
    member.replica.clone()
}

/// How many requests a replica may run at once.
pub(super) fn capacity(service: &Service) -> u32 {
    service.settings().scaling.concurrency.map_or(u32::MAX, |limit| limit.get().min(u32::MAX - 1))
}

/// Gives ready replicas their slots again after a change of the limit.
pub(super) fn slots(state: &State) {
    let serving = |member: &&Member| member.phase == Phase::Ready && !member.suspected;
    for member in state.members.values().filter(serving) {
        if let Some(replica) = &member.replica {
            let own = capacity(&state.fleet).saturating_sub(member.lent);
            state.fleet.set_slots(member.slot, replica, own);
        }
    }
}

/// Tells the gate which replicas are of a version that is being tried, and its share of the requests.
fn share(state: &State) {
    let trial = state.mix.trial.as_ref().filter(|(_, share)| *share < 100);
    let Some((version, share)) = trial else { return state.fleet.share(&[], 100) };
    let of_it = state.members.values().filter(|member| member.revision == version.revision);
    let slots: Vec<SlotKey> = of_it.map(|member| member.slot).collect();
    state.fleet.share(&slots, *share);
}

/// Opens or closes the gate.
pub(super) fn gate(state: &State, decision: &Decision) {
    share(state);
    state.fleet.metrics.desired.set(f64::from(decision.want));
    if decision.want == 0 {
        state.fleet.awake.rests();
    }
    if let Some(failure) = state.last_failure.as_ref().filter(|failure| failure.open) {
        state
            .fleet
            .awake
            .failed(Refusal::StartFailed { cause: failure.cause.clone(), again: decision.start_after });
    }
    match &decision.refuse {
        Some(refuse) => state.fleet.close(refusal(refuse)),
        None => state.fleet.open(decision.late.as_ref().map(refusal)),
    }
}

fn refusal(refuse: &Refuse) -> Refusal {
    let (cause, again) = (refuse.cause.clone(), refuse.until);
    match refuse.why {
        RefuseReason::StartFailed => Refusal::StartFailed { cause, again },
        RefuseReason::CrashLooping => Refusal::CrashLooping { cause, again },
        RefuseReason::OutOfResources => Refusal::OutOfResources { cause },
        RefuseReason::NoCapacity => Refusal::NoCapacity { cause },
        RefuseReason::Pulling => Refusal::Pulling { cause },
    }
}

/// Counts a failed replica.
pub(super) fn failed(service: &ServiceName, cause: &Cause) {
    counter!(telemetry::FAILURES, "service" => service.to_string(), "cause" => cause.label()).increment(1);
}

impl Control {
    /// Swaps the route tables whole.
    pub(super) fn publish_routes(&self) {
        self.door.routes.store(Arc::new(routes(&self.model, |name| self.fleet.get(name))));
        self.door.passed_on.store(Arc::new(passed_on(&self.model, |name| self.fleet.get(name))));
    }

    /// Brings the gauges up to date, before they are read.
    pub(super) fn publish_gauges(&self) {
        for state in self.states.values() {
            let (queued, in_flight) = state.fleet.counts();
            state.fleet.metrics.queue.set(f64::from(queued));
            state.fleet.metrics.in_flight.set(f64::from(in_flight));
            for phase in PHASES {
                let count = state.members.values().filter(|member| member.phase.label() == phase).count();
                #[expect(clippy::cast_precision_loss, reason = "a number of containers")]
                replicas(&state.fleet.name, phase).set(count as f64);
            }
        }
        self.outside.values().for_each(Outside::publish_gauges);
    }
}

/// Phases that `tidegate_replicas` counts.
const PHASES: [&str; 10] = [
    "starting", "ready", "draining", "freezing", "frozen", "thawing", "stopping", "stopped", "lost", "failed",
];

pub(super) fn replicas(service: &ServiceName, phase: &str) -> metrics::Gauge {
    gauge!(telemetry::REPLICAS, &[("service", service.to_string()), ("phase", phase.to_owned())])
}

/// A service goes: its gauges must not stay where they were.
pub(super) fn farewell(state: &State) {
    for gauge in [&state.fleet.metrics.queue, &state.fleet.metrics.in_flight, &state.fleet.metrics.desired] {
        gauge.set(0.0);
    }
    for phase in PHASES {
        replicas(&state.fleet.name, phase).set(0.0);
    }
}

fn routes(model: &Model, find: impl Fn(&ServiceName) -> Option<Arc<Service>>) -> RouteTable<Destination> {
    let services = model.services.values();
    let with_service = services.filter_map(|service| find(&service.name).map(|fleet| (service, fleet)));
    RouteTable::new(with_service.flat_map(|(service, fleet)| {
        service.routes.iter().zip(Destination::of_routes(&service.routes, &fleet, &find))
    }))
}

/// What leads to a service, in words.
pub(super) fn ways(service: &model::Service) -> Vec<String> {
    let routes = service.routes.iter().map(|route| format!("{}{}", route.host, route.path));
    let listen = service.listen.iter().map(|address| format!("tcp://{address}"));
    let names = service.sni.iter().map(|name| format!("tls://{name}"));
    routes.chain(listen).chain(names).collect()
}

/// Which server names lead to TCP services.
fn passed_on(model: &Model, find: impl Fn(&ServiceName) -> Option<Arc<Service>>) -> RouteTable<Arc<Service>> {
    let route = |host: &Authority| Route::to(host.clone(), PathPrefix::root());
    let named: Vec<(Route, Arc<Service>)> = model
        .services
        .values()
        .filter_map(|service| Some((service, find(&service.name)?)))
        .flat_map(|(service, fleet)| service.sni.iter().map(move |host| (route(host), Arc::clone(&fleet))))
        .collect();
    RouteTable::new(named.iter().map(|(route, fleet)| (route, Arc::clone(fleet))))
}

impl State {
    /// Notes a decision for `explain` and the metrics.
    pub(super) fn note(&mut self, decision: &decide::Decision) {
        self.reason = decision.reason.to_string();
        self.refused = decision.refuse.as_ref().map(|refuse| refuse.cause.clone());
        self.mix = decision.mix.clone();
        self.rollout.clone_from(&decision.note);
        if let Some(moved) = &decision.moved {
            tracing::info!(service = %self.fleet.name, "{moved}");
            self.history.note(What::Rollout, moved.to_string());
        }
        if decision.want != self.want {
            let labels =
                [("service", self.fleet.name.to_string()), ("reason", decision.reason.label().to_owned())];
            counter!(telemetry::DECISIONS, &labels).increment(1);
            tracing::info!(service = %self.fleet.name, from = self.want, to = decision.want, reason = %self.reason, "want changed");
        }
        self.want = decision.want;
        let what = What::Want { replicas: decision.want, because: decision.reason.label().into() };
        self.history.note(what, self.reason.clone());
    }

    /// Notes for `explain` and the metrics who has waited for too long.
    pub(super) fn note_waits(&mut self, now: Instant, counts: Counts) {
        self.waits.note(now, counts, &self.fleet.settings().scaling);
        for (cause, late) in [("start", counts.cold), ("busy", counts.late - counts.cold)] {
            if late > 0 {
                counter!(telemetry::LATE, "service" => self.fleet.name.to_string(), "cause" => cause)
                    .increment(late);
            }
        }
    }

    /// Whether all that serve are of the good version.
    fn runs_the_good_version(&self) -> bool {
        let Some(good) = &self.mix.main else { return false };
        let mut serving = self.members.values().filter(|member| member.phase == Phase::Ready);
        serving.all(|member| member.revision == good.revision)
    }

    /// Answers those whose wish has come true, or cannot.
    pub(super) fn answer_waiters(&mut self) {
        let (refused, no_fit) = (self.refused.clone(), self.no_fit.clone());
        let (members, last_failure) = (&self.members, &self.last_failure);
        let ready = |since: Option<Instant>| {
            let mut ready = members.values().filter(|member| member.phase == Phase::Ready).peekable();
            ready.peek().is_some() && ready.all(|member| since.is_none_or(|since| member.started >= since))
        };
        let failing = refused.is_some() || (no_fit.is_some() && !self.image_on_its_way);
        let cause = || {
            let failure = last_failure.as_ref().map(|failure| failure.cause.clone());
            no_fit.clone().or(failure).or(refused.clone()).unwrap_or_else(|| "it cannot be started".into())
        };
        for waiter in std::mem::take(&mut self.waiters) {
            let answer = match waiter.goal {
                Goal::Ready if ready(None) => Some(Ok(())),
                Goal::Cold if members.values().all(|member| member.phase.is_asleep()) => Some(Ok(())),
                Goal::RestartedSince(since) if ready(Some(since)) => Some(Ok(())),
                Goal::Runs if members.values().all(|member| member.phase.is_asleep()) => Some(Ok(())),
                Goal::Runs if ready(None) && self.runs_the_good_version() => Some(Ok(())),
                Goal::Ready | Goal::RestartedSince(_) | Goal::Runs if failing => Some(Err(cause())),
                Goal::Ready | Goal::Cold | Goal::RestartedSince(_) | Goal::Runs => None,
            };
            match answer {
                // Whoever asked may have gone.
                Some(answer) => drop(waiter.reply.send(answer)),
                None => self.waiters.push(waiter),
            }
        }
    }
}
