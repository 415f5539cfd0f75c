//! The modes, in the order in which they run; the numbers are those of the table of failure modes.

mod crash;
mod engine;
mod hosts;
mod long;
mod resources;
mod start;
mod stop;
mod upstream;

use anyhow::Result;
use e2e::chaos::verdict::Verdict;
use futures_util::future::LocalBoxFuture;

use crate::stage::Stage;

/// A mode: its number, what fails, how it is tried.
type Mode = (&'static str, &'static str, fn(&Stage) -> LocalBoxFuture<'_, Result<Verdict>>);

/// All of them.
pub(crate) const MODES: &[Mode] = &[
    ("F1", "thundering herd on a cold start", |stage| Box::pin(start::herd(stage))),
    ("F2", "scale-down beside long streams", |stage| Box::pin(stop::long_streams(stage))),
    ("F3", "requests while the last replica stops", |stage| Box::pin(stop::while_stopping(stage))),
    ("F4", "a tunnel and a stream longer than the idle time", |stage| Box::pin(stop::open_streams(stage))),
    ("F5", "engine restart under load", |stage| Box::pin(engine::restart(stage))),
    ("F6", "events lost, doubled, late, silent", |stage| Box::pin(engine::lying_events(stage))),
    ("F7", "engine hangs", |stage| Box::pin(engine::hang(stage))),
    ("F8", "engine answers 409, 404, 304, 500", |stage| Box::pin(engine::odd_answers(stage))),
    ("F9", "kill -9 of the gateway during starts", |stage| Box::pin(crash::kill_at_random(stage))),
    ("F11", "replicas close idle connections", |stage| Box::pin(upstream::stale_connections(stage))),
    ("F12", "an address passes to another service", |stage| Box::pin(upstream::reused_addresses(stage))),
    ("F13", "half-open replicas", |stage| Box::pin(upstream::half_open(stage))),
    ("F14", "replicas that listen late or answer 503 at first", |stage| {
        Box::pin(start::not_ready_yet(stage))
    }),
    ("F15", "crash loop and out of memory", |stage| Box::pin(start::crash_loop(stage))),
    ("F16", "retry storm", |stage| Box::pin(upstream::retry_storm(stage))),
    ("F17", "clients give up while they wait", |stage| Box::pin(start::impatient_clients(stage))),
    ("F19", "reloads and upgrades under load", |stage| Box::pin(crash::reload_and_upgrade(stage))),
    ("F23", "no file descriptors left", |stage| Box::pin(resources::descriptors(stage))),
    ("F25", "disks full", |stage| Box::pin(resources::full_disks(stage))),
    ("F26", "the clock jumps, the process stands still", |stage| Box::pin(resources::clock(stage))),
    ("F28", "a host is cut off, slow, lost", |stage| Box::pin(hosts::partition(stage))),
    ("F29", "loads of constant rate one after another", |stage| Box::pin(long::steps(stage))),
    ("F30", "many replicas that ignore SIGTERM", |stage| Box::pin(stop::stop_storm(stage))),
    ("F31", "a scraper that stalls", |stage| Box::pin(resources::stalled_scraper(stage))),
    ("F32", "soak", |stage| Box::pin(long::soak(stage))),
    ("F33", "a panic in one request of a thousand", |stage| Box::pin(resources::panics(stage))),
];
