//! Which replica gets a request, over real sockets: replicas that are slow, that fail, and that come and go.

mod affinity;
mod circuit;
mod ejection;
mod hedge;
mod latency;
mod pair;
