//! A command in a replica, over the API's WebSocket.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, AttachedProcess};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{body::CONTAINER, call::failed, inner::Inner};
use crate::{Error, Executed, Kind, Result};

/// Bytes of output that are kept.
const KEPT: usize = 4096;

/// Runs it and waits for its end; how long is the caller's to bound.
pub(super) async fn exec(inner: &Inner, pod: &str, command: &[String]) -> Result<Executed> {
    let options = AttachParams::default().container(CONTAINER);
    let attached = Box::pin(inner.pods.exec(pod, command.to_vec(), &options)).await;
    let mut process = attached.map_err(|error| failed(error).during(format!("run a command in {pod}")))?;
    let status = process.take_status();
    let output = output(&mut process).await;
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    Ok(Executed { code: code(status)?, output })
}

/// The first of what it prints; the rest is read, so that it can end.
async fn output(process: &mut AttachedProcess) -> String {
    let (out, err) = (process.stdout(), process.stderr());
    let (mut kept, errors) = tokio::join!(drain(out), drain(err));
    kept.extend(errors);
    kept.truncate(KEPT);
    String::from_utf8_lossy(&kept).into_owned()
}

async fn drain(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), [0; 1024]);
    let Some(mut stream) = stream else { return kept };
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let room = KEPT.saturating_sub(kept.len()).min(count);
        kept.extend_from_slice(&buffer[..room]);
    }
    kept
}

/// How it ended, from the API's words.
fn code(status: Option<Status>) -> Result<i64> {
    let status =
        status.ok_or_else(|| Error::new(Kind::Retryable, "the API did not say how the command ended"))?;
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status.details.iter().flat_map(|details| details.causes.iter().flatten());
    let told = causes.filter(|cause| cause.reason.as_deref() == Some("ExitCode"));
    let code = told.into_iter().find_map(|cause| cause.message.as_deref()?.parse().ok());
    let words = status.message.unwrap_or_default();
    code.ok_or_else(|| Error::new(Kind::Retryable, format!("the command did not run: {words}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ends_are_read_from_the_apis_words() {
        let failure = json!({ "status": "Failure", "reason": "NonZeroExitCode", "message": "exit code 7",
            "details": { "causes": [{ "reason": "ExitCode", "message": "7" }] } });
        let refused = json!({ "status": "Failure", "message": "no such container" });
        for (status, expected) in [
            (Some(json!({ "status": "Success" })), Ok(0)),
            (Some(failure), Ok(7)),
            (Some(refused), Err("no such container")),
            (None, Err("did not say")),
        ] {
            let status = status.map(|status| serde_json::from_value(status).expect("a status"));
            match (code(status), expected) {
                (Ok(code), Ok(expected)) => assert_eq!(code, expected),
                (Err(error), Err(words)) => assert!(error.message.contains(words), "{error}"),
                (outcome, expected) => panic!("{outcome:?} instead of {expected:?}"),
            }
        }
    }
}
