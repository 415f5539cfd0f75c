//! Recordings as files have them: the access log of `tidegate up`, times, counts per second or minute. `[P]`
//! The form is known by its looks; [`Options::form`] settles what looks like two. Loads are sent from [`profile`], which
//! takes all callers together; simulations from [`each`], which keeps them apart.

mod access_log;
mod bins;
mod took;

use std::{str::FromStr, sync::Arc, time::Duration};

pub use self::took::LONGEST;
use self::took::Unit;
use super::trace::Profile;

/// Values at most: two months in seconds are 5 million.
const MOST_VALUES: usize = 50_000_000;
/// Numbers above are seconds since 1970, not counts.
const EPOCH: f64 = 1e8;
/// Seconds since 1970, in the year 9892, that are none any more.
const LATEST: f64 = 2.5e11;
/// Times above are in milliseconds since 1970; a thousand times as much, in microseconds, and so on.
const MILLIS: f64 = 1e11;
/// Services that are named at most where another one was asked for.
const NAMED: usize = 20;
/// What would do, where a text is none of those that are known.
const FORMS: &str = "counts of requests, times, or a header whose columns, between commas, are `time` (and `took`), \
    `count`, or 1, 2, 3, ...";

/// Counts of which nobody says when.
const NO_WHEN: &str = "a column beside the counts that says when: `time`, or the number of a `second`, `minute` or `hour`; counts one \
    after the other stand alone";

/// Two numbers in each line may be anything.
const TWO_COLUMNS: &str = "a header that says what the two columns are, with commas between them, as `second,count`, `time,count` or \
    `time,took`; the form `counts` if all are counts, one after the other";

/// What begins a line that says how long a start of a replica took, in seconds.
pub const START: &str = "# start ";

/// When one caller's requests came, and how long they took.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// When they came.
    pub profile: Profile,
    /// How long each of them took, where it says so; as many as there are times in the profile, or none.
    pub took: Arc<[Option<Duration>]>,
    /// How long they took in the mean, where it says so.
    pub mean: Option<Duration>,
    /// When it begins, since 1970, where it says so.
    pub begins: Option<Duration>,
    /// How long starts of replicas took meanwhile, where it says so.
    pub starts: Arc<[Duration]>,
    /// Requests that no replica had: in the whole file, and not among the others.
    pub unserved: usize,
}

impl Recording {
    /// What came before an instant, and what came from then on.
    ///
    /// # Errors
    /// When one of them has no requests.
    pub fn split(&self, at: Duration) -> Result<(Self, Self), Invalid> {
        let of = |from, length| {
            let range = self.profile.range(from, length);
            let took = self.took.get(range).unwrap_or_default().into();
            let begins = self.begins.map(|begins| begins + from);
            let starts = Arc::clone(&self.starts);
            let profile = self.profile.part(from, length)?;
            Ok(Self { profile, took, mean: self.mean, begins, starts, unserved: self.unserved })
        };
        Ok((of(Duration::ZERO, Some(at))?, of(at, None)?))
    }
}

/// How to read it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// What the numbers are, where their looks do not tell.
    pub form: Option<Form>,
    /// How long each count is for, if not as the form says.
    pub bin: Option<Duration>,
    /// One row of a table of counts, from 1, instead of the sum of all.
    pub row: Option<usize>,
    /// One service of an access log, instead of all.
    pub service: Option<String>,
    /// What names no services is of that service.
    pub own: bool,
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
    /// Nothing.
    #[error("there is no request in it")]
    Empty,
    /// Nothing in the part that was asked for.
    #[error(
        "no request came {}; the recording goes from 0s to {}: say from= and for= within that",
        when(*from, *length),
        time(*whole)
    )]
    EmptyPart {
        /// What was to be left out.
        from: Duration,
        /// How much was to be taken; `None`: all that follows.
        length: Option<Duration>,
        /// How long the recording is.
        whole: Duration,
    },
    /// The row is not there.
    #[error("row={row}: there are {rows}")]
    Row {
        /// What was asked for.
        row: usize,
        /// How many there are.
        rows: usize,
    },
    /// A service was asked for.
    #[error("it names no services; service= chooses from an access log in JSON")]
    NoServices,
    /// None of that service.
    #[error("no request of {asked:?} is in it; it has those of {}", named.join(", "))]
    OtherServices {
        /// What was asked for.
        asked: String,
        /// What there is, at most [`NAMED`], by name.
        named: Vec<String>,
    },
    /// More than memory should hold.
    #[error("more than {MOST_VALUES} values; cut it into parts, or take longer bins")]
    TooLong,
}

/// A part, in words.
fn when(from: Duration, length: Option<Duration>) -> String {
    match length {
        Some(length) => format!("between {} and {}", time(from), time(from.saturating_add(length))),
        None => format!("from {} on", time(from)),
    }
}

/// In milliseconds, or more.
fn time(time: Duration) -> String {
    let whole = time - Duration::from_nanos(u64::from(time.subsec_nanos() % 1_000_000));
    humantime::format_duration(whole).to_string()
}

impl Options {
    /// What was just found names none.
    fn names_no_services(&self) -> Result<(), Invalid> {
        if self.service.is_some() && !self.own { Err(Invalid::NoServices) } else { Ok(()) }
    }
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

/// All callers together. The text is one of these, as its first line looks:
///
/// - JSON lines with a `time` (RFC 3339) each, as in the access log of `tidegate up`;
/// - a table whose header has the columns 1, 2, 3, ...: counts per minute, one row per caller;
/// - a table with the columns `second`, `minute` or `hour`, the number of one, and `count`: where rows are missing nothing came;
/// - a table with the columns `time` or `timestamp`, and `count`: what came from each time to the next;
/// - a table with a column `time` or `timestamp`, or lines that begin with RFC 3339 times or with seconds (or milliseconds,
///   microseconds, nanoseconds) since 1970, or with seconds that have fractions and never fall: each request's time, and how long
///   it took in the column behind (or the column `took`, seconds, or `took_ms`), which may be empty;
/// - numbers with spaces, commas or line ends between them: counts per second.
///
/// Lines that begin with `#` are left out, but for `# start SECONDS`: how long a start of a replica took.
pub fn profile(text: &str, options: &Options) -> Result<Profile, Invalid> {
    let text = without_mark(text);
    let Some(table) = Table::of(text)? else {
        return Ok(single(text, options)?.profile);
    };
    options.names_no_services()?;
    let mut sum = vec![0.0_f32; table.columns];
    table.rows(text, options.row, |counts, _| {
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    })?;
    Profile::counts(sum.into(), options.bin.unwrap_or(MINUTE))?.part(options.from, options.length)
}

/// Each caller of a table of counts, in the order of its rows, without those that sent nothing; everything else is one.
pub fn each(text: &str, options: &Options) -> Result<Vec<Recording>, Invalid> {
    let text = without_mark(text);
    let Some(table) = Table::of(text)? else {
        return Ok(vec![single(text, options)?]);
    };
    options.names_no_services()?;
    let (mut all, mut lacks) = (Vec::new(), Invalid::Empty);
    table.rows(text, options.row, |counts, mean| {
        let whole = Profile::counts(counts.into(), options.bin.unwrap_or(MINUTE));
        match whole.and_then(|whole| whole.part(options.from, options.length)) {
            Ok(profile) => {
                let (took, starts) = (Arc::default(), Arc::default());
                all.push(Recording { profile, took, mean, begins: None, starts, unserved: 0 });
            }
            Err(Invalid::Empty) => {}
            Err(later) => lacks = later,
        }
    })?;
    if all.is_empty() { Err(lacks) } else { Ok(all) }
}

const MINUTE: Duration = Duration::from_secs(60);

/// Everything but a table of many callers.
fn single(text: &str, options: &Options) -> Result<Recording, Invalid> {
    let first = first_line(text)?;
    let header: Vec<String> = cells(first).map(str::to_ascii_lowercase).collect();
    let column = |names: &[&str]| header.iter().position(|cell| names.contains(&cell.as_str()));
    if first.starts_with('{') {
        return access_log::read(text, options);
    }
    options.names_no_services()?;
    let instants = column(&["time", "timestamp", "ts"]);
    if let Some(at) = column(&["count", "requests", "invocations"]) {
        let unit = |(name, unit)| Some(bins::When::Numbers { at: column(&[name])?, unit });
        let when = instants.map(bins::When::Instants);
        return match when.or_else(|| bins::UNITS.into_iter().find_map(unit)) {
            Some(when) => bins::read(text, when, at, options),
            None if header.len() > 1 => Err(wrong(1, first, NO_WHEN)),
            None => parse_column(text, at, options, Duration::from_secs(1)),
        };
    }
    if let Some(at) = instants {
        let took = took::column(&header)?;
        return requests(text, 1, options, |number, line| {
            let came = cells(line).nth(at).and_then(instant).ok_or_else(|| no_time(number, line))?;
            let took = took.map(|(took, unit)| took::cell(number, cells(line).nth(took), unit));
            Ok(Some((came, took.transpose()?.flatten())))
        });
    }
    let times = match options.form {
        Some(form) => form == Form::Times,
        None => leading(first).is_some_and(|(at, _)| at > EPOCH) || is_ascending(text),
    };
    if times {
        return requests(text, 0, options, |number, line| {
            let (came, behind) = leading(line).ok_or_else(|| no_time(number, line))?;
            Ok(Some((came, took::behind(number, behind)?)))
        });
    }
    if instant(first.split([',', ' ', '\t', ';']).next().unwrap_or_default()).is_none() {
        return Err(wrong(1, first, FORMS));
    }
    if options.form.is_none()
        && lines(text).nth(1).is_some()
        && lines(text).all(|(_, line)| line.split([',', ';', '\t']).count() == 2)
    {
        return Err(wrong(1, first, TWO_COLUMNS));
    }
    parse_numbers(text, options)
}

/// Whether it is times that never fall, with fractions, which counts of requests have not.
fn is_ascending(text: &str) -> bool {
    let (mut before, mut fraction) = (f64::NEG_INFINITY, false);
    lines(text).all(|(_, line)| {
        let at = cells(line).next().and_then(|cell| cell.parse::<f64>().ok());
        let ascends = at.is_some_and(|at| at >= before) && cells(line).count() <= 2;
        before = at.unwrap_or(before);
        fraction |= at.is_some_and(|at| at.fract() != 0.0);
        ascends
    }) && fraction
}

/// Without the mark with which some programs begin a text in UTF-8.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn first_line(text: &str) -> Result<&str, Invalid> {
    lines(text).next().map(|(_, line)| line).ok_or(Invalid::Empty)
}

/// The lines that are not empty and no remarks, numbered from 1.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// What remarks say of how long starts took.
fn starts(text: &str) -> Arc<[Duration]> {
    let seconds = |text: &str| Duration::try_from_secs_f64(text.trim().parse().ok()?).ok();
    text.lines().filter_map(|line| seconds(line.strip_prefix(START)?)).collect()
}

fn cells(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').map(|cell| cell.trim().trim_matches('"'))
}

fn wrong(line: usize, found: &str, expected: &'static str) -> Invalid {
    Invalid::Line { line, found: found.chars().take(60).collect(), expected }
}

fn no_time(line: usize, found: &str) -> Invalid {
    wrong(line, found, "the time of a request")
}

/// When a request came, in seconds since some begin, and how long it took.
type Request = (f64, Option<Duration>);

/// Seconds, since 1970 for RFC 3339.
fn instant(text: &str) -> Option<f64> {
    if let Ok(number) = text.parse::<f64>() {
        let per = [1e6, 1e3, 1.0].into_iter().find(|per| number > MILLIS * per).map_or(1.0, |per| per * 1e3);
        return Some(number / per).filter(|seconds| seconds.abs() < LATEST);
    }
    let at = humantime::parse_rfc3339_weak(text).ok()?;
    at.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs_f64())
}

fn millis(ms: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(ms / 1e3).ok()
}

/// A line that begins with a time, and what stands behind a comma.
fn leading(line: &str) -> Option<(f64, Option<&str>)> {
    let mut parts = cells(line);
    if let Some(came) = parts.next().and_then(instant) {
        return Some((came, parts.next()));
    }
    // Of an instant with a blank in it the first branch has taken care.
    let word = line.split([' ', '\t', ',']).next()?;
    Some((instant(word.trim_matches('"'))?, None))
}

/// A request per line. Lines of a log may be out of order, for they are written when requests end.
fn requests(
    text: &str,
    header: usize,
    options: &Options,
    mut request: impl FnMut(usize, &str) -> Result<Option<Request>, Invalid>,
) -> Result<Recording, Invalid> {
    let mut all = Vec::new();
    for (number, line) in lines(text).skip(header) {
        all.extend(request(number, line)?);
        if all.len() > MOST_VALUES {
            return Err(Invalid::TooLong);
        }
    }
    all.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let begin = all.first().map_or(0.0, |(came, _)| *came);
    let whole = Profile::times(all.iter().map(|(came, _)| came - begin).collect())?;
    let took: Vec<_> = all[whole.range(options.from, options.length)].iter().map(|(_, took)| *took).collect();
    let profile = whole.part(options.from, options.length)?;
    let known: Vec<Duration> = took.iter().copied().flatten().collect();
    let mean = known.iter().sum::<Duration>().checked_div(u32::try_from(known.len()).unwrap_or(u32::MAX));
    let took = if known.is_empty() { Arc::default() } else { took.into() };
    let begins = since_1970(begin, options.from);
    Ok(Recording { profile, took, mean, begins, starts: starts(text), unserved: 0 })
}

fn count(line: usize, cell: &str) -> Result<f32, Invalid> {
    let count = cell.parse::<f32>().ok().filter(|count| *count >= 0.0 && count.is_finite());
    count.ok_or_else(|| wrong(line, cell, "a count of requests"))
}

/// Without a header a fraction may be anything.
fn whole(line: usize, cell: &str, options: &Options) -> Result<f32, Invalid> {
    let count = count(line, cell)?;
    let is_clear = count.fract() == 0.0 || options.form.is_some();
    is_clear.then_some(count).ok_or_else(|| {
        wrong(
            line,
            cell,
            "a whole number of requests; say that the form is `counts` if these are rates, `times` if times",
        )
    })
}

fn counted(counts: Vec<f32>, options: &Options, bin: Duration) -> Result<Recording, Invalid> {
    let whole = Profile::counts(counts.into(), options.bin.unwrap_or(bin))?;
    let profile = whole.part(options.from, options.length)?;
    let (took, starts) = (Arc::default(), Arc::default());
    Ok(Recording { profile, took, mean: None, begins: None, starts, unserved: 0 })
}

fn parse_numbers(text: &str, options: &Options) -> Result<Recording, Invalid> {
    let mut counts = Vec::new();
    for (number, line) in lines(text) {
        for cell in line.split([',', ' ', '\t', ';']).filter(|cell| !cell.is_empty()) {
            counts.push(whole(number, cell.trim_matches('"'), options)?);
            if counts.len() > MOST_VALUES {
                return Err(Invalid::TooLong);
            }
        }
    }
    counted(counts, options, Duration::from_secs(1))
}

fn parse_column(text: &str, at: usize, options: &Options, bin: Duration) -> Result<Recording, Invalid> {
    let cell = |(number, line): (usize, &str)| count(number, cells(line).nth(at).unwrap_or_default());
    let counts = lines(text).skip(1).map(cell).collect::<Result<_, _>>()?;
    counted(counts, options, bin)
}

/// When it begins, where that is seconds since 1970.
fn since_1970(begin: f64, from: Duration) -> Option<Duration> {
    let begin = Some(begin).filter(|begin| *begin > EPOCH)?;
    Duration::try_from_secs_f64(begin).ok()?.checked_add(from)
}

/// A table of counts, a row for each caller, a column for each bin.
struct Table {
    /// Where the column 1 is.
    first: usize,
    /// How many there are from there.
    columns: usize,
    /// Where the mean time is that a request takes, in ms.
    mean: Option<usize>,
}

impl Table {
    /// By the header; nothing if it is none of such a table.
    fn of(text: &str) -> Result<Option<Self>, Invalid> {
        let header: Vec<&str> = cells(first_line(text)?).collect();
        let Some(first) = header.windows(2).position(|pair| pair == ["1", "2"]) else { return Ok(None) };
        let numbered = |(place, cell): &(usize, &&str)| **cell == (place + 1).to_string();
        let columns = header[first..].iter().enumerate().take_while(numbered).count();
        // A list of numbers may begin like that, too: a table has something else in it.
        if columns == header.len() {
            return Ok(None);
        }
        let behind = header[first + columns..].iter().find(|cell| cell.parse::<usize>().is_ok());
        if let Some(cell) = behind {
            return Err(wrong(1, cell, "the columns 1, 2, 3, ... without a gap, and none of them twice"));
        }
        let mean = header.iter().position(|cell| cell.eq_ignore_ascii_case("average"));
        Ok(Some(Self { first, columns, mean }))
    }

    /// Tells each row's counts, and how long its requests took in the mean; with a number, that row's alone.
    fn rows(
        &self,
        text: &str,
        only: Option<usize>,
        mut tell: impl FnMut(&[f32], Option<Duration>),
    ) -> Result<(), Invalid> {
        let (mut rows, mut counts) = (0, Vec::with_capacity(self.columns));
        for (number, line) in lines(text).skip(1) {
            rows += 1;
            if only.is_some_and(|row| row != rows) {
                continue;
            }
            counts.clear();
            let mut cells_of_it = cells(line).skip(self.first);
            for _ in 0..self.columns {
                counts.push(count(number, cells_of_it.next().unwrap_or_default())?);
            }
            let mean = self.mean.map(|at| took::cell(number, cells(line).nth(at), Unit::Millis));
            // 0 ms was rounded.
            tell(&counts, mean.transpose()?.flatten().map(|mean| mean.max(Duration::from_millis(1))));
        }
        match only {
            Some(row) if row == 0 || row > rows => Err(Invalid::Row { row, rows }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn counts(counts: &[f32], bin: u64) -> Profile {
        Profile::counts(counts.into(), s(bin)).expect("some")
    }

    fn times(times: &[f64]) -> Profile {
        Profile::times(times.into()).expect("some")
    }

    const TABLE: &str = "Owner,Trigger,1,2,3,Average\na,timer,1,0,2,50\nb,http,4,0,0,9\nc,http,0,0,0,\n";

    #[test]
    fn forms_are_known_by_their_looks() {
        for (text, expected) in [
            ("1 0 2 3\n", counts(&[1.0, 0.0, 2.0, 3.0], 1)),
            ("1,0,2\n3", counts(&[1.0, 0.0, 2.0, 3.0], 1)),
            ("1,2,3", counts(&[1.0, 2.0, 3.0], 1)),
            ("5\n6\n", counts(&[5.0, 6.0], 1)),
            (TABLE, counts(&[5.0, 0.0, 2.0], 60)),
            ("minute,count\n0,3\n1,4\n", counts(&[3.0, 4.0], 60)),
            ("second,count\n0,3\n1,4\n", counts(&[3.0, 4.0], 1)),
            ("minute,count\n5,3\n8,4\n", counts(&[3.0, 0.0, 0.0, 4.0], 60)),
            ("time,count\n0,3\n60,4\n180,5\n", counts(&[3.0, 4.0, 0.0, 5.0], 60)),
            ("count,time\n3,2026-11-25T22:40:00Z\n4,2026-11-25T22:40:10Z\n", counts(&[3.0, 4.0], 10)),
            ("time,count\n7,3\n", counts(&[3.0], 1)),
            ("timestamp,path\n10.5,/\n12,/a\n", times(&[0.0, 1.5])),
            ("1795646401.5\n1795646403\n1795646402\n", times(&[0.0, 0.5, 1.5])),
            ("1795646401.5 /a\n1795646403\t/b\n", times(&[0.0, 1.5])),
            ("1795646401500\n1795646403000\n", times(&[0.0, 1.5])),
            ("time\n1795646401500000000\n1795646403000000000\n", times(&[0.0, 1.5])),
            ("0.048\n0.675,0.1\n2\n", times(&[0.0, 0.627, 1.952])),
            ("# made by hand\n5\n6\n", counts(&[5.0, 6.0], 1)),
            ("2026-11-25T22:40:01Z\n2026-11-25 22:40:03.5", times(&[0.0, 2.5])),
            (
                "{\"time\":\"2026-11-25T22:40:02.000000Z\",\"id\":\"7\"}\n{\"time\":\"2026-11-25T22:40:01Z\"}\n",
                times(&[0.0, 1.0]),
            ),
        ] {
            assert_eq!(profile(text, &Options::default()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn options_say_what_looks_do_not() {
        let usual = Options::default;
        for (text, options, expected) in [
            (TABLE, Options { row: Some(2), ..usual() }, counts(&[4.0, 0.0, 0.0], 60)),
            (TABLE, Options { from: s(60), length: Some(s(120)), ..usual() }, counts(&[0.0, 2.0], 60)),
            ("5\n6", Options { bin: Some(s(10)), ..usual() }, counts(&[5.0, 6.0], 10)),
            ("5\n6", Options { form: Some(Form::Times), ..usual() }, times(&[0.0, 1.0])),
            ("5\n6.5", Options { form: Some(Form::Counts), ..usual() }, counts(&[5.0, 6.5], 1)),
            ("5\n6", Options { service: Some("a".to_owned()), own: true, ..usual() }, counts(&[5.0, 6.0], 1)),
            ("1 2 3 4 5", Options { from: s(1), length: Some(s(3)), ..usual() }, counts(&[2.0, 3.0, 4.0], 1)),
        ] {
            assert_eq!(profile(text, &options), Ok(expected), "{text} {options:?}");
        }
    }

    #[test]
    fn a_column_that_is_missing_loses_no_other() {
        for header in ["name,1,2,4", "name,1,2,2", "name,1,2,average,3"] {
            let said =
                each(&format!("{header}\na,5,6,7\n"), &Options::default()).expect_err("a gap").to_string();
            assert!(said.starts_with("line 1: ") && said.contains("without a gap"), "{said}");
        }
    }

    #[test]
    fn callers_of_a_table_are_kept_apart() {
        let each = |options| each(TABLE, &options).expect("some");
        let found: Vec<_> = each(Options::default()).into_iter().map(|one| (one.profile, one.mean)).collect();
        let (a, b) = (counts(&[1.0, 0.0, 2.0], 60), counts(&[4.0, 0.0, 0.0], 60));
        assert_eq!(found, [(a, Some(ms(50))), (b, Some(ms(9)))], "c sent nothing");
        let late = each(Options { from: s(60), ..Options::default() });
        assert_eq!((late.len(), late[0].begins), (1, None), "b had nothing then; nobody says when");
    }

    #[test]
    fn times_may_say_how_long_requests_took() {
        for text in [
            "time,took\n100.5,0.25\n100,\n",
            "time,took_ms\n100.5,250\n100,\n",
            "1795646400.5,0.25\n1795646400\n",
        ] {
            let one = each(text, &Options::default()).expect("some").remove(0);
            assert_eq!((&*one.took, one.mean), (&[None, Some(ms(250))][..], Some(ms(250))), "{text}");
        }
    }

    #[test]
    fn how_long_starts_took_is_known_where_it_was_noted() {
        let noted = "time,took\n100.5,0.25\n# start 1.5\n# missed 2\n101,0.5\n# start 2\n";
        let line = |replica: &str, start: &str| {
            format!(
                r#"{{"time":"2026-11-25T22:40:01Z","total_ms":9.0,"upstream_ms":4.0,"replica":"{replica}"{start}}}"#
            )
        };
        let log = [
            line("a-1", r#","start_ms":1500.0"#),
            line("a-1", r#","start_ms":1500.0"#),
            line("a-1", ""),
            line("a-2", r#","start_ms":2000.0"#),
        ];
        for text in [noted, &log.join("\n")] {
            let one = each(text, &Options::default()).expect("some").remove(0);
            assert_eq!(&*one.starts, [ms(1500), ms(2000)], "each start once: {text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("a;b\n1;2", "line 1: \"a;b\"; expected counts of requests, times, or a header"),
            ("3.5 4 1", "line 1: \"3.5\"; expected a whole number"),
            ("", "no request"),
            ("0 0 0", "no request"),
            ("1 x 3", "line 1: \"x\"; expected a count"),
            ("x 3", "line 1: \"x 3\"; expected counts"),
            ("1\n-2", "line 2: \"-2\"; expected a count"),
            ("{\"a\":1}", "expected the time of a request"),
            ("a,1,2\nx,3,", "line 2: \"\"; expected a count"),
            ("0,5\n1,6\n2,7", "line 1: \"0,5\"; expected a header that says what the two columns are"),
            ("0;5\n1;6\n2;7", "line 1: \"0;5\"; expected a header that says what the two columns are"),
            ("time,count\n0,5\n60,6\n60,7", "line 4: \"60,7\"; expected a time that comes after"),
            ("time,count\n60,5\n0,6", "line 3: \"0,6\"; expected a time that comes after"),
            ("time,count\n0,5\n60,6\n90,7\n135,7", "line 5: \"135,7\"; expected a time that comes after"),
            ("time,count\n0,5\n1,6\n9e9,6", "more than"),
            ("time\n1\n1e300", "line 3: \"1e300\"; expected the time of a request"),
            ("time\n-1e300\n2", "line 2: \"-1e300\"; expected the time of a request"),
            ("time,took\n1e300,0.2\n2,0.3", "line 2: \"1e300,0.2\"; expected the time of a request"),
            (
                "date,count\n2026-01-01,3",
                "line 1: \"date,count\"; expected a column beside the counts that says when",
            ),
            ("minute,count\n00:01,3", "line 2: \"00:01\"; expected which second, minute or hour"),
            ("minute,count\n5,3\n4,3", "line 3: \"4,3\"; expected a time that comes after"),
            ("time,took_ms,duration\n1,20,0.2", "line 1: \"took_ms\"; expected one column"),
            ("time,took,duration\n1,0.2,0.2", "line 1: \"duration\"; expected one column"),
            ("time,count\n0,5\nx,6", "line 3: \"x,6\"; expected the time"),
            ("1795646400\nnow", "line 2: \"now\"; expected the time of a request"),
        ] {
            for error in [profile(text, &Options::default()).err(), each(text, &Options::default()).err()] {
                let error = error.expect(text).to_string();
                assert!(error.contains(part), "{text}: {error}");
            }
        }
        let service = Options { service: Some("a".to_owned()), ..Options::default() };
        for text in ["3 4", "time\n5", TABLE] {
            assert_eq!(profile(text, &service), Err(Invalid::NoServices), "{text}");
            assert_eq!(each(text, &service), Err(Invalid::NoServices), "{text}");
        }
        let part = |text, length| {
            let options = Options { from: s(3600), length, ..Options::default() };
            let all = [profile(text, &options).err(), each(text, &options).err()];
            all.map(|error| error.expect(text).to_string())
        };
        for (text, length, said) in [
            (
                "3 4",
                Some(s(60)),
                "no request came between 1h and 1h 1m; the recording goes from 0s to 2s: say from= and for= within that",
            ),
            (
                "time\n5\n7.25\n",
                None,
                "no request came from 1h on; the recording goes from 0s to 2s 250ms: say from= and for= within that",
            ),
            (
                TABLE,
                None,
                "no request came from 1h on; the recording goes from 0s to 3m: say from= and for= within that",
            ),
        ] {
            assert_eq!(part(text, length), [said, said], "{text}");
        }
        assert_eq!(part("0 0", None)[0], "there is no request in it");
        let row = Options { row: Some(3), ..Options::default() };
        assert_eq!(profile("a,1,2\nx,3,4", &row), Err(Invalid::Row { row: 3, rows: 1 }));
    }
}
