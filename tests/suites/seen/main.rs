//! What can be seen of requests from outside: the access log, traces, timing fields.

mod log;
mod record;
mod timing;
mod trace;
