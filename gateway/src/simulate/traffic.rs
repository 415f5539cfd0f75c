//! Simulated requests and their clients: enter, wait, are sent, fail, are sent again, end. As the data plane does it.

use std::time::{Duration, Instant};

use tidegate_config::name::{ReplicaId, ServiceName};

use super::{
    front::{GaveBack, Granted},
    record::{Note, Outcome, RequestId, RequestRecord},
    scenario::Arrival,
    world::{Event, World},
};
use crate::{
    fleet::{
        admission::{Entry, Grant, TicketId},
        balancer::{Answer, Report, Wish},
        service::hold_deadline,
    },
    request::retry::{self, Failure, Verdict},
};

/// From a grant to a replica that has taken the connection.
const CONNECT: Duration = Duration::from_micros(200);

/// One request on its way.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) arrival: Arrival,
    pub(super) record: RequestRecord,
    stage: Stage,
    deadline: Instant,
}

#[derive(Debug, Clone)]
enum Stage {
    ToCome,
    Waiting(TicketId),
    Connecting(Grant<ReplicaId>),
    Running(Grant<ReplicaId>),
    Ended,
}

impl Request {
    pub(super) fn new(number: usize, arrival: Arrival, origin: Instant) -> Self {
        let arrived = origin + arrival.at;
        let record = RequestRecord {
            id: RequestId(u32::try_from(number).unwrap_or(u32::MAX)),
            service: arrival.service.clone(),
            arrived,
            waited: None,
            attempts: 0,
            end: None,
        };
        Self { arrival, record, stage: Stage::ToCome, deadline: arrived }
    }
}

impl World {
    pub(super) fn arrives(&mut self, id: RequestId) {
        let now = self.now;
        let arrival = self.request(id).arrival.clone();
        let Some(state) = self.control.states.get_mut(&arrival.service) else { return };
        let deadline = hold_deadline(now, state.front.settings.scaling.hold);
        let entry = state.front.enter(now, id, arrival.key.map(Wish::Hashed), &mut self.control.notes);
        let word = state.front.word;
        self.request(id).deadline = deadline;
        if let Some(patience) = arrival.patience {
            self.timeline.plan(now + patience, Event::GivesUp(id));
        }
        match entry {
            Entry::Granted(grant) => self.send(id, grant),
            Entry::Queued(ticket) => {
                self.timeline.plan(deadline, Event::HoldEnds(id));
                self.wait(id, ticket, &arrival.service);
            }
            Entry::Full => self.finish(id, Outcome::Refused("queue_full")),
            Entry::Broken(_) => self.finish(id, Outcome::Refused("circuit_open")),
            Entry::Closed => self.finish(id, Outcome::Refused(word)),
        }
    }

    pub(super) fn gives_up(&mut self, id: RequestId) {
        match self.request(id).stage.clone() {
            Stage::ToCome | Stage::Ended => {}
            Stage::Waiting(ticket) => {
                self.leave_queue(id, ticket);
                self.finish(id, Outcome::Cancelled);
            }
            Stage::Connecting(grant) | Stage::Running(grant) => {
                self.give_back(id, &grant, Report::Unknown);
                self.finish(id, Outcome::Cancelled);
            }
        }
    }

    pub(super) fn hold_ends(&mut self, id: RequestId) {
        if let Stage::Waiting(ticket) = self.request(id).stage {
            let service = self.request(id).arrival.service.clone();
            let word = self.control.states.get(&service).map_or("shutting_down", |state| state.front.word);
            self.leave_queue(id, ticket);
            self.finish(id, Outcome::Refused(word));
        }
    }

    pub(super) fn connects(&mut self, id: RequestId, attempt: u32) {
        let now = self.now;
        let request = self.request(id);
        let Stage::Connecting(grant) = request.stage.clone() else { return };
        if request.record.attempts != attempt {
            return;
        }
        let takes = request.arrival.takes;
        if self.engines.iter().any(|engine| engine.serves(&grant.replica, now)) {
            self.request(id).stage = Stage::Running(grant);
            self.timeline.plan(now + takes, Event::Answers(id, attempt));
        } else {
            self.fails(id, &grant, Failure::Connect);
        }
    }

    pub(super) fn answers(&mut self, id: RequestId, attempt: u32) {
        let now = self.now;
        let request = self.request(id);
        let Stage::Running(grant) = request.stage.clone() else { return };
        if request.record.attempts != attempt {
            return;
        }
        let (service, after) = (request.arrival.service.clone(), Some(request.arrival.takes));
        if (attempt > 1 || grant.probation)
            && let Some(state) = self.control.states.get_mut(&service)
        {
            let granted = state.front.answered(now, &grant, &mut self.control.notes);
            self.follow(granted);
        }
        self.give_back(id, &grant, Report::Answered { after, how: Answer::Good });
        self.finish(id, Outcome::Answered(grant.replica));
    }

    /// All that ran on this replica breaks off.
    pub(super) fn break_off(&mut self, replica: &ReplicaId) {
        let runs =
            |request: &&Request| matches!(&request.stage, Stage::Running(grant) if grant.replica == *replica);
        let broken: Vec<_> = self.requests.iter().filter(runs).map(|request| request.record.id).collect();
        for id in broken {
            if let Stage::Running(grant) = self.request(id).stage.clone() {
                self.fails(id, &grant, Failure::Reset);
            }
        }
    }

    /// The gateway goes away under all that is on its way.
    pub(super) fn lose_all(&mut self) {
        let open = |request: &&Request| !matches!(request.stage, Stage::ToCome | Stage::Ended);
        let lost: Vec<_> = self.requests.iter().filter(open).map(|request| request.record.id).collect();
        for id in lost {
            self.finish(id, Outcome::Lost);
        }
    }

    /// Grants that a change led to.
    pub(super) fn follow(&mut self, granted: Granted) {
        for (id, grant) in granted {
            self.send(id, grant);
        }
    }

    pub(super) fn finish(&mut self, id: RequestId, outcome: Outcome) {
        let now = self.now;
        let request = self.request(id);
        request.stage = Stage::Ended;
        request.record.end = Some((now, outcome.clone()));
        self.control.notes.push(Note::Ended(id, outcome));
    }

    fn send(&mut self, id: RequestId, grant: Grant<ReplicaId>) {
        let now = self.now;
        let unpowered = self.engines.iter().any(|e| !e.powered && e.containers.contains_key(&grant.replica));
        let request = self.request(id);
        let record = &mut request.record;
        record.attempts += 1;
        let attempt = record.attempts;
        record.waited.get_or_insert(now - record.arrived);
        let service = record.service.clone();
        request.stage = Stage::Connecting(grant);
        let Some(state) = self.control.states.get(&service) else { return };
        let connect = if unpowered { state.front.settings.upstream.connect_timeout } else { CONNECT };
        self.timeline.plan(now + connect, Event::Connects(id, attempt));
    }

    fn fails(&mut self, id: RequestId, held: &Grant<ReplicaId>, failure: Failure) {
        let now = self.now;
        let (replayable, service) =
            (self.request(id).arrival.replayable, self.request(id).arrival.service.clone());
        let Some(state) = self.control.states.get_mut(&service) else { return };
        let budget = state.front.may_retry(now);
        match retry::verdict(failure, replayable, budget) {
            Verdict::Refuse(refusal) => {
                self.give_back(id, held, Report::Failed);
                self.finish(id, Outcome::Refused(refusal.reason()));
            }
            Verdict::Again { suspend } => {
                if suspend && let Some(until) = state.front.suspend(now, held, &mut self.control.notes) {
                    self.timeline.plan(until, Event::Resume(self.life, service.clone()));
                    self.suspect(&held.replica);
                }
                self.swap(id, held, &service);
            }
        }
    }

    fn swap(&mut self, id: RequestId, held: &Grant<ReplicaId>, service: &ServiceName) {
        let now = self.now;
        let Some(state) = self.control.states.get_mut(service) else { return };
        let (ticket, gave_back) = state.front.swap(now, id, held, Report::Failed, &mut self.control.notes);
        self.request(id).stage = Stage::Waiting(ticket);
        self.follow_up(gave_back, &held.replica, service);
        if matches!(self.request(id).stage, Stage::Waiting(_)) {
            let deadline = self.request(id).deadline.max(now);
            self.timeline.plan(deadline, Event::HoldEnds(id));
            self.wait(id, ticket, service);
        }
    }

    fn wait(&mut self, id: RequestId, ticket: TicketId, service: &ServiceName) {
        self.request(id).stage = Stage::Waiting(ticket);
        if self.control.states.get(service).is_some_and(|state| !state.front.has_capacity()) {
            self.ring(service);
        }
    }

    fn leave_queue(&mut self, id: RequestId, ticket: TicketId) {
        let now = self.now;
        let service = self.request(id).arrival.service.clone();
        if let Some(state) = self.control.states.get_mut(&service) {
            state.front.cancel(now, id, ticket, &mut self.control.notes);
        }
    }

    fn give_back(&mut self, id: RequestId, held: &Grant<ReplicaId>, report: Report) {
        let now = self.now;
        let service = self.request(id).arrival.service.clone();
        let Some(state) = self.control.states.get_mut(&service) else { return };
        let gave_back = state.front.leave(now, id, held, report, &mut self.control.notes);
        self.follow_up(gave_back, &held.replica, &service);
    }

    fn follow_up(&mut self, gave_back: GaveBack, replica: &ReplicaId, service: &ServiceName) {
        let GaveBack { granted, drained, ejected } = gave_back;
        self.follow(granted);
        if drained {
            self.ring(service);
        }
        if let Some(until) = ejected {
            self.timeline.plan(until, Event::Resume(self.life, service.clone()));
            self.suspect(replica);
        }
    }

    fn request(&mut self, id: RequestId) -> &mut Request {
        &mut self.requests[id.0 as usize]
    }
}
