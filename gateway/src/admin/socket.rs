//! What the command line asks over the Unix socket, and the answers. Who may open it may ask anything.

use axum::{
    Json, Router,
    extract::{
        ConnectInfo, Path, Query, Request, State,
        connect_info::{Connected, IntoMakeServiceWithConnectInfo},
    },
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    serve::IncomingStream,
};
use serde::Deserialize;
use serde_json::json;
use tidegate_config::{name::ServiceName, spec::Revision};
use tokio::net::UnixListener;

use super::{Admin, audit, endpoints};
use crate::control::{self, Ended};

/// Who has opened the socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct User(Option<u32>);

impl Connected<IncomingStream<'_, UnixListener>> for User {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(stream.io().peer_cred().ok().map(|peer| peer.uid()))
    }
}

pub(super) fn routes(admin: Admin) -> IntoMakeServiceWithConnectInfo<Router, User> {
    endpoints::routes(|_, route| route)
        .layer(middleware::from_fn(note))
        .with_state(admin)
        .into_make_service_with_connect_info()
}

async fn note(ConnectInfo(User(user)): ConnectInfo<User>, request: Request, next: Next) -> Response {
    let who = user.map_or_else(|| "somebody".to_owned(), |user| format!("user {user}"));
    audit::record(&who, None, request, next).await
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

pub(super) async fn configuration(State(admin): State<Admin>) -> Response {
    Json(admin.running.describe()).into_response()
}

pub(super) async fn services(State(admin): State<Admin>) -> Result<Response, Failure> {
    Ok(Json(admin.control.status().await?).into_response())
}

pub(super) async fn explain(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    match admin.control.explain(service(&name)?).await? {
        Some(explanation) => Ok(Json(explanation).into_response()),
        None => Err(unknown(&name)),
    }
}

pub(super) async fn wake(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Response, Failure> {
    asked(&admin, &name, |control, name| async move { control.wake(name).await }).await
}

pub(super) async fn sleep(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Response, Failure> {
    asked(&admin, &name, |control, name| async move { control.sleep(name).await }).await
}

pub(super) async fn restart(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    asked(&admin, &name, |control, name| async move { control.restart(name).await }).await
}

/// Which revision to go back to.
#[derive(Deserialize)]
pub(super) struct To {
    to: Option<String>,
}

pub(super) async fn roll_back(
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
