//! What `tidegate up` prints once it is ready: each service's address and a line to paste.

use std::{collections::BTreeSet, fmt::Write, net::SocketAddr};

use tidegate_config::{
    model::{Model, Route, Service},
    name::Authority,
};

use crate::{control::status::ServiceStatus, tls};

/// The text, one block per service.
pub(super) fn text(
    model: &Model,
    addresses: &[SocketAddr],
    metrics: Option<SocketAddr>,
    statuses: &[ServiceStatus],
) -> String {
    let mut text = String::new();
    let entries = Entries::of(model, addresses);
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
            let entry = entries.of_route(service, route);
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

/// Where people are told to call.
#[derive(Debug, Clone, Copy)]
struct Entry {
    secure: bool,
    port: u16,
}

/// The first listeners that speak TLS and that do not, and for what there is no certificate.
struct Entries {
    secure: Option<u16>,
    plain: Option<u16>,
    uncovered: BTreeSet<(String, String)>,
}

impl Entries {
    fn of(model: &Model, addresses: &[SocketAddr]) -> Self {
        let first = |tls: bool| {
            let mut all = model.gateway.listen.iter().zip(addresses);
            all.find(|(listener, _)| listener.tls == tls).map(|(_, address)| address.port())
        };
        let (secure, plain) = (first(true), first(false));
        let uncovered = if secure.is_some() { tls::uncovered(model) } else { BTreeSet::new() };
        Self { secure, plain, uncovered }
    }

    /// Over TLS where that works.
    fn of_route(&self, service: &Service, route: &Route) -> Entry {
        let lacks = |host| self.uncovered.contains(&(service.name.to_string(), host));
        let bare = tls::name(&route.host).is_some_and(lacks);
        match (self.secure, self.plain) {
            (Some(port), None) => Entry { secure: true, port },
            (Some(port), Some(_)) if !bare => Entry { secure: true, port },
            (_, plain) => Entry { secure: false, port: plain.unwrap_or(80) },
        }
    }
}

impl Entry {
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
    fn a_host_without_a_certificate_is_called_where_that_works() {
        let service = Service::of("api".parse().expect("a name"), "api:1");
        let route = |host: &str| Route::to(host.parse().expect("a host"), "/".parse().expect("a path"));
        let uncovered = BTreeSet::from([("api".to_owned(), "e.test".to_owned())]);
        let entries = Entries { secure: Some(443), plain: Some(80), uncovered };
        let port = |entries: &Entries, host| entries.of_route(&service, &route(host)).port;
        assert_eq!((port(&entries, "a.test"), port(&entries, "e.test"), port(&entries, "*")), (443, 80, 443));
        let only = Entries { plain: None, ..entries };
        assert_eq!(port(&only, "e.test"), 443, "there is nothing else");
    }

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
