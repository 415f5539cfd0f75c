//! What a replica printed, as lines. Kubernetes keeps standard output and standard error together.

use std::time::Duration;

use futures_util::{
    StreamExt,
    io::{AsyncBufRead, AsyncBufReadExt},
    stream::BoxStream,
};
use kube::api::LogParams;
use tokio::time::timeout;

use super::body::CONTAINER;
use crate::{Error, Kind, LogLine, LogOptions, Result, call::READ};

/// What the API is asked for.
pub(super) fn options(wanted: LogOptions) -> LogParams {
    LogParams {
        container: Some(CONTAINER.to_owned()),
        follow: wanted.follow,
        tail_lines: wanted.tail.map(|lines| i64::try_from(lines).unwrap_or(i64::MAX)),
        timestamps: true,
        ..LogParams::default()
    }
}

/// The bytes as lines. Only a follower may wait long for the next one.
pub(super) fn lines(
    bytes: impl AsyncBufRead + Send + Unpin + 'static,
    follow: bool,
) -> BoxStream<'static, Result<LogLine>> {
    let patience = if follow { Duration::MAX } else { READ };
    futures_util::stream::try_unfold(bytes, move |mut bytes| async move {
        let mut line = Vec::new();
        match timeout(patience, bytes.read_until(b'\n', &mut line)).await {
            Ok(Ok(0)) => Ok(None),
            Ok(Ok(_)) => Ok(Some((parse(&line), bytes))),
            Ok(Err(error)) => Err(Error::because(Kind::Retryable, "the logs broke off", error)),
            Err(_) => Err(Error::new(Kind::Retryable, "the API stopped sending logs")),
        }
    })
    .boxed()
}

fn parse(line: &[u8]) -> LogLine {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end_matches(['\n', '\r']);
    let (at, text) = line.split_once(' ').unwrap_or((line, ""));
    LogLine { at: at.to_owned(), stderr: false, text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_become_lines() {
        let bytes: &[u8] = b"T1 hello world\nT2 bad \xff\r\nT3 \nT4 cut";
        let read: Vec<_> = lines(bytes, false).map(|line| line.expect("a line")).collect().await;
        let read: Vec<_> = read.iter().map(|line| (line.at.as_str(), line.text.as_str())).collect();
        assert_eq!(read, [("T1", "hello world"), ("T2", "bad \u{fffd}"), ("T3", ""), ("T4", "cut")]);
    }

    #[test]
    fn tail_is_passed_on() {
        for (tail, expected) in [(None, None), (Some(0), Some(0)), (Some(7), Some(7))] {
            assert_eq!(options(LogOptions { tail, follow: true }).tail_lines, expected);
        }
    }
}
