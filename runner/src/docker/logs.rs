//! What a container printed, as lines.
//! The engine sends frames of `STAMP TEXT`; a line over 16 KiB comes as several, and stays several.

use std::{collections::VecDeque, time::Duration};

use bollard::{container::LogOutput, query_parameters::LogsOptions};
use futures_util::{StreamExt, stream::BoxStream};
use tokio::time::timeout;

use super::call::failed;
use crate::{Error, Kind, LogLine, LogOptions, Result, call::READ};

/// What the engine is asked for.
pub(crate) fn options(wanted: LogOptions) -> LogsOptions {
    LogsOptions {
        follow: wanted.follow,
        stdout: true,
        stderr: true,
        timestamps: true,
        tail: wanted.tail.map_or_else(|| "all".into(), |n| n.to_string()),
        ..LogsOptions::default()
    }
}

/// The frames as lines. Only a follower may wait long for the next one.
pub(crate) fn lines(
    frames: BoxStream<'static, std::result::Result<LogOutput, bollard::errors::Error>>,
    follow: bool,
) -> BoxStream<'static, Result<LogLine>> {
    let patience = if follow { Duration::MAX } else { READ };
    let state = (frames, VecDeque::new());
    futures_util::stream::try_unfold(state, move |(mut frames, mut ready)| async move {
        loop {
            if let Some(line) = ready.pop_front() {
                return Ok(Some((line, (frames, ready))));
            }
            match timeout(patience, frames.next()).await {
                Ok(Some(Ok(frame))) => ready.extend(split(&frame)),
                Ok(Some(Err(error))) => return Err(failed(error).during("read logs")),
                Ok(None) => return Ok(None),
                Err(_) => return Err(Error::new(Kind::Retryable, "the engine stopped sending logs")),
            }
        }
    })
    .boxed()
}

fn split(frame: &LogOutput) -> Vec<LogLine> {
    let stderr = matches!(frame, LogOutput::StdErr { .. });
    let text = String::from_utf8_lossy(frame.as_ref());
    text.lines().map(|line| parse(line, stderr)).collect()
}

fn parse(line: &str, stderr: bool) -> LogLine {
    let (at, text) = line.split_once(' ').unwrap_or((line, ""));
    LogLine { at: at.to_owned(), stderr, text: text.trim_end_matches('\r').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_become_lines() {
        let out = |text: &'static [u8]| Ok(LogOutput::StdOut { message: text.into() });
        let err = |text: &'static [u8]| Ok(LogOutput::StdErr { message: text.into() });
        let frames = [out(b"T1 hello world\n"), err(b"T2 bad \xff\r\n"), out(b"T3 \nT4 x\n")];
        let lines: Vec<_> = lines(futures_util::stream::iter(frames).boxed(), false)
            .map(|l| l.expect("a line"))
            .collect()
            .await;
        let expected = [
            ("T1", false, "hello world"),
            ("T2", true, "bad \u{fffd}"),
            ("T3", false, ""),
            ("T4", false, "x"),
        ]
        .map(|(at, stderr, text)| LogLine { at: at.into(), stderr, text: text.into() });
        assert_eq!(lines, expected);
    }

    #[test]
    fn tail_is_passed_on() {
        for (tail, expected) in [(None, "all"), (Some(0), "0"), (Some(7), "7")] {
            assert_eq!(options(LogOptions { tail, follow: false }).tail, expected);
        }
    }
}
