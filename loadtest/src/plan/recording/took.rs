//! How long a request took, as a recording says it. `[P]` Nothing said is nothing known; what is no such time is refused with
//! its line, for a time that is assumed in its place would not be noticed.

use std::time::Duration;

use super::{Invalid, wrong};

/// A request that took longer is told in another unit, or is none.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What the numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Millis,
}

impl Unit {
    const fn expected(self) -> &'static str {
        match self {
            Self::Seconds => {
                "how long the request took, a number of seconds from 0 to a day, as in 0.2; leave it empty where it is not known"
            }
            Self::Millis => {
                "how long the request took, a number of milliseconds from 0 to a day, as in 200; leave it empty where it is not known"
            }
        }
    }

    fn read(self, text: &str) -> Option<Duration> {
        let per = if self == Self::Seconds { 1.0 } else { 1e3 };
        let took = Duration::try_from_secs_f64(text.parse::<f64>().ok()? / per).ok()?;
        (took <= LONGEST).then_some(took)
    }
}

/// What the columns are called that say it.
const NAMES: [(&str, Unit); 4] = [
    ("took", Unit::Seconds),
    ("duration", Unit::Seconds),
    ("took_ms", Unit::Millis),
    ("duration_ms", Unit::Millis),
];
/// A column whose name has one of these looks as if it did.
const SIMILAR: [&str; 8] = [
    "response_ms",
    "took",
    "duration",
    "latency",
    "elapsed",
    "response_time",
    "service_time",
    "request_time",
];

/// The column that says it, by a header in lower case.
pub(super) fn column(header: &[String]) -> Result<Option<(usize, Unit)>, Invalid> {
    let named = |(name, unit)| Some((header.iter().position(|cell| cell == name)?, unit));
    let mut found = NAMES.into_iter().filter_map(named);
    match (found.next(), found.next()) {
        (Some(_), Some((second, _))) => {
            return Err(wrong(
                1,
                &header[second],
                "one column for how long a replica had a request; take the other out",
            ));
        }
        (Some(found), None) => return Ok(Some(found)),
        (None, _) => {}
    }
    match header.iter().find(|cell| SIMILAR.iter().any(|word| cell.contains(word))) {
        Some(cell) => Err(wrong(
            1,
            cell,
            "`took` or `duration` (seconds), `took_ms` or `duration_ms` for how long a replica had a request; call the column so \
             if it says that, or take it out",
        )),
        None => Ok(None),
    }
}

/// A cell of a column that says it.
pub(super) fn cell(line: usize, cell: Option<&str>, unit: Unit) -> Result<Option<Duration>, Invalid> {
    let Some(cell) = cell.filter(|cell| !cell.is_empty()) else { return Ok(None) };
    unit.read(cell).map(Some).ok_or_else(|| wrong(line, cell, unit.expected()))
}

/// What stands behind a time without a header: seconds, or something else, which says nothing.
pub(super) fn behind(line: usize, cell: Option<&str>) -> Result<Option<Duration>, Invalid> {
    let looks = |cell: &&str| cell.parse::<f64>().is_ok() || humantime::parse_duration(cell).is_ok();
    self::cell(line, cell.filter(looks), Unit::Seconds)
}

/// Milliseconds that a gateway has measured, of whatever length: a tunnel may be open for weeks.
pub(super) fn measured(line: usize, ms: f64) -> Result<Duration, Invalid> {
    super::millis(ms).ok_or_else(|| {
        wrong(
            line,
            &ms.to_string(),
            "`upstream_ms`, how long the request took in milliseconds, at least 0; leave the key out where it is not known",
        )
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::plan::recording::{Options, each};

    /// What is known of the requests, or what is wrong.
    fn read(text: &str) -> Result<Vec<Option<Duration>>, String> {
        let one = each(text, &Options::default()).map_err(|wrong| wrong.to_string())?.remove(0);
        Ok(one.took.to_vec())
    }

    #[test]
    fn what_is_no_duration_is_refused_with_its_line() {
        for bad in ["abc", "-0.2", "200ms", "86401", "nan", "inf"] {
            let seconds = format!(
                "line 3: {bad:?}; expected how long the request took, a number of seconds from 0 to a day, as in 0.2; \
                 leave it empty where it is not known"
            );
            assert_eq!(read(&format!("time,took\n1,\n2,{bad}\n")), Err(seconds), "{bad}");
        }
        for (text, said) in [
            (
                "time,took_ms\n1,-5",
                "line 2: \"-5\"; expected how long the request took, a number of milliseconds",
            ),
            (
                "a,1,2,Average\nx,3,4,soon",
                "line 2: \"soon\"; expected how long the request took, a number of millis",
            ),
            (
                "1795646401\n1795646402,-0.2",
                "line 2: \"-0.2\"; expected how long the request took, a number of seconds",
            ),
            (
                "1795646401,200ms",
                "line 1: \"200ms\"; expected how long the request took, a number of seconds",
            ),
            (
                r#"{"time":"2026-11-25T22:40:01Z","upstream_ms":-1.0}"#,
                "line 1: \"-1\"; expected `upstream_ms`, how long the request took in milliseconds",
            ),
        ] {
            let wrong = read(text).expect_err(text);
            assert!(wrong.starts_with(said), "{text}: {wrong}");
        }
    }

    #[test]
    fn a_column_that_looks_as_if_it_said_it_is_asked_for() {
        let wrong = read("time,latency_ms\n1,20\n").expect_err("not known by that name");
        assert!(
            wrong.starts_with("line 1: \"latency_ms\"; expected `took` or `duration` (seconds)"),
            "{wrong}"
        );
        assert_eq!(read("time,took_ms,latency_ms\n1,20,30\n"), Ok(vec![Some(Duration::from_millis(20))]));
    }

    #[test]
    fn what_is_not_said_is_not_known() {
        let known = Some(Duration::from_millis(200));
        for text in ["time,took\n1,0.2\n2,\n3\n", "time,took_ms\n1,200\n2,\n3\n"] {
            assert_eq!(read(text), Ok(vec![known, None, None]), "{text}");
        }
        assert_eq!(read("1795646401,0.2\n1795646402,/path\n"), Ok(vec![known, None]), "another column");
        let tunnel = r#"{"time":"2026-11-25T22:40:01Z","upstream_ms":90000000.0}"#;
        assert_eq!(read(tunnel), Ok(vec![Some(Duration::from_secs(90_000))]), "open for a day and more");
    }
}
