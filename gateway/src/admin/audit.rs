//! Who has changed what: a line of the log for each question that changes something, after it was answered.

use std::net::SocketAddr;

use axum::{extract::Request, http::Method, middleware::Next, response::Response};

/// What such lines are found by: `TIDEGATE_LOG=tidegate::audit=info`.
pub(super) const TARGET: &str = "tidegate::audit";

/// Answers, and writes down who asked for what if it may have changed something.
pub(super) async fn record(who: &str, peer: Option<SocketAddr>, request: Request, next: Next) -> Response {
    if request.method() == Method::GET || request.method() == Method::HEAD {
        return next.run(request).await;
    }
    let what = format!("{} {}", request.method(), request.uri().path());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
    tracing::info!(target: TARGET, who, peer, what, status, "asked");
    response
}
