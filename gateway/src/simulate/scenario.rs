//! What a simulation starts from: hosts, services, requests, and what happens to them from outside.

use std::{sync::Arc, time::Duration};

use tidegate_config::{
    model,
    name::{HostName, ServiceName},
};

use super::chance::Span;

/// What a simulation starts from. Moments are told from its beginning.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Feeds every draw of the run.
    pub seed: u64,
    /// The hosts, in the file's order.
    pub hosts: Vec<(model::Host, EngineModel)>,
    /// The services, and how their containers behave.
    pub services: Vec<(Arc<model::Service>, App)>,
    /// The requests.
    pub arrivals: Vec<Arrival>,
    /// What else happens.
    pub acts: Vec<(Duration, Act)>,
}

/// How an engine answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EngineModel {
    /// Until an image is there.
    pub prepare: Span,
    /// From a start's call to a running process.
    pub start: Span,
    /// From SIGTERM to the end.
    pub stop: Span,
    /// Any other call.
    pub call: Span,
    /// How late its events are.
    pub lag: Span,
    /// Share of calls that fail.
    pub fails: f64,
    /// Share of calls that have their effect but are answered with a failure.
    pub answer_lost: f64,
    /// Share of its events that are lost.
    pub event_lost: f64,
    /// Share of its events that come twice.
    pub event_twice: f64,
}

impl EngineModel {
    /// Answers at once, and always; a start takes this long.
    #[must_use]
    pub fn sound(start: impl Into<Span>) -> Self {
        let short = Span::Fixed(Duration::from_millis(5));
        Self {
            prepare: Span::Fixed(Duration::from_millis(100)),
            start: start.into(),
            stop: Span::Fixed(Duration::from_millis(50)),
            call: short,
            lag: short,
            fails: 0.0,
            answer_lost: 0.0,
            event_lost: 0.0,
            event_twice: 0.0,
        }
    }
}

/// How a service's containers behave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct App {
    /// From a running process to one that answers.
    pub ready: Span,
    /// Share of containers that never answer.
    pub never_ready: f64,
    /// Share of containers that end by themselves.
    pub crashes: f64,
    /// After this.
    pub crash_after: Span,
}

impl App {
    /// Answers after this long, and for ever.
    #[must_use]
    pub fn sound(ready: impl Into<Span>) -> Self {
        Self { ready: ready.into(), never_ready: 0.0, crashes: 0.0, crash_after: Span::Fixed(Duration::ZERO) }
    }
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// When it comes.
    pub at: Duration,
    /// Where to.
    pub service: ServiceName,
    /// How long a replica works on it.
    pub takes: Duration,
    /// When its client gives up.
    pub patience: Option<Duration>,
    /// Whether it may be sent twice.
    pub replayable: bool,
    /// What it belongs to, for a service with affinity.
    pub key: Option<u64>,
}

/// What happens from outside.
#[derive(Debug, Clone)]
pub enum Act {
    /// From now on an engine behaves like this.
    Engine(HostName, EngineModel),
    /// From now on containers of a service behave like this; those that run keep what they were born with.
    App(ServiceName, App),
    /// An engine stops answering, or answers again; its containers live on.
    Answers(HostName, bool),
    /// A host loses its power with all that runs there, or comes back with what it had, stopped.
    Power(HostName, bool),
    /// The file has new settings for a service.
    Settings(Arc<model::Service>),
    /// All running containers of a service end by themselves.
    Crash(ServiceName),
    /// Somebody removes all containers of a service.
    Vanish(ServiceName),
    /// Somebody asks for a wake.
    Wake(ServiceName),
    /// Somebody asks for a sleep.
    Sleep(ServiceName),
    /// Somebody asks for a restart.
    Restart(ServiceName),
    /// The gateway ends without a word and starts again: containers live on, clients' connections do not.
    RestartGateway,
}
