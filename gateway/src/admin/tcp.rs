//! Metrics and probes over TCP. A page in somebody's browser that resolves its own name to loopback is refused by `Host`.

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header::HOST},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};

use super::Admin;

pub(super) fn routes(admin: Admin) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .layer(middleware::from_fn(check_host))
        .with_state(admin)
}

pub(super) async fn live() -> &'static str {
    "alive\n"
}

pub(super) async fn metrics(State(admin): State<Admin>) -> Response {
    // Asking for the status brings the gauges up to date; a loop that has ended leaves them as they were.
    drop(admin.control.status().await);
    ([("content-type", "text/plain; version=0.0.4")], admin.metrics.render()).into_response()
}

pub(super) async fn ready(State(admin): State<Admin>) -> Response {
    if admin.ready.is() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

async fn check_host(request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_local(host) {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "metrics are served to loopback names and addresses only\n").into_response()
    }
}

/// Whether `Host` names this machine by a loopback name, or by any address (which no DNS answer can forge).
pub(super) fn is_local(host: &str) -> bool {
    let name = match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || bare.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_dns_could_forge_are_refused() {
        for (host, local) in [
            ("localhost:9901", true),
            ("127.0.0.1:9901", true),
            ("[::1]:9901", true),
            ("evil.example:9901", false),
            ("localhost.evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_local(host), local, "{host}");
        }
    }
}
