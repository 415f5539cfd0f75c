//! Traces as files have them: our own access log (a JSON object per line), CSV of timestamps, requests per second (numbers with
//! blanks between), and requests per minute (CSV with a header whose columns `1`, `2`, ... are minutes, a function per row).
//! Which it is shows at the beginning of the text.

use std::time::Duration;

use serde::Deserialize;

use super::Trace;

/// One service's trace, and how long its requests take on average where the file says so.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// What it is called in the file, if anything.
    pub name: Option<String>,
    /// When requests come.
    pub trace: Trace,
    /// How long they take on average.
    pub average: Option<Duration>,
}

/// What is wrong with a trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It is none of the forms.
    #[error("line {line} is no part of a trace: {found:?}; expected {expected}")]
    Line {
        /// From 1.
        line: usize,
        /// Its beginning.
        found: String,
        /// What the form asks for.
        expected: &'static str,
    },
    /// There is nothing in it.
    #[error("there are no requests in it")]
    Empty,
}

/// Reads a trace; of an access log only the requests of `service`, if one is named.
///
/// # Errors
/// The first line that does not belong there.
pub fn read(text: &str, service: Option<&str>) -> Result<Vec<Read>, Wrong> {
    let first = text.lines().find(|line| !line.trim().is_empty()).ok_or(Wrong::Empty)?;
    let read = match first.trim() {
        line if line.starts_with('{') => vec![access_log(text, service)?],
        line if line.split(',').any(|column| column == "1") && line.contains(",2,") => per_minute(text)?,
        line if line.contains(char::is_whitespace) && !line.contains([',', ':', '-']) => {
            vec![per_second(text)?]
        }
        _ => vec![timestamps(text)?],
    };
    if read.iter().all(|one| one.trace.requests() == 0) {
        return Err(Wrong::Empty);
    }
    Ok(read)
}

fn wrong(line: usize, found: &str, expected: &'static str) -> Wrong {
    Wrong::Line { line: line + 1, found: found.chars().take(40).collect(), expected }
}

/// What a line of the access log says that matters here.
#[derive(Deserialize)]
struct Entry {
    time: String,
    service: Option<String>,
    upstream_ms: Option<f64>,
    total_ms: f64,
}

fn access_log(text: &str, service: Option<&str>) -> Result<Read, Wrong> {
    const EXPECTED: &str = "a line of the access log with time and total_ms";
    let mut requests = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let entry: Entry = serde_json::from_str(line).map_err(|_| wrong(number, line, EXPECTED))?;
        let ended = time(&entry.time).ok_or_else(|| wrong(number, line, EXPECTED))?;
        if service.is_none_or(|service| entry.service.as_deref() == Some(service))
            && entry.upstream_ms.is_some()
        {
            // The log is written at the end of a request.
            let came = ended - entry.total_ms / 1000.0;
            requests.push((came, entry.upstream_ms.map(|ms| ms / 1000.0)));
        }
    }
    Ok(noted(requests))
}

fn timestamps(text: &str) -> Result<Read, Wrong> {
    const EXPECTED: &str =
        "a moment (seconds, or as in 2026-01-31T12:00:00Z), and after a comma how many seconds it took";
    let mut requests = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut columns = line.split(',').map(str::trim);
        let came = columns.next().and_then(|column| column.parse().ok().or_else(|| time(column)));
        let Some(came) = came else {
            if number == 0 {
                continue; // A header.
            }
            return Err(wrong(number, line, EXPECTED));
        };
        let took = columns.next().filter(|column| !column.is_empty());
        let took =
            took.map(|column| column.parse().map_err(|_| wrong(number, line, EXPECTED))).transpose()?;
        requests.push((came, took));
    }
    Ok(noted(requests))
}

fn per_second(text: &str) -> Result<Read, Wrong> {
    let mut counts = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in line.split_ascii_whitespace() {
            counts.push(word.parse().map_err(|_| wrong(number, word, "numbers of requests"))?);
        }
    }
    let trace = Trace::Counts { bin: Duration::from_secs(1), counts };
    Ok(Read { name: None, trace, average: None })
}

fn per_minute(text: &str) -> Result<Vec<Read>, Wrong> {
    const EXPECTED: &str = "as many columns as the header has, with a number for each minute";
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let header: Vec<&str> = lines.next().map(|(_, line)| line.split(',').collect()).unwrap_or_default();
    let first = header.iter().position(|column| *column == "1").ok_or(Wrong::Empty)?;
    let minutes = header[first..]
        .iter()
        .enumerate()
        .take_while(|(at, column)| **column == (at + 1).to_string())
        .count();
    let average = header.iter().position(|column| column.eq_ignore_ascii_case("average"));
    let row = |(number, line): (usize, &str)| {
        let columns: Vec<&str> = line.split(',').collect();
        let bad = || wrong(number, line, EXPECTED);
        let counts = columns.get(first..first + minutes).ok_or_else(bad)?;
        let counts = counts.iter().map(|column| column.trim().parse().map_err(|_| bad()));
        let average = average.and_then(|at| columns.get(at)?.parse::<f64>().ok());
        Ok(Read {
            name: columns.first().map(|name| name.chars().take(12).collect()),
            trace: Trace::Counts {
                bin: Duration::from_secs(60),
                counts: counts.collect::<Result<_, Wrong>>()?,
            },
            average: average.map(|ms| Duration::from_secs_f64((ms / 1000.0).clamp(0.001, 86_400.0))),
        })
    };
    lines.map(row).collect()
}

/// Requests at absolute seconds, in any order, with how many seconds each took.
fn noted(mut requests: Vec<(f64, Option<f64>)>) -> Read {
    requests.sort_by(|a, b| a.0.total_cmp(&b.0));
    let start = requests.first().map_or(0.0, |(came, _)| *came);
    let span = |seconds: f64| Duration::from_secs_f64(seconds.clamp(0.0, 31_536_000.0));
    let requests: Vec<_> =
        requests.into_iter().map(|(came, took)| (span(came - start), took.map(span))).collect();
    let length = requests.last().map_or(Duration::ZERO, |(at, _)| *at + Duration::from_secs(1));
    let took: Vec<f64> = requests.iter().filter_map(|(_, took)| Some(took.as_ref()?.as_secs_f64())).collect();
    let count = u32::try_from(took.len()).unwrap_or(u32::MAX);
    let average = (count > 0).then(|| span(took.iter().sum::<f64>() / f64::from(count)));
    Read { name: None, trace: Trace::Requests { requests, length }, average }
}

/// Seconds since 1970.
fn time(text: &str) -> Option<f64> {
    let time = humantime::parse_rfc3339_weak(text).ok()?;
    Some(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Trace {
        read(text, None).expect("a trace").remove(0).trace
    }

    #[test]
    fn the_form_shows_at_the_beginning() {
        let second = Duration::from_secs(1);
        assert_eq!(one("1 0 3\n2\n"), Trace::Counts { bin: second, counts: vec![1, 0, 3, 2] });
        let csv = "time,took\n100.5,0.25\n100,\n";
        let requests = vec![(Duration::ZERO, None), (second / 2, Some(second / 4))];
        assert_eq!(one(csv), Trace::Requests { requests, length: second * 3 / 2 });
        assert_eq!(one("2026-01-31T12:00:00Z\n2026-01-31T12:00:01Z\n").requests(), 2);
        let minutes = read("Name,1,2,3,Average\na,1,0,2,250\nb,0,0,1,\n", None).expect("a trace");
        assert_eq!(minutes[0].average, Some(second / 4));
        assert_eq!(minutes[1].trace, Trace::Counts { bin: second * 60, counts: vec![0, 0, 1] });
    }

    #[test]
    fn the_access_log_is_a_trace() {
        let line = |time: &str, service: &str| {
            format!(
                r#"{{"time":"2026-11-25T22:40:{time}Z","service":"{service}","total_ms":500.0,"upstream_ms":250.0}}"#
            )
        };
        let log = [line("01.5", "api"), line("02", "web"), line("03", "api")].join("\n");
        assert_eq!(one(&log).requests(), 3);
        let api = read(&log, Some("api")).expect("a trace").remove(0);
        let took = Some(Duration::from_millis(250));
        let requests = vec![(Duration::ZERO, took), (Duration::from_millis(1500), took)];
        assert_eq!(api.trace, Trace::Requests { requests, length: Duration::from_millis(2500) });
        assert_eq!(api.average, took);
    }

    #[test]
    fn what_does_not_belong_there_is_said_with_its_line() {
        for (text, line) in
            [("1 2\n3 x\n", 2), ("5\n6\nnow\n", 3), ("{\"time\":1}\n", 1), ("a,1,2,3\nb,1,2\n", 2)]
        {
            match read(text, None) {
                Err(Wrong::Line { line: found, .. }) => assert_eq!(found, line, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert_eq!(read("\n", None), Err(Wrong::Empty));
        assert_eq!(read("0 0 0\n", None), Err(Wrong::Empty));
    }
}
