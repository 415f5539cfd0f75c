//! A whole installation under a virtual clock: the real gates, decisions, plans and phases over engines, containers
//! and clients that are only modelled. Behind the simulation suite; a trace can be tried on settings the same way.
//!
//! A [`Scenario`](scenario::Scenario) goes in; the [`World`](world::World) takes one step per event and tells each in
//! [`Note`](record::Note)s, and at the end what became of every request. Same scenario, same run.
//! Absent: checks (who drives it has them), sockets, tasks, the real clock but for one origin.

mod acts;
pub mod chance;
mod control;
mod engine;
mod front;
mod look;
mod probes;
mod reconcile;
pub mod record;
pub mod replay;
pub mod scenario;
mod sleep;
mod timeline;
mod traffic;
pub mod workload;
pub mod world;
