//! The Unix socket's routes: what the command line asks.

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::json;
use tidegate_config::{name::ServiceName, spec::Revision};

use super::{Admin, hosts, logs, tcp};
use crate::control::{self, Ended};

pub(super) fn routes(admin: Admin) -> Router {
    Router::new()
        .route("/v1/configuration", get(configuration))
        .route("/v1/services", get(services))
        .route("/v1/services/{name}", get(explain))
        .route("/v1/services/{name}/logs", get(logs::stream))
        .route("/v1/services/{name}/wake", post(wake))
        .route("/v1/services/{name}/sleep", post(sleep))
        .route("/v1/services/{name}/restart", post(restart))
        .route("/v1/services/{name}/rollback", post(roll_back))
        .route("/v1/hosts", get(hosts::list))
        .route("/v1/hosts/{name}/{order}", post(hosts::order))
        .merge(tcp::probes())
        .with_state(admin)
}

/// An answer that says what went wrong.
pub(super) struct Failure(pub(super) StatusCode, pub(super) String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<Ended> for Failure {
    fn from(ended: Ended) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, ended.to_string())
    }
}

/// The name, if it can be one; one that cannot is as unknown as any other.
pub(super) fn service(name: &str) -> Result<ServiceName, Failure> {
    name.parse().map_err(|_| unknown(name))
}

pub(super) fn unknown(name: &str) -> Failure {
    Failure(StatusCode::NOT_FOUND, format!("no service is called {name}"))
}

async fn configuration(State(admin): State<Admin>) -> Response {
    Json(admin.running.describe()).into_response()
}

async fn services(State(admin): State<Admin>) -> Result<Response, Failure> {
    Ok(Json(admin.control.status().await?).into_response())
}

async fn explain(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Response, Failure> {
    match admin.control.explain(service(&name)?).await? {
        Some(explanation) => Ok(Json(explanation).into_response()),
        None => Err(unknown(&name)),
    }
}

async fn wake(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Response, Failure> {
    asked(&admin, &name, |control, name| async move { control.wake(name).await }).await
}

async fn sleep(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Response, Failure> {
    asked(&admin, &name, |control, name| async move { control.sleep(name).await }).await
}

async fn restart(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Response, Failure> {
    asked(&admin, &name, |control, name| async move { control.restart(name).await }).await
}

/// Which revision to go back to.
#[derive(Deserialize)]
struct To {
    to: Option<String>,
}

async fn roll_back(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    Query(To { to }): Query<To>,
) -> Result<Response, Failure> {
    let to = to.map(Revision);
    asked(&admin, &name, |control, name| async move { control.roll_back(name, to).await }).await
}

async fn asked<F>(
    admin: &Admin,
    name: &str,
    ask: impl FnOnce(control::Handle, ServiceName) -> F,
) -> Result<Response, Failure>
where
    F: Future<Output = Result<Result<(), String>, Ended>>,
{
    let name = service(name)?;
    if admin.control.explain(name.clone()).await?.is_none() {
        return Err(unknown(name.as_str()));
    }
    match ask(admin.control.clone(), name).await? {
        Ok(()) => Ok(Json(json!({ "done": true })).into_response()),
        Err(why) => Err(Failure(StatusCode::CONFLICT, why)),
    }
}
