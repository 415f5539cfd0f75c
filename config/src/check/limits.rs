//! What clients may ask of the gateway.

use super::value;
use crate::{
    model::{Limits, RequestLimits},
    problem::Draft,
    raw,
    units::Bytes,
};

pub(super) fn check(raw: raw::Limits, problems: &mut Vec<Draft>) -> Limits {
    let default = Limits::default();
    Limits {
        connections: value::positive(raw.connections, default.connections, problems),
        connections_per_address: value::some(raw.connections_per_address, default.connections_per_address),
        handshakes: value::positive(raw.handshakes, default.handshakes, problems),
        handshake_rate_per_address: value::rate(
            raw.handshake_rate_per_address.as_ref(),
            default.handshake_rate_per_address,
            problems,
        ),
        handshake_rate: value::rate(raw.handshake_rate.as_ref(), default.handshake_rate, problems),
        header_timeout: value::lasting(raw.header_timeout, default.header_timeout, problems),
        header_bytes: value::size(raw.header_bytes, Bytes(8 << 10), default.header_bytes, problems),
        header_count: value::at_least(raw.header_count, 16, default.header_count, problems),
        idle_timeout: value::lasting(raw.idle_timeout, default.idle_timeout, problems),
        keep_alive_requests: value::some(raw.keep_alive_requests, default.keep_alive_requests),
        send_timeout: value::lasting(raw.send_timeout, default.send_timeout, problems),
        send_rate: value::size(raw.send_rate, Bytes(0), default.send_rate, problems),
        send_grace: value::span(raw.send_grace, default.send_grace),
        h2_streams: value::positive(raw.h2_streams, default.h2_streams, problems),
        h2_streams_total: value::positive(raw.h2_streams_total, default.h2_streams_total, problems),
        h2_resets: value::positive(raw.h2_resets, default.h2_resets, problems),
        h2_ping: value::lasting(raw.h2_ping, default.h2_ping, problems),
        requests: RequestLimits {
            uri_bytes: value::size(raw.uri_bytes, Bytes(256), default.requests.uri_bytes, problems),
            body_bytes: raw.body_bytes.map(|size| value::size(Some(size), Bytes(1), Bytes(0), problems)),
            body_rate: value::size(raw.body_rate, Bytes(0), default.requests.body_rate, problems),
            body_grace: value::span(raw.body_grace, default.requests.body_grace),
            timeout: raw
                .request_timeout
                .map(|length| value::lasting(Some(length), default.header_timeout, problems)),
        },
    }
}
