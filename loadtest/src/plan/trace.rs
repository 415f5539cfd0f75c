//! What was recorded elsewhere, to be sent again: counts per second or minute, or the time of each request. `[P]`
//! [`Profile::parse`] knows the forms by their looks; [`Options::form`] settles what looks like both.

use std::{str::FromStr, sync::Arc, time::Duration};

use super::piece::Piece;

/// Values at most: two months in seconds are 5 million.
const MOST_VALUES: usize = 50_000_000;
/// Numbers above are seconds since 1970, not counts.
const EPOCH: f64 = 1e8;

/// What was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile(Kind);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// Requests in each bin, spread evenly over it.
    Counts { counts: Arc<[f32]>, bin: f64 },
    /// Seconds since the begin, ascending.
    Times { times: Arc<[f64]>, seconds: f64 },
}

/// How to read it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Options {
    /// What the numbers are, where their looks do not tell.
    pub form: Option<Form>,
    /// How long each count is for, if not as the form says.
    pub bin: Option<Duration>,
    /// One row of a table of counts, from 1, instead of the sum of all.
    pub row: Option<usize>,
    /// What to leave out at the begin.
    pub from: Duration,
    /// How much to take.
    pub length: Option<Duration>,
}

/// What the numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Requests per bin.
    Counts,
    /// When each request came.
    Times,
}

/// What cannot be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// In one line.
    #[error("line {line}: {found:?}; expected {expected}")]
    Line {
        /// From 1.
        line: usize,
        /// What stands there.
        found: String,
        /// What would do.
        expected: &'static str,
    },
    /// Nothing, or nothing in the part that was asked for.
    #[error("there is no request in it, or none in the part that from= and for= ask for")]
    Empty,
    /// The row is not there.
    #[error("row={row}: there are {rows}")]
    Row {
        /// What was asked for.
        row: usize,
        /// How many there are.
        rows: usize,
    },
    /// More than memory should hold.
    #[error("more than {MOST_VALUES} values; cut it into parts, or take longer bins")]
    TooLong,
}

impl FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "counts" => Ok(Self::Counts),
            "times" => Ok(Self::Times),
            _ => Err("expected counts or times".to_owned()),
        }
    }
}

impl Profile {
    /// Reads one of these, as its first line looks:
    ///
    /// - JSON lines with a `time` (RFC 3339) each, as in the access log of `tidegate up`;
    /// - a table whose header has the columns 1, 2, 3, ...: counts per minute, one row per caller;
    /// - a table with the columns `second`, `minute` or `hour`, and `count`;
    /// - a table with a column `time` or `timestamp`, or RFC 3339 times, or seconds since 1970: each request's time;
    /// - numbers with spaces, commas or line ends between them: counts per second.
    pub fn parse(text: &str, options: &Options) -> Result<Self, Invalid> {
        let first = text.lines().map(str::trim).find(|line| !line.is_empty()).ok_or(Invalid::Empty)?;
        let header: Vec<String> = first.split(',').map(|cell| unquoted(cell).to_ascii_lowercase()).collect();
        let column = |names: &[&str]| header.iter().position(|cell| names.contains(&cell.as_str()));
        let profile = if first.starts_with('{') {
            parse_times(text, false, json_time)
        } else if let Some(first_column) =
            column(&["1"]).filter(|at| header.get(at + 1).is_some_and(|two| two == "2"))
        {
            parse_table(text, &header, first_column, options)
        } else if let Some(at) = column(&["count", "requests", "invocations"]) {
            let unit = if column(&["minute"]).is_some() {
                60
            } else if column(&["hour"]).is_some() {
                3600
            } else {
                1
            };
            parse_column(text, at, options.bin.unwrap_or(Duration::from_secs(unit)))
        } else if let Some(at) = column(&["time", "timestamp", "ts"]) {
            parse_times(text, true, |line| instant(unquoted(line.split(',').nth(at)?)))
        } else if is_times(first, options.form) {
            parse_times(text, false, |line| instant(unquoted(line.split(',').next()?)))
        } else {
            parse_numbers(text, options.bin.unwrap_or(Duration::from_secs(1)))
        }?;
        profile.part(options.from, options.length)
    }

    /// Requests in each of equal bins.
    pub fn counts(counts: Arc<[f32]>, bin: Duration) -> Result<Self, Invalid> {
        let sum: f64 = counts.iter().map(|count| f64::from(*count)).sum();
        if sum <= 0.0 || bin.is_zero() {
            return Err(Invalid::Empty);
        }
        Ok(Self(Kind::Counts { counts, bin: bin.as_secs_f64() }))
    }

    /// When each request came, in seconds since some begin.
    pub fn times(times: Arc<[f64]>) -> Result<Self, Invalid> {
        let seconds = *times.last().ok_or(Invalid::Empty)?;
        Ok(Self(Kind::Times { times, seconds }))
    }

    /// How long it was recorded.
    #[must_use]
    pub fn length(&self) -> Duration {
        match &self.0 {
            #[expect(clippy::cast_precision_loss, reason = "a length in memory")]
            Kind::Counts { counts, bin } => Duration::from_secs_f64(counts.len() as f64 * bin),
            Kind::Times { seconds, .. } => Duration::from_secs_f64(*seconds),
        }
    }

    /// How many requests were recorded.
    #[must_use]
    pub fn requests(&self) -> f64 {
        match &self.0 {
            Kind::Counts { counts, .. } => counts.iter().map(|count| f64::from(*count)).sum(),
            #[expect(clippy::cast_precision_loss, reason = "a length in memory")]
            Kind::Times { times, .. } => times.len() as f64,
        }
    }

    /// The highest rate, in requests per second; of times, which have none, 0.
    pub(crate) fn busiest(&self) -> f64 {
        match &self.0 {
            Kind::Counts { counts, bin } => {
                counts.iter().fold(0.0, |most, count| f64::max(most, f64::from(*count))) / bin
            }
            Kind::Times { .. } => 0.0,
        }
    }

    /// Requests per second around an instant.
    pub(crate) fn rate_at(&self, at: Duration) -> f64 {
        let at = at.as_secs_f64();
        match &self.0 {
            Kind::Counts { counts, bin } => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a place in memory"
                )]
                let index = (at / bin) as usize;
                counts.get(index).map_or(0.0, |count| f64::from(*count) / bin)
            }
            Kind::Times { times, .. } => {
                let (begin, end) = (at.floor(), at.floor() + 1.0);
                let until = |limit: f64| times.partition_point(|time| *time < limit);
                #[expect(clippy::cast_precision_loss, reason = "a length in memory")]
                let count = (until(end) - until(begin)) as f64;
                count
            }
        }
    }

    /// The piece with that number, and when it begins, in seconds.
    pub(crate) fn piece(&self, index: usize, scale: f64, speed: f64) -> Option<(f64, Piece)> {
        match &self.0 {
            Kind::Counts { counts, bin } => {
                let (rate, seconds) = (f64::from(*counts.get(index)?) / bin * scale * speed, bin / speed);
                #[expect(clippy::cast_precision_loss, reason = "a place in memory")]
                let begin = index as f64 * seconds;
                Some((begin, Piece::Line { from: rate, to: rate, seconds }))
            }
            Kind::Times { times, .. } => Some((times.get(index)? / speed, Piece::Atom { mass: scale })),
        }
    }

    /// What lies between two instants.
    fn part(self, from: Duration, length: Option<Duration>) -> Result<Self, Invalid> {
        if from.is_zero() && length.is_none() {
            return Ok(self);
        }
        let begin = from.as_secs_f64();
        let end = length.map_or(f64::INFINITY, |length| begin + length.as_secs_f64());
        match self.0 {
            Kind::Counts { counts, bin } => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "clamped to memory below"
                )]
                let place = |seconds: f64| ((seconds / bin).round() as usize).min(counts.len());
                let part = counts.get(place(begin)..place(end)).unwrap_or_default();
                Self::counts(part.into(), Duration::from_secs_f64(bin))
            }
            Kind::Times { times, .. } => {
                let part: Vec<f64> =
                    times.iter().filter(|at| (begin..end).contains(*at)).map(|at| at - begin).collect();
                Self::times(part.into())
            }
        }
    }
}

fn unquoted(cell: &str) -> &str {
    cell.trim().trim_matches('"')
}

fn is_times(first: &str, form: Option<Form>) -> bool {
    let value = unquoted(first.split([',', ' ', '\t']).next().unwrap_or_default());
    match form {
        Some(form) => form == Form::Times,
        None => instant(value).is_some_and(|at| at > EPOCH),
    }
}

/// Seconds, since 1970 for RFC 3339.
fn instant(text: &str) -> Option<f64> {
    if let Ok(number) = text.parse::<f64>() {
        return number.is_finite().then_some(number);
    }
    let at = humantime::parse_rfc3339_weak(text.trim_end_matches('Z')).ok()?;
    at.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs_f64())
}

fn json_time(line: &str) -> Option<f64> {
    #[derive(serde::Deserialize)]
    struct Line<'a> {
        #[serde(borrow)]
        time: std::borrow::Cow<'a, str>,
    }
    instant(&serde_json::from_str::<Line<'_>>(line).ok()?.time)
}

/// The lines that are not empty, numbered from 1.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty())
}

fn wrong(line: usize, found: &str, expected: &'static str) -> Invalid {
    Invalid::Line { line, found: found.chars().take(60).collect(), expected }
}

/// A request per line. Lines of a log may be out of order, for they are written when requests end.
fn parse_times(text: &str, header: bool, time: impl Fn(&str) -> Option<f64>) -> Result<Profile, Invalid> {
    let mut times = Vec::new();
    for (number, line) in lines(text).skip(usize::from(header)) {
        times.push(time(line).ok_or_else(|| wrong(number, line, "the time of a request"))?);
        if times.len() > MOST_VALUES {
            return Err(Invalid::TooLong);
        }
    }
    times.sort_by(f64::total_cmp);
    let begin = times.first().copied().unwrap_or_default();
    times.iter_mut().for_each(|time| *time -= begin);
    Profile::times(times.into())
}

fn count(line: usize, cell: &str) -> Result<f32, Invalid> {
    let count = unquoted(cell).parse::<f32>().ok().filter(|count| *count >= 0.0 && count.is_finite());
    count.ok_or_else(|| wrong(line, cell, "a count of requests"))
}

fn parse_numbers(text: &str, bin: Duration) -> Result<Profile, Invalid> {
    let mut counts = Vec::new();
    for (number, line) in lines(text) {
        for cell in line.split([',', ' ', '\t', ';']).filter(|cell| !cell.is_empty()) {
            counts.push(count(number, cell)?);
        }
        if counts.len() > MOST_VALUES {
            return Err(Invalid::TooLong);
        }
    }
    Profile::counts(counts.into(), bin)
}

fn parse_column(text: &str, at: usize, bin: Duration) -> Result<Profile, Invalid> {
    let cell = |(number, line): (usize, &str)| count(number, line.split(',').nth(at).unwrap_or_default());
    let counts: Vec<f32> = lines(text).skip(1).map(cell).collect::<Result<_, _>>()?;
    Profile::counts(counts.into(), bin)
}

/// The columns 1, 2, 3, ... of one row or of all together.
fn parse_table(text: &str, header: &[String], first: usize, options: &Options) -> Result<Profile, Invalid> {
    let numbered = |(place, cell): &(usize, &String)| **cell == (place + 1).to_string();
    let columns = header[first..].iter().enumerate().take_while(numbered).count();
    let mut counts = vec![0.0_f32; columns];
    let mut rows = 0;
    for (number, line) in lines(text).skip(1) {
        rows += 1;
        if options.row.is_some_and(|row| row != rows) {
            continue;
        }
        let mut cells = line.split(',').skip(first);
        for sum in &mut counts {
            *sum += count(number, cells.next().unwrap_or_default())?;
        }
    }
    match options.row {
        Some(row) if row == 0 || row > rows => Err(Invalid::Row { row, rows }),
        _ => Profile::counts(counts.into(), options.bin.unwrap_or(Duration::from_secs(60))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn parsed(text: &str, options: Options) -> Profile {
        Profile::parse(text, &options).expect(text)
    }

    fn counts(counts: &[f32], bin: u64) -> Profile {
        Profile::counts(counts.into(), s(bin)).expect("some")
    }

    fn times(times: &[f64]) -> Profile {
        Profile::times(times.into()).expect("some")
    }

    #[test]
    fn forms_are_known_by_their_looks() {
        let table = "Owner,Trigger,1,2,3,average\na,timer,1,0,2,50\nb,http,4,0,0,9\n";
        for (text, profile) in [
            ("1 0 2 3\n", counts(&[1.0, 0.0, 2.0, 3.0], 1)),
            ("1,0,2\n3", counts(&[1.0, 0.0, 2.0, 3.0], 1)),
            ("5\n6\n", counts(&[5.0, 6.0], 1)),
            (table, counts(&[5.0, 0.0, 2.0], 60)),
            ("minute,count\n0,3\n1,4\n", counts(&[3.0, 4.0], 60)),
            ("second,count\n0,3\n1,4\n", counts(&[3.0, 4.0], 1)),
            ("timestamp,path\n10.5,/\n12,/a\n", times(&[0.0, 1.5])),
            ("1795646401.5\n1795646403\n1795646402\n", times(&[0.0, 0.5, 1.5])),
            ("2026-11-25T22:40:01Z\n2026-11-25T22:40:03.5Z", times(&[0.0, 2.5])),
            (
                "{\"time\":\"2026-11-25T22:40:02.000000Z\",\"id\":\"7\"}\n{\"time\":\"2026-11-25T22:40:01Z\"}\n",
                times(&[0.0, 1.0]),
            ),
        ] {
            assert_eq!(parsed(text, Options::default()), profile, "{text}");
        }
        assert_eq!(
            parsed(table, Options { row: Some(2), ..Options::default() }),
            counts(&[4.0, 0.0, 0.0], 60)
        );
        assert_eq!(
            parsed("5\n6", Options { bin: Some(s(10)), ..Options::default() }),
            counts(&[5.0, 6.0], 10)
        );
        assert_eq!(
            parsed("5\n6.5", Options { form: Some(Form::Times), ..Options::default() }),
            times(&[0.0, 1.5])
        );
    }

    #[test]
    fn a_part_of_it() {
        let part = |from, length| Options { from: s(from), length: Some(s(length)), ..Options::default() };
        assert_eq!(parsed("1 2 3 4 5", part(1, 3)), counts(&[2.0, 3.0, 4.0], 1));
        let text = "1795646400\n1795646403\n1795646404\n1795646409";
        assert_eq!(parsed(text, part(2, 5)), times(&[1.0, 2.0]));
        assert_eq!(Profile::parse("1 2 3", &part(10, 5)), Err(Invalid::Empty));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("", "no request"),
            ("0 0 0", "no request"),
            ("1 x 3", "line 1: \"x\"; expected a count"),
            ("1\n-2", "line 2: \"-2\"; expected a count"),
            ("{\"a\":1}", "expected the time of a request"),
            ("a,1,2\nx,3,", "line 2: \"\"; expected a count"),
        ] {
            let error = Profile::parse(text, &Options::default()).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let row = Options { row: Some(3), ..Options::default() };
        assert_eq!(Profile::parse("a,1,2\nx,3,4", &row), Err(Invalid::Row { row: 3, rows: 1 }));
    }

    #[test]
    fn sums_and_rates() {
        let profile = counts(&[60.0, 0.0, 120.0], 60);
        assert_eq!((profile.length(), profile.requests(), profile.busiest()), (s(180), 180.0, 2.0));
        assert_eq!([0, 59, 60, 130, 500].map(|at| profile.rate_at(s(at))), [1.0, 1.0, 0.0, 2.0, 0.0]);
        assert_eq!(times(&[0.0, 0.5, 3.0]).rate_at(s(0)), 2.0);
    }
}
