//! What a service's replicas print, as lines of JSON, each with its replica; followed as long as the caller listens.

use axum::{
    body::{Body, Bytes},
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tidegate_runner::{LogLine, LogOptions};

use super::{
    Admin,
    socket::{Failure, service, unknown},
};

/// What is wanted of the logs.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    /// Go on with new lines.
    #[serde(default)]
    follow: bool,
    /// Lines from the end of each replica's log.
    tail: Option<usize>,
}

/// A line, and who printed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaLine {
    /// The replica.
    pub replica: String,
    /// What it printed.
    #[serde(flatten)]
    pub line: LogLine,
}

pub(super) async fn stream(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    let service = service(&name)?;
    let Some(explained) = admin.control.explain(service.clone()).await? else { return Err(unknown(&name)) };
    if !explained.status.upstreams.is_empty() {
        let why = format!("{name} has addresses of its own: what it prints is not here");
        return Err(Failure(StatusCode::CONFLICT, why));
    }
    let options = LogOptions { tail: wanted.tail, follow: wanted.follow };
    let mut streams = Vec::new();
    for (id, engine) in admin.control.find(service).await? {
        // One that has gone meanwhile has nothing to say.
        let Ok(lines) = engine.runner.logs(&id, options).await else { continue };
        streams.push(lines.filter_map(move |line| {
            let line = line.ok().map(|line| ReplicaLine { replica: id.to_string(), line });
            async move { line.map(json_line) }
        }));
    }
    let lines = stream::select_all(streams.into_iter().map(Box::pin));
    Ok(Body::from_stream(lines).into_response())
}

fn json_line(line: ReplicaLine) -> Result<Bytes, std::convert::Infallible> {
    let mut text = serde_json::to_vec(&line).unwrap_or_default();
    text.push(b'\n');
    Ok(text.into())
}
