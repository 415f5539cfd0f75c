//! The hosts: what they are like, and what they are told.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;
use tidegate_autoscaler::snapshot::HostOrder;
use tidegate_config::name::HostName;

use super::{Admin, socket::Failure};

pub(super) async fn list(State(admin): State<Admin>) -> Result<Response, Failure> {
    Ok(Json(admin.control.hosts().await?).into_response())
}

/// `POST /v1/hosts/NAME/ORDER`; a drain is answered when the host is empty.
pub(super) async fn order(
    State(admin): State<Admin>,
    Path((name, order)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let order = match order.as_str() {
        "uncordon" => HostOrder::Open,
        "cordon" => HostOrder::Cordoned,
        "drain" => HostOrder::Draining,
        _ => return Err(Failure(StatusCode::NOT_FOUND, "expected cordon, uncordon or drain".into())),
    };
    let unknown = || Failure(StatusCode::NOT_FOUND, format!("no host is called {name}"));
    let host: HostName = name.parse().map_err(|_| unknown())?;
    if !admin.control.hosts().await?.iter().any(|known| known.host == name) {
        return Err(unknown());
    }
    match admin.control.order(host, order).await? {
        Ok(()) => Ok(Json(json!({ "done": true })).into_response()),
        Err(why) => Err(Failure(StatusCode::CONFLICT, why)),
    }
}
