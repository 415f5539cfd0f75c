//! `tidegate logs`: what a service's replicas print, each line with its replica.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use http::Method;

use super::{Gateway, client::Client, output::print};
use crate::admin::logs::ReplicaLine;

#[derive(Debug, Args)]
pub(super) struct Logs {
    /// The service
    service: String,
    /// Go on with new lines until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Start this many lines before the end of each replica's log [default: all that the engine kept]
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
    /// Print a JSON object per line: replica, at, stderr, text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gateway: Gateway,
}

pub(super) async fn run(args: Logs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.gateway);
    let mut answer = client.open(Method::GET, &args.service, &rest(&args)).await?;
    let (mut lines, mut width) = (Lines::default(), 0);
    while let Some(piece) = answer.piece().await? {
        lines.extend(&piece);
        while let Some(line) = lines.next() {
            if args.json {
                print(&format!("{line}\n"))?;
            } else {
                let line: ReplicaLine =
                    serde_json::from_str(&line).context("the gateway sent no log line")?;
                print(&text(&line, &mut width))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Below the service in the admin API.
fn rest(args: &Logs) -> String {
    let tail = args.tail.map_or_else(String::new, |tail| format!("&tail={tail}"));
    format!("/logs?follow={}{tail}", args.follow)
}

/// A line for people; replicas' names are padded to the longest one so far.
fn text(line: &ReplicaLine, width: &mut usize) -> String {
    *width = line.replica.len().max(*width);
    format!("{:width$} | {}\n", line.replica, line.line.text, width = *width)
}

/// Cuts a stream into lines, wherever its pieces end.
#[derive(Debug, Default)]
struct Lines {
    unread: Vec<u8>,
}

impl Lines {
    fn extend(&mut self, piece: &[u8]) {
        self.unread.extend_from_slice(piece);
    }

    /// The next whole line, without its end.
    fn next(&mut self) -> Option<String> {
        let end = self.unread.iter().position(|byte| *byte == b'\n')?;
        let line = self.unread.drain(..=end).take(end).collect::<Vec<_>>();
        Some(String::from_utf8_lossy(&line).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use tidegate_runner::LogLine;

    use super::*;

    #[test]
    fn pieces_end_anywhere() {
        let mut lines = Lines::default();
        let mut got = Vec::new();
        for piece in ["a", "b\nc\n", "", "\nd\u{e9}\ne"] {
            lines.extend(piece.as_bytes());
            got.extend(std::iter::from_fn(|| lines.next()));
        }
        assert_eq!(got, ["ab", "c", "", "d\u{e9}"]);
    }

    #[test]
    fn names_are_aligned() {
        let mut width = 0;
        for (replica, want) in
            [("api-1-9", "api-1-9 | x\n"), ("api-1-10", "api-1-10 | x\n"), ("api-1-9", "api-1-9  | x\n")]
        {
            let line = LogLine { at: String::new(), stderr: false, text: "x".into() };
            assert_eq!(text(&ReplicaLine { replica: replica.into(), line }, &mut width), want);
        }
    }
}
