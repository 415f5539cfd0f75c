//! What clients may ask of us.

use std::{num::NonZeroU32, time::Duration};

use crate::units::{Bytes, Rate};

/// What clients may ask of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections.
    pub connections: u32,
    /// Of one client address.
    pub connections_per_address: Option<NonZeroU32>,
    /// Handshakes over TLS at once.
    pub handshakes: u32,
    /// Handshakes over TLS that one client address may begin.
    pub handshake_rate_per_address: Option<Rate>,
    /// That all of them may.
    pub handshake_rate: Option<Rate>,
    /// From the first byte of a request's headers to their end; for the first request, from the connection's beginning.
    pub header_timeout: Duration,
    /// Bytes of a request's headers.
    pub header_bytes: Bytes,
    /// Header fields of a request.
    pub header_count: u32,
    /// From an answer's end to the next request.
    pub idle_timeout: Duration,
    /// Requests of one connection.
    pub keep_alive_requests: Option<NonZeroU32>,
    /// How long a client may take nothing.
    pub send_timeout: Duration,
    /// Bytes of an answer that it must take per second; 0: none.
    pub send_rate: Bytes,
    /// How long it may be waited for before that counts.
    pub send_grace: Duration,
    /// Concurrent streams of one HTTP/2 connection.
    pub h2_streams: u32,
    /// Of all of them.
    pub h2_streams_total: u32,
    /// Streams of one HTTP/2 connection that were reset and are still known.
    pub h2_resets: u32,
    /// How often a silent HTTP/2 connection is asked whether it is still there.
    pub h2_ping: Duration,
    /// What a change of applies at once.
    pub requests: RequestLimits,
}

/// What one request may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimits {
    /// Bytes of path and query.
    pub uri_bytes: Bytes,
    /// Bytes of its body.
    pub body_bytes: Option<Bytes>,
    /// Bytes of its body that must come per second; 0: none.
    pub body_rate: Bytes,
    /// How long it may be waited for before that counts.
    pub body_grace: Duration,
    /// From its arrival to the end of its answer.
    pub timeout: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: NonZeroU32::new(2_000),
            handshakes: 1_000,
            handshake_rate_per_address: Rate::new(1_000, Duration::from_secs(1)),
            handshake_rate: None,
            header_timeout: Duration::from_secs(30),
            header_bytes: Bytes(64 << 10),
            header_count: 100,
            idle_timeout: Duration::from_secs(75),
            keep_alive_requests: None,
            send_timeout: Duration::from_secs(60),
            send_rate: Bytes(240),
            send_grace: Duration::from_secs(60),
            h2_streams: 200,
            h2_streams_total: 10_000,
            h2_resets: 20,
            h2_ping: Duration::from_secs(30),
            requests: RequestLimits {
                uri_bytes: Bytes(8 << 10),
                body_bytes: None,
                body_rate: Bytes(240),
                body_grace: Duration::from_secs(10),
                timeout: None,
            },
        }
    }
}
