//! Tidegate: a gateway that starts containers on demand, scales them with their traffic, and lets them go when idle.
//! Everything but `main`: the data plane ([`request`]), the control plane ([`control`]), what they share ([`fleet`]).

pub mod access;
mod acme;
pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod control;
mod failpoint;
pub mod fleet;
pub mod handover;
mod household;
mod hsts;
mod http1;
pub mod listener;
pub mod middleware;
pub mod names;
mod notes;
mod panics;
pub mod proxy_protocol;
pub mod reload;
pub mod request;
pub mod router;
pub mod simulate;
pub mod sockets;
pub mod spans;
pub mod state_dir;
pub mod tcp;
pub mod telemetry;
mod timer;
pub mod tls;
