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
    let entry = Entry::of(model, addresses);
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
            let _ = writeln!(text, "    {}\n    {}", url(route, entry), curl(route, entry));
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

/// Where people are told to call: over TLS, if a listener speaks it.
#[derive(Debug, Clone, Copy)]
struct Entry {
    secure: bool,
    port: u16,
}

impl Entry {
    fn of(model: &Model, addresses: &[SocketAddr]) -> Self {
        let mut all = model.gateway.listen.iter().zip(addresses);
        let secure = all.clone().find(|(listener, _)| listener.tls);
        let (secure, port) = match (secure, all.next()) {
            (Some((_, address)), _) => (true, address.port()),
            (None, Some((_, address))) => (false, address.port()),
            (None, None) => (false, 80),
        };
        Self { secure, port }
    }

    fn scheme(self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
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

fn url(route: &Route, entry: Entry) -> String {
    format!("{}://{}:{}{}", entry.scheme(), host(route), entry.port, route.path)
}

/// `*.localhost` reaches this machine without DNS; other names may not lead here yet, so they are led by hand.
fn curl(route: &Route, entry: Entry) -> String {
    let (host, port) = (host(route), entry.port);
    if host == "localhost" || host.ends_with(".localhost") {
        format!("curl {}", url(route, entry))
    } else if entry.secure {
        format!("curl --resolve {host}:{port}:127.0.0.1 {}", url(route, entry))
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
            assert_eq!(curl(&route(host), Entry { secure: false, port: 8080 }), want);
        }
        for (host, want) in [
            ("api.localhost", "curl https://api.localhost:443/v1"),
            ("a.org", "curl --resolve a.org:443:127.0.0.1 https://a.org:443/v1"),
        ] {
            assert_eq!(curl(&route(host), Entry { secure: true, port: 443 }), want);
        }
    }
}
