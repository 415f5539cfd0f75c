//! What clients may ask of the gateway.

use super::duration;
use crate::{
    decode::{
        leaf::{Often, Size, Span},
        section,
    },
    model,
};

section! {
    /// What clients may ask of the gateway.
    Limits, d = model::Limits::default() => {
        /// Client connections that may be open at once.
        connections: u32 = d.connections,
        /// Of these, from one client address (an IPv6 client is its /64 network); trusted proxies may have any number. 0: no limit.
        connections_per_address: u32 = d.connections_per_address.map_or(0, std::num::NonZero::get),
        /// Handshakes over TLS that may be under way at once, a tenth of them from one client address.
        handshakes: u32 = d.handshakes,
        /// How many handshakes over TLS one client address may begin, as in `"1000/s"` (also `m` and `h`), as many at once after
        /// a pause; trusted proxies any number. `"off"`: no limit.
        handshake_rate_per_address: Often = d.handshake_rate_per_address.map(|rate| rate.to_string()),
        /// How many all clients together may begin. Default: no limit, since a flood would use it up for everybody.
        handshake_rate: Often,
        /// How long a request's headers may take to their end: from their first byte, and from the beginning of a new connection.
        header_timeout: Span = duration(d.header_timeout),
        /// The size of a request's headers, together.
        header_bytes: Size = d.header_bytes.to_string(),
        /// The number of a request's headers.
        header_count: u32 = d.header_count,
        /// The length of a request's path and query.
        uri_bytes: Size = d.requests.uri_bytes.to_string(),
        /// The size of a request's body. Default: no limit.
        body_bytes: Size,
        /// How much of a request's body must come per second while it is waited for, on average. Calls of gRPC to
        /// services with `protocol = "h2c"`, and requests whose answer has begun, may be slower. `"0B"`: no limit.
        body_rate: Size = d.requests.body_rate.to_string(),
        /// How long a body may be waited for, in all, before that counts.
        body_grace: Span = duration(d.requests.body_grace),
        /// How long a request may take to the end of its answer; upgraded connections may take longer. Default: no limit.
        request_timeout: Span,
        /// How long a connection may be without a further request; over HTTP/2 while none is on it.
        idle_timeout: Span = duration(d.idle_timeout),
        /// Requests that one connection may carry before it is closed. 0: no limit.
        keep_alive_requests: u32 = d.keep_alive_requests.map_or(0, std::num::NonZero::get),
        /// How long a client may take nothing of what is sent to it.
        send_timeout: Span = duration(d.send_timeout),
        /// How much of an answer a client must take per second while it is waited for, on average, over HTTP/1.1. Over HTTP/2 it
        /// must take 16 KiB of each in `send_timeout`. `"0B"`: no limit.
        send_rate: Size = d.send_rate.to_string(),
        /// How long a client may be waited for, in all, before that counts.
        send_grace: Span = duration(d.send_grace),
        /// Requests at once on one HTTP/2 connection.
        h2_streams: u32 = d.h2_streams,
        /// The same on all HTTP/2 connections together, a fifth of them from one client address; trusted proxies may have any
        /// number of these. Further ones are refused (`REFUSED_STREAM`): clients know that they can send them again.
        h2_streams_total: u32 = d.h2_streams_total,
        /// Requests that a client has taken back on one HTTP/2 connection and that are not yet cleared away.
        h2_resets: u32 = d.h2_resets,
        /// How often a silent HTTP/2 connection is asked whether it is still there.
        h2_ping: Span = duration(d.h2_ping),
    }
}
