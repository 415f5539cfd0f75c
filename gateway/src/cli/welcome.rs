//! What `tidegate up` prints once it is ready: each service's address and a line to paste.

use std::{fmt::Write, net::SocketAddr};

use tidegate_config::{
    model::{Model, Route, Service},
    name::Authority,
};

use crate::control::status::ServiceStatus;

/// The text, one block per service.
pub(super) fn text(
    model: &Model,
    addresses: &[SocketAddr],
    metrics: Option<SocketAddr>,
    statuses: &[ServiceStatus],
) -> String {
    let mut text = String::new();
    let port = addresses.first().map_or(80, SocketAddr::port);
    for service in model.services.values() {
        let status = statuses.iter().find(|status| status.service == service.name.as_str());
        let state = status.map_or("unknown", |status| status.state.as_str());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n  {}  ({}, {state})", service.name, what(service));
        if let Some(status) = status.filter(|status| status.state == "failing") {
            let _ = writeln!(text, "    {}", status.reason);
        }
        for address in &service.listen {
            let _ = writeln!(text, "    tcp://{address}");
        }
        if let Some(route) = service.routes.first() {
            let _ = writeln!(text, "    {}\n    {}", url(route, port), curl(route, port));
        }
    }
    let listening = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let _ = write!(text, "\ntidegate: ready on {listening}");
    if let Some(metrics) = metrics {
        let _ = write!(text, "; metrics on http://{metrics}/metrics");
    }
    text.push_str("; stop with Ctrl-C\n");
    text
}

/// What serves it.
fn what(service: &Service) -> String {
    if service.is_outside() {
        service.upstreams.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    } else {
        service.launch.image.clone()
    }
}

/// The host that a person would type for this route.
fn host(route: &Route) -> String {
    match &route.host {
        Authority::Exact(host) => host.clone(),
        Authority::Wildcard(suffix) => format!("any.{suffix}"),
        Authority::Any => "localhost".into(),
    }
}

fn url(route: &Route, port: u16) -> String {
    format!("http://{}:{port}{}", host(route), route.path)
}

/// `*.localhost` reaches this machine without DNS; other names may not lead here yet, so `Host` is set by hand.
fn curl(route: &Route, port: u16) -> String {
    let host = host(route);
    if host == "localhost" || host.ends_with(".localhost") {
        format!("curl http://{host}:{port}{}", route.path)
    } else {
        format!("curl -H 'Host: {host}' http://localhost:{port}{}", route.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curl_line_works_before_dns_does() {
        let route = |host: &str| Route::to(host.parse().expect("a host"), "/v1".parse().expect("a path"));
        for (host, want) in [
            ("api.localhost", "curl http://api.localhost:8080/v1"),
            ("*", "curl http://localhost:8080/v1"),
            ("api.example.org", "curl -H 'Host: api.example.org' http://localhost:8080/v1"),
            ("*.example.org", "curl -H 'Host: any.example.org' http://localhost:8080/v1"),
        ] {
            assert_eq!(curl(&route(host), 8080), want);
        }
    }
}
