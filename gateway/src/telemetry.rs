//! Metric names, their help, and the handles that are used again and again; and how logs are set up.
//! Holds: labels come from closed sets or from the file (services), never from requests.

use std::{sync::OnceLock, time::Duration};

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use tidegate_config::name::ServiceName;

use crate::request::grpc;

/// Requests answered, by `service` and `code`.
pub const REQUESTS: &str = "tidegate_requests_total";
/// From arrival to the end of both bodies, by `service`.
pub const REQUEST_SECONDS: &str = "tidegate_request_seconds";
/// Waiting in the gate, by `service`.
pub const WAIT_SECONDS: &str = "tidegate_wait_seconds";
/// Requests that waited in the gate longer than `late_after`, by `service` and `cause`.
pub const LATE: &str = "tidegate_late_requests_total";
/// Requests that hold a lease, by `service`.
pub const IN_FLIGHT: &str = "tidegate_in_flight";
/// Requests that wait, by `service`.
pub const QUEUE: &str = "tidegate_queue";
/// Refusals, by `reason`.
pub const REFUSALS: &str = "tidegate_refusals_total";
/// Attempts that were made again, by `service`.
pub const RETRIES: &str = "tidegate_retries_total";
/// Attempts that failed for good, by `service` and `failure`.
pub const UPSTREAM_FAILURES: &str = "tidegate_upstream_failures_total";
/// Replicas that got no requests for a while because they failed again and again, by `service`.
pub const EJECTIONS: &str = "tidegate_ejections_total";
/// Requests that were sent to a second replica because the first had not answered in time, by `service`.
pub const HEDGES: &str = "tidegate_hedges_total";
/// Those that the second answered, by `service`.
pub const HEDGES_WON: &str = "tidegate_hedges_won_total";
/// How often a service's circuit opened, by `service`.
pub const CIRCUIT_OPENED: &str = "tidegate_circuit_opened_total";
/// Responses that broke off in their body, by `service`.
pub const BROKEN: &str = "tidegate_responses_broken_total";
/// Responses whose clients left before their end, by `service`.
pub const LEFT: &str = "tidegate_responses_left_total";
/// Calls of gRPC that ended, by `service` and `status`.
pub const CALLS: &str = "tidegate_grpc_calls_total";
/// Wakes that requests caused, by `service` and `cause`.
pub const WAKES: &str = "tidegate_wakes_total";
/// Answers to those who do not wake a service that sleeps, by `service`.
pub const ASLEEP: &str = "tidegate_asleep_answers_total";
/// Waiting pages that were shown, by `service`.
pub const WAITING_PAGES: &str = "tidegate_waiting_pages_total";
/// Lines of the access log that were lost.
pub const LOG_DROPPED: &str = "tidegate_access_log_dropped_total";
/// Spans that were lost.
pub const SPANS_DROPPED: &str = "tidegate_spans_dropped_total";
/// Replicas by `service` and `phase`.
pub const REPLICAS: &str = "tidegate_replicas";
/// Replicas that the last decision wants, by `service`.
pub const DESIRED: &str = "tidegate_replicas_desired";
/// Decisions that changed something, by `service` and `reason`.
pub const DECISIONS: &str = "tidegate_decisions_total";
/// From the start call to ready, by `service`.
pub const START_SECONDS: &str = "tidegate_cold_start_seconds";
/// Starts that became ready, by `service`.
pub const STARTS: &str = "tidegate_cold_starts_total";
/// Replicas that failed, by `service` and `cause`.
pub const FAILURES: &str = "tidegate_replica_failures_total";
/// Calls to engines, by `host`, `call` and `outcome`.
pub const ENGINE_CALLS: &str = "tidegate_engine_calls_total";
/// How long calls to engines took, by `host` and `call`.
pub const ENGINE_SECONDS: &str = "tidegate_engine_call_seconds";
/// Open client connections.
pub const CONNECTIONS: &str = "tidegate_connections";
/// Handshakes over TLS, by `outcome`.
pub const HANDSHAKES: &str = "tidegate_tls_handshakes_total";
/// Orders of certificates, by `outcome`.
pub const ACME_ORDERS: &str = "tidegate_acme_orders_total";
/// Certificates whose files changed, by `outcome`.
pub const CERTIFICATE_RELOADS: &str = "tidegate_tls_certificate_reloads_total";
/// Until a certificate is no longer good, by `certificate`.
pub const CERTIFICATE_SECONDS: &str = "tidegate_tls_certificate_expiry_seconds";
/// Connections of TCP services that have ended, by `service` and `outcome`.
pub const TCP_CONNECTIONS: &str = "tidegate_tcp_connections_total";
/// Bytes that TCP services were sent and have sent, by `service` and `direction`.
pub const TCP_BYTES: &str = "tidegate_tcp_bytes_total";
/// From the acceptance of a connection to its end, by `service`.
pub const TCP_SECONDS: &str = "tidegate_tcp_connection_seconds";
/// Requests over HTTP/2 that are under way.
pub const STREAMS: &str = "tidegate_http2_streams";
/// Those that were refused because there are too many, by `why`.
pub const STREAMS_REFUSED: &str = "tidegate_http2_streams_refused_total";
/// Connections that were closed unserved, by `why`.
pub const TURNED_AWAY: &str = "tidegate_connections_turned_away_total";
/// Reloads of the file, by `outcome`.
pub const RELOADS: &str = "tidegate_reloads_total";
/// Failed writes of the state.
pub const STATE_FAILURES: &str = "tidegate_state_write_failures_total";

/// Every metric: name, kind, unit, help. docs/metrics.md is made from this table.
pub const ALL: &[(&str, Kind, Unit, &str)] = &[
    (
        REQUESTS,
        Kind::Counter,
        Unit::Count,
        "Requests answered, by service and status code (499: the client left first)",
    ),
    (
        REQUEST_SECONDS,
        Kind::Histogram,
        Unit::Seconds,
        "From a request's arrival to the end of both its bodies, by service",
    ),
    (
        WAIT_SECONDS,
        Kind::Histogram,
        Unit::Seconds,
        "Waiting in the gate before the first attempt, by service",
    ),
    (
        LATE,
        Kind::Counter,
        Unit::Count,
        "Requests that waited longer than `scaling.late_after` or their goal, by service and cause (start: none of its replicas was ready; busy: they were, and full)",
    ),
    (IN_FLIGHT, Kind::Gauge, Unit::Count, "Requests that run, by service"),
    (QUEUE, Kind::Gauge, Unit::Count, "Requests that wait, by service"),
    (REFUSALS, Kind::Counter, Unit::Count, "Requests that Tidegate itself refused, by reason"),
    (RETRIES, Kind::Counter, Unit::Count, "Attempts that were made again after a failure, by service"),
    (UPSTREAM_FAILURES, Kind::Counter, Unit::Count, "Attempts that failed for good, by service and failure"),
    (
        EJECTIONS,
        Kind::Counter,
        Unit::Count,
        "Replicas that got no requests for a while because they failed again and again, by service",
    ),
    (
        HEDGES,
        Kind::Counter,
        Unit::Count,
        "Requests that were sent to a second replica because the first had not answered in time, by service",
    ),
    (HEDGES_WON, Kind::Counter, Unit::Count, "Hedged requests that the second replica answered, by service"),
    (
        CIRCUIT_OPENED,
        Kind::Counter,
        Unit::Count,
        "How often a service's circuit opened because too many of its requests failed, by service",
    ),
    (
        BROKEN,
        Kind::Counter,
        Unit::Count,
        "Responses that broke off in their body, because of the replica or of the request's deadline, by service",
    ),
    (LEFT, Kind::Counter, Unit::Count, "Responses whose clients left before their end, by service"),
    (
        CALLS,
        Kind::Counter,
        Unit::Count,
        "Calls of gRPC that ended, by service and status (cancelled: the client left first)",
    ),
    (
        WAKES,
        Kind::Counter,
        Unit::Count,
        "Wakes of sleeping services, by service and cause (call: a request that is held; page: a waiting page; asked: by hand)",
    ),
    (
        ASLEEP,
        Kind::Counter,
        Unit::Count,
        "Requests of monitors, health checks and bots that were answered without waking, by service",
    ),
    (
        WAITING_PAGES,
        Kind::Counter,
        Unit::Count,
        "Waiting pages that were shown instead of a sleeping service, by service",
    ),
    (
        LOG_DROPPED,
        Kind::Counter,
        Unit::Count,
        "Lines of the access log that were lost: the disk is full, or too slow",
    ),
    (SPANS_DROPPED, Kind::Counter, Unit::Count, "Spans that were lost: the collector is gone, or too slow"),
    (REPLICAS, Kind::Gauge, Unit::Count, "Replicas, by service and phase"),
    (DESIRED, Kind::Gauge, Unit::Count, "Replicas that the last decision wants, by service"),
    (
        DECISIONS,
        Kind::Counter,
        Unit::Count,
        "Decisions that wanted another number than the one before, by service and reason",
    ),
    (START_SECONDS, Kind::Histogram, Unit::Seconds, "From the start call to ready, by service"),
    (STARTS, Kind::Counter, Unit::Count, "Starts that became ready, by service"),
    (FAILURES, Kind::Counter, Unit::Count, "Replicas that failed, by service and cause"),
    (ENGINE_CALLS, Kind::Counter, Unit::Count, "Calls to engines, by host, call and outcome"),
    (ENGINE_SECONDS, Kind::Histogram, Unit::Seconds, "Duration of calls to engines, by host and call"),
    (CONNECTIONS, Kind::Gauge, Unit::Count, "Open client connections"),
    (
        TURNED_AWAY,
        Kind::Counter,
        Unit::Count,
        "Connections that were closed unserved, by why: total, address, proxy_untrusted, proxy_late, proxy_malformed, proxy_closed",
    ),
    (STREAMS, Kind::Gauge, Unit::Count, "Requests and tunnels over HTTP/2 that are under way"),
    (
        STREAMS_REFUSED,
        Kind::Counter,
        Unit::Count,
        "Requests over HTTP/2 that were refused because there are as many as there may be, by why: total, address",
    ),
    (
        HANDSHAKES,
        Kind::Counter,
        Unit::Count,
        "Handshakes over TLS, by outcome: ok, challenge, too_many, too_often, late, no_name, unknown_name, http, client_certificate, protocol, closed",
    ),
    (
        CERTIFICATE_SECONDS,
        Kind::Gauge,
        Unit::Seconds,
        "Time until a certificate is no longer good, by certificate (its file, or the name that it was issued for); negative when it is past",
    ),
    (ACME_ORDERS, Kind::Counter, Unit::Count, "Orders of certificates by ACME, by outcome: ok, failed"),
    (
        CERTIFICATE_RELOADS,
        Kind::Counter,
        Unit::Count,
        "Times that certificates were read anew because their files changed, by outcome: ok, bad",
    ),
    (
        TCP_CONNECTIONS,
        Kind::Counter,
        Unit::Count,
        "Connections of TCP services that have ended, by service and outcome (closed, idle, cut, broke, refused, left)",
    ),
    (
        TCP_BYTES,
        Kind::Counter,
        Unit::Bytes,
        "Bytes to TCP services (up) and from them (down), by service and direction",
    ),
    (
        TCP_SECONDS,
        Kind::Histogram,
        Unit::Seconds,
        "From the acceptance of a TCP service's connection to its end, by service",
    ),
    (RELOADS, Kind::Counter, Unit::Count, "Reloads of the configuration file, by outcome"),
    (STATE_FAILURES, Kind::Counter, Unit::Count, "Writes of the state directory that failed"),
];

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// Tells the recorder what each metric means.
pub fn describe() {
    for (name, kind, unit, help) in ALL {
        match kind {
            Kind::Counter => describe_counter!(*name, *unit, *help),
            Kind::Gauge => describe_gauge!(*name, *unit, *help),
            Kind::Histogram => describe_histogram!(*name, *unit, *help),
        }
    }
}

/// docs/metrics.md: the table above for people.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\nServed in Prometheus' text format at `/metrics`, on `gateway.metrics` (127.0.0.1:9901 unless set) and on \
         the admin socket.\nMade from the table in gateway/src/telemetry.rs; `UPDATE=1 cargo test -p tidegate metrics_page` \
         writes it anew.\n\n| metric | kind | unit | meaning |\n|---|---|---|---|\n",
    );
    for (name, kind, unit, help) in ALL {
        let kind = format!("{kind:?}").to_lowercase();
        text += &format!("| `{name}` | {kind} | {} | {help} |\n", unit.as_str());
    }
    text
}

/// One service's handles, so that no request looks one up by its labels.
pub struct ServiceMetrics {
    service: String,
    codes: Codes,
    calls: Box<[OnceLock<Counter>]>,
    seconds: Histogram,
    wait: Histogram,
    /// Attempts that were made again.
    pub retries: Counter,
    /// Replicas that were ejected.
    pub ejections: Counter,
    /// Requests that were sent to a second replica.
    pub hedges: Counter,
    /// Those that it answered.
    pub hedges_won: Counter,
    /// How often the circuit opened.
    pub circuit_opened: Counter,
    /// Responses that broke off.
    pub broken: Counter,
    /// Responses whose clients left before their end.
    pub left: Counter,
    /// Answers to those who do not wake it.
    pub asleep_answers: Counter,
    /// Waiting pages that were shown.
    pub waiting_pages: Counter,
    /// Requests that run.
    pub in_flight: Gauge,
    /// Requests that wait.
    pub queue: Gauge,
    /// Replicas that the last decision wants.
    pub desired: Gauge,
}

/// A counter for each status that HTTP can express, 100 to 999. Those of a hundred are there from its first one on: most services
/// are idle.
#[derive(Default)]
struct Codes([OnceLock<Box<[OnceLock<Counter>]>>; 9]);

impl Codes {
    /// The place of a status; `None`: it is none.
    fn get(&self, status: u16) -> Option<&OnceLock<Counter>> {
        let (hundreds, rest) = (usize::from(status / 100), usize::from(status % 100));
        let hundred = self.0.get(hundreds.checked_sub(1)?)?;
        hundred.get_or_init(|| empty(100)).get(rest)
    }
}

fn empty(places: usize) -> Box<[OnceLock<Counter>]> {
    std::iter::repeat_with(OnceLock::new).take(places).collect()
}

impl ServiceMetrics {
    /// The handles of a service.
    #[must_use]
    pub fn new(service: &ServiceName) -> Self {
        let label = service.to_string();
        Self {
            codes: Codes::default(),
            calls: empty(grpc::NAMES.len()),
            seconds: histogram!(REQUEST_SECONDS, "service" => label.clone()),
            wait: histogram!(WAIT_SECONDS, "service" => label.clone()),
            retries: counter!(RETRIES, "service" => label.clone()),
            ejections: counter!(EJECTIONS, "service" => label.clone()),
            hedges: counter!(HEDGES, "service" => label.clone()),
            hedges_won: counter!(HEDGES_WON, "service" => label.clone()),
            circuit_opened: counter!(CIRCUIT_OPENED, "service" => label.clone()),
            broken: counter!(BROKEN, "service" => label.clone()),
            left: counter!(LEFT, "service" => label.clone()),
            asleep_answers: counter!(ASLEEP, "service" => label.clone()),
            waiting_pages: counter!(WAITING_PAGES, "service" => label.clone()),
            in_flight: gauge!(IN_FLIGHT, "service" => label.clone()),
            queue: gauge!(QUEUE, "service" => label.clone()),
            desired: gauge!(DESIRED, "service" => label.clone()),
            service: label,
        }
    }

    /// One request has ended.
    pub fn request(&self, status: u16, took: Duration) {
        if let Some(code) = self.codes.get(status) {
            let new = || counter!(REQUESTS, "service" => self.service.clone(), "code" => status.to_string());
            code.get_or_init(new).increment(1);
        }
        self.seconds.record(took);
    }

    /// One call of gRPC has ended with this status.
    pub(crate) fn call(&self, status: u8) {
        if let Some(counter) = self.calls.get(usize::from(status)) {
            let name = grpc::NAMES[usize::from(status)];
            let new = || counter!(CALLS, "service" => self.service.clone(), "status" => name);
            counter.get_or_init(new).increment(1);
        }
    }

    /// It was woken. `cause`: a `call` that is held, a `page` that waits, or `asked` by hand.
    pub fn woken(&self, cause: &'static str) {
        counter!(WAKES, "service" => self.service.clone(), "cause" => cause).increment(1);
    }

    /// One request got its first lease.
    pub fn waited(&self, wait: Duration) {
        self.wait.record(wait);
    }

    /// One attempt failed for good.
    pub fn upstream_failed(&self, failure: &'static str) {
        counter!(UPSTREAM_FAILURES, "service" => self.service.clone(), "failure" => failure).increment(1);
    }
}

impl std::fmt::Debug for ServiceMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServiceMetrics({})", self.service)
    }
}

/// A connection was closed unserved.
pub fn turned_away(why: &'static str) {
    counter!(TURNED_AWAY, "why" => why).increment(1);
}

/// A request over HTTP/2 was refused.
pub fn stream_refused(why: &'static str) {
    counter!(STREAMS_REFUSED, "why" => why).increment(1);
}

/// A handshake ended.
pub fn handshake(outcome: &'static str) {
    counter!(HANDSHAKES, "outcome" => outcome).increment(1);
}

/// A request was refused by us.
pub fn refused(reason: &'static str) {
    counter!(REFUSALS, "reason" => reason).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, markdown()).expect("docs/metrics.md");
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            page == markdown(),
            "docs/metrics.md is not current: UPDATE=1 cargo test -p tidegate metrics_page"
        );
    }

    #[test]
    fn each_status_has_a_place_of_its_own() {
        let codes = Codes::default();
        let mut places: Vec<_> = (100..=999).filter_map(|status| codes.get(status)).collect();
        assert_eq!(places.len(), 900);
        places.sort_by_key(|place| std::ptr::from_ref(*place));
        places.dedup_by_key(|place| std::ptr::from_ref(*place));
        assert_eq!(places.len(), 900);
        assert!([0, 99, 1000, u16::MAX].iter().all(|status| codes.get(*status).is_none()));
    }

    #[test]
    fn names_are_unique_and_follow_prometheus() {
        for (index, (name, kind, _, _)) in ALL.iter().enumerate() {
            assert!(name.starts_with("tidegate_"), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(ALL[..index].iter().all(|(other, ..)| other != name), "{name} twice");
        }
    }
}
