//! What the gateway's access log says of the corpus, against what its origin saw: a line for each request that was passed
//! on, in order, with the same method, host, path and size of body.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context;
use e2e::corpus::Message;
use serde::Deserialize;

use super::{MARK, PROBE};

/// A line of the log; what else is in it is not looked at.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Line {
    method: String,
    host: String,
    path: String,
    bytes_in: u64,
    /// Of whoever answered, if it was not the gateway.
    replica: Option<String>,
}

/// The lines of each case, which stand behind the mark with its number.
pub(super) fn by_case(log: &Path) -> anyhow::Result<BTreeMap<usize, Vec<Line>>> {
    let text = fs::read(log).context("the access log")?;
    let mut cases = BTreeMap::<usize, Vec<Line>>::new();
    for line in String::from_utf8_lossy(&text).lines() {
        let line: Line = serde_json::from_str(line).with_context(|| format!("a line of the log: {line}"))?;
        if let Some(number) = line.path.strip_prefix(MARK) {
            cases.insert(number.parse()?, Vec::new());
        } else if line.path != PROBE {
            let mut case = cases.last_entry().context("a request before any case")?;
            case.get_mut().push(line);
        }
    }
    Ok(cases)
}

/// Whatever the log says otherwise than the origin. What broke off is left out: either may know of it without the other.
pub(super) fn difference(seen: &[Message], lines: &[Line]) -> Option<String> {
    if seen.iter().any(|message| !message.whole) {
        return None;
    }
    let passed_on: Vec<&Line> = lines.iter().filter(|line| line.replica.is_some()).collect();
    let same =
        seen.len() == passed_on.len() && seen.iter().zip(&passed_on).all(|(seen, line)| is_same(seen, line));
    (!same).then(|| {
        let seen: Vec<_> = seen.iter().map(|seen| (&seen.line, seen.body.len())).collect();
        format!("the log says {passed_on:?}, the origin saw {seen:?}")
    })
}

fn is_same(seen: &Message, line: &Line) -> bool {
    let (method, target) = seen.line.split_once(' ').unwrap_or_default();
    // The log has the path as it came.
    let came = line.path.to_ascii_lowercase();
    let resolved = came.contains("/.") || came.contains("%2e");
    line.method == method
        && (line.path == target || resolved)
        && seen.all("host") == [line.host.as_str()]
        && usize::try_from(line.bytes_in) == Ok(seen.body.len())
}
