//! A service's requests as they end, as lines of CSV: when each came, in seconds since 1970, and for how many seconds a
//! replica had it; and as remarks how long its replicas took to start. As long as the caller listens, or for as long as it said. What `tidegate simulate` and `tidegate tune` read.

use std::{fmt::Write, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use http::{StatusCode, header::CONTENT_TYPE};
use serde::Deserialize;
use tidegate_loadtest::plan::recording::{LONGEST, START};
use tokio::time::{Instant, timeout_at};

use super::{
    Admin,
    socket::{Failure, service, unknown},
};
use crate::{
    clock,
    fleet::tap::{Heard, Listener},
};

/// The names of the columns.
pub(crate) const HEADER: &str = "time,took\n";

/// What begins a line about requests that could not be told of.
pub(crate) const MISSED: &str = "# missed ";

/// What is wanted.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    /// For so many seconds; without it until the caller leaves.
    #[serde(rename = "for")]
    seconds: Option<f64>,
}

pub(super) async fn stream(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    let length = wanted.seconds.map(Duration::try_from_secs_f64).transpose();
    let length = length.map_err(|error| Failure(StatusCode::BAD_REQUEST, format!("for: {error}")))?;
    let service = service(&name)?;
    let Some(fleet) = admin.control.fleet(service).await? else { return Err(unknown(&name)) };
    let origin = clock::now();
    let end = length.and_then(|length| origin.checked_add(length)).map(Instant::from_std);
    let begun = Begun { listener: fleet.tap.listen(), origin, since_1970: since_1970(), end };
    let header = Bytes::from_static(HEADER.as_bytes());
    let lines = stream::unfold((Some(header), begun), |(header, mut begun)| async move {
        let text = match header {
            Some(header) => header,
            None => begun.next().await?,
        };
        Some((Ok::<_, std::convert::Infallible>(text), (None, begun)))
    });
    Ok(([(CONTENT_TYPE, "text/csv")], Body::from_stream(lines)).into_response())
}

fn since_1970() -> Duration {
    clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

/// A recording on its way.
struct Begun {
    listener: Listener,
    origin: std::time::Instant,
    since_1970: Duration,
    end: Option<Instant>,
}

impl Begun {
    async fn next(&mut self) -> Option<Bytes> {
        let (heard, missed) = match self.end {
            Some(end) => timeout_at(end, self.listener.next()).await.ok().flatten()?,
            None => self.listener.next().await?,
        };
        let mut text = String::with_capacity(heard.len() * 32);
        for heard in heard {
            // A text takes everything.
            let _ = match heard {
                Heard::Request { arrived, took } => {
                    // Who came before the recording began is left out: others who came then were not heard of.
                    let Some(after) = arrived.checked_duration_since(self.origin) else { continue };
                    let at = (self.since_1970 + after).as_secs_f64();
                    writeln!(text, "{}", line(at, took))
                }
                Heard::Start { took } => writeln!(text, "{START}{:.6}", took.as_secs_f64()),
            };
        }
        if missed > 0 {
            let _ = writeln!(text, "{MISSED}{missed}");
        }
        Some(text.into())
    }
}

/// Of a tunnel that was open for days it is not said for how long: nobody would read that.
fn line(at: f64, took: Duration) -> String {
    match took <= LONGEST {
        true => format!("{at:.6},{:.6}", took.as_secs_f64()),
        false => format!("{at:.6},"),
    }
}

#[cfg(test)]
mod tests {
    use tidegate_loadtest::plan::recording::{Options, each};

    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let all = [Duration::from_millis(20), LONGEST, LONGEST + Duration::from_secs(1)];
        let lines = all.map(|took| line(1_795_646_400.0, took) + "\n").concat();
        let read = each(&format!("{HEADER}{lines}"), &Options::default()).expect("it is ours").remove(0);
        assert_eq!(*read.took, [Some(all[0]), Some(LONGEST), None]);
    }
}
