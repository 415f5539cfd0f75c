//! A connection of a TCP service as one line of JSON. Pure.
//! Absent: the combined format, which knows requests alone.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use super::line::ms;

/// What is told of a connection. What was never known is left out.
#[derive(Debug, Clone)]
pub struct Connection<'c> {
    /// When it was accepted.
    pub arrived: SystemTime,
    /// Who connected.
    pub client: IpAddr,
    /// Whose it was.
    pub service: &'c str,
    /// Where it was carried to.
    pub replica: Option<&'c str>,
    /// How it ended: `closed`, `idle`, `broke`, `cut`, `left` or `refused`.
    pub outcome: &'static str,
    /// Why it was refused.
    pub reason: Option<&'static str>,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to it.
    pub bytes_out: u64,
    /// From its acceptance to its end.
    pub total: Duration,
}

#[derive(Serialize)]
struct Json<'c> {
    time: String,
    client: IpAddr,
    protocol: &'static str,
    service: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    replica: Option<&'c str>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    bytes_in: u64,
    bytes_out: u64,
    total_ms: f64,
}

/// Writes one line, its end included.
pub(super) fn write(connection: &Connection<'_>, text: &mut Vec<u8>) {
    let Connection { arrived, client, service, replica, outcome, reason, bytes_in, bytes_out, total } =
        *connection;
    let line = Json {
        time: humantime::format_rfc3339_micros(arrived).to_string(),
        client,
        protocol: "tcp",
        service,
        replica,
        outcome,
        reason,
        bytes_in,
        bytes_out,
        total_ms: ms(total),
    };
    serde_json::to_writer(&mut *text, &line).expect("plain values, written to memory");
    text.push(b'\n');
}
