//! Shapes as one line of text: segments with `|` between them, run one after the other. `[P]`
//!
//! ```text
//! const 50 1m | ramp 50..500 2m | step 50,100,200@30s | spike 50->1000@10s for 5s
//! sine mean=200 amp=150 period=5m 10m | pause 90s | trace FILE scale=0.1 speed=60x
//! users=20 think=exp(1s) 2m
//! ```
//!
//! What is wrong is said with the column where it stands. Files are read by a function of the caller's.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    LONGEST,
    recording::Options,
    shape::{Segment, Shape},
    trace::Profile,
};

/// What a line of text asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Load {
    /// Requests go out when the plan says.
    Open(Shape),
    /// Users wait for their answers: what waits in front of the server is not seen.
    Closed(Closed),
}

/// Users that send one request, wait for its answer, think, and send the next one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Closed {
    /// How many.
    pub users: u32,
    /// Between an answer and the next request.
    pub think: Think,
    /// For how long.
    pub length: Duration,
}

/// How long a user thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Think {
    /// Always as long.
    Fixed(Duration),
    /// Exponential, with that mean.
    Exponential(Duration),
}

/// So many characters are shown before and behind what cannot be read.
const AROUND: usize = 60;

/// What cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The whole text.
    pub text: String,
    /// Where it is, in characters from 1.
    pub column: usize,
    /// How many characters it has.
    pub width: usize,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of a long text what stands around it.
        let before = self.column - 1;
        let cut = before.saturating_sub(AROUND);
        let shown = before - cut + self.width + AROUND;
        let dots = if cut > 0 { "..." } else { "" };
        let more = if self.text.chars().count() > cut + shown { "..." } else { "" };
        let text: String = self.text.chars().skip(cut).take(shown).collect();
        let (gap, mark) = (" ".repeat(dots.len() + before - cut), "^".repeat(self.width.max(1)));
        write!(f, "column {}: {}\n  {dots}{text}{more}\n  {gap}{mark}", self.column, self.problem)
    }
}

impl std::error::Error for Invalid {}

impl Load {
    /// The shape, for those who can send nothing else.
    pub fn open(self, text: &str) -> Result<Shape, Invalid> {
        match self {
            Self::Open(shape) => Ok(shape),
            Self::Closed(_) => Err(Invalid {
                text: text.to_owned(),
                column: 1,
                width: text.chars().count(),
                problem: "users=N waits for answers, which is not possible here; expected const, ramp, step, spike, sine, pause or trace".into(),
            }),
        }
    }
}

/// Reads a line. `trace` reads the file of that name, or says why it cannot.
pub fn parse(
    text: &str,
    mut trace: impl FnMut(&str, &Options) -> Result<Arc<Profile>, String>,
) -> Result<Load, Invalid> {
    let invalid = |problem: Problem| problem.within(text);
    let parts = split(text).map_err(invalid)?;
    let mut shape = Shape::default();
    for part in &parts {
        let mut words = Words { words: part.words.iter(), end: part.end };
        let head = words
            .next("a segment: const, ramp, step, spike, sine, pause, trace or users=N")
            .map_err(invalid)?;
        if head.text.starts_with("users=") {
            if parts.len() > 1 {
                return Err(invalid(
                    head.is("users=N stands alone: it has no rate that another segment could follow"),
                ));
            }
            return closed(&head, words).map(Load::Closed).map_err(invalid);
        }
        segment(&head, words, &mut shape, &mut trace).map_err(invalid)?;
    }
    shape
        .check()
        .map_err(|problem| Problem { at: 0, width: text.len(), what: problem.to_string() }.within(text))?;
    Ok(Load::Open(shape))
}

/// Reads a rate by itself, as in `50`, `0.5` or `30/m`, in requests per second.
pub fn rate(text: &str) -> Result<f64, Invalid> {
    Word { at: 0, text }.rate().map_err(|problem| problem.within(text))
}

/// Where something is wrong, in bytes, and what.
struct Problem {
    at: usize,
    width: usize,
    what: String,
}

impl Problem {
    fn within(self, text: &str) -> Invalid {
        let chars = |from: usize, to: usize| text.get(from..to).map_or(0, |part| part.chars().count());
        Invalid {
            text: text.to_owned(),
            column: chars(0, self.at) + 1,
            width: chars(self.at, (self.at + self.width).min(text.len())),
            problem: self.what,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Word<'a> {
    at: usize,
    text: &'a str,
}

impl<'a> Word<'a> {
    fn is(&self, what: impl Into<String>) -> Problem {
        Problem { at: self.at, width: self.text.len(), what: what.into() }
    }

    /// The parts before and after a sign.
    fn split(self, sign: &str) -> Option<(Self, Self)> {
        let (left, right) = self.text.split_once(sign)?;
        let after = self.at + left.len() + sign.len();
        Some((Self { at: self.at, text: left }, Self { at: after, text: right }))
    }

    fn rate(self) -> Result<f64, Problem> {
        let (number, unit) = match self.text.split_once('/') {
            None | Some((_, "s")) => (self.text.trim_end_matches("/s"), 1.0),
            Some((number, "m")) => (number, 60.0),
            Some((number, "h")) => (number, 3600.0),
            Some(_) => (self.text, 1.0),
        };
        let rate = number.parse::<f64>().ok().map(|rate| rate / unit);
        rate.filter(|rate| (0.0..=super::MOST).contains(rate)).ok_or_else(|| {
            self.is(format!(
                "{:?} is not a rate; expected requests per second from 0 to 1000000, as in 50, 0.5 or 30/m",
                self.text
            ))
        })
    }

    fn duration(self) -> Result<Duration, Problem> {
        let duration = humantime::parse_duration(self.text).ok();
        duration.filter(|length| !length.is_zero() && *length <= LONGEST).ok_or_else(|| {
            self.is(format!("{:?} is not a duration; expected one as in 500ms, 30s, 1m30s or 2h", self.text))
        })
    }

    fn positive(self, what: &str) -> Result<f64, Problem> {
        let number = self.text.parse::<f64>().ok().filter(|number| *number > 0.0 && number.is_finite());
        number.ok_or_else(|| self.is(format!("{:?} is not a {what}; expected a number above 0", self.text)))
    }

    fn whole<N: std::str::FromStr>(self, what: &str) -> Result<N, Problem> {
        self.text
            .parse()
            .map_err(|_| self.is(format!("{:?} is not {what}; expected a whole number", self.text)))
    }
}

impl<'a> Part<'a> {
    fn push(&mut self, word: Word<'a>) {
        self.end = word.at + word.text.len();
        self.words.push(word);
    }
}

struct Words<'w, 'a> {
    words: std::slice::Iter<'w, Word<'a>>,
    /// Where the segment ends.
    end: usize,
}

impl<'a> Words<'_, 'a> {
    fn next(&mut self, expected: &str) -> Result<Word<'a>, Problem> {
        self.words.next().copied().ok_or_else(|| Problem {
            at: self.end,
            width: 1,
            what: format!("expected {expected}"),
        })
    }

    fn done(mut self) -> Result<(), Problem> {
        match self.words.next() {
            Some(word) => Err(word.is(format!("{:?} is too much; expected | or the end", word.text))),
            None => Ok(()),
        }
    }
}

/// The words of a segment, and where they end.
#[derive(Debug, Default)]
struct Part<'a> {
    words: Vec<Word<'a>>,
    end: usize,
}

/// The words of each segment. A word in double quotes may hold spaces and bars.
fn split(text: &str) -> Result<Vec<Part<'_>>, Problem> {
    let mut parts = vec![Part::default()];
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let at = text.len() - rest.len();
        let length = match rest.chars().next() {
            None => return Ok(parts),
            Some('|') => {
                parts.push(Part { words: Vec::new(), end: at + 1 });
                rest = &rest[1..];
                continue;
            }
            Some('"') => {
                let inner = &rest[1..];
                let end = inner.find('"').ok_or(Problem {
                    at,
                    width: rest.len(),
                    what: "the quotation has no end".into(),
                })?;
                parts.last_mut().expect("never empty").push(Word { at: at + 1, text: &inner[..end] });
                rest = &inner[end + 1..];
                continue;
            }
            Some(_) => rest.find(|c: char| c.is_whitespace() || c == '|').unwrap_or(rest.len()),
        };
        parts.last_mut().expect("never empty").push(Word { at, text: &rest[..length] });
        rest = &rest[length..];
    }
}

fn segment(
    head: &Word<'_>,
    mut words: Words<'_, '_>,
    shape: &mut Shape,
    trace: &mut impl FnMut(&str, &Options) -> Result<Arc<Profile>, String>,
) -> Result<(), Problem> {
    match head.text {
        "const" => {
            let (rate, length) =
                (words.next("a rate, as in const 50 1m")?, words.next("a duration, as in const 50 1m")?);
            steady(shape, format!("const {}", rate.text), rate.rate()?, length.duration()?);
        }
        "ramp" => {
            const FORM: &str = "two rates and a duration, as in ramp 50..500 2m";
            let (rates, length) = (words.next(FORM)?, words.next(FORM)?);
            let (from, to) = rates.split("..").ok_or_else(|| rates.is(format!("expected {FORM}")))?;
            let (from, to, length) = (from.rate()?, to.rate()?, length.duration()?);
            shape.push(format!("ramp {}", rates.text), Segment::Ramp { from, to, length });
        }
        "step" => step(words.next("rates and a duration, as in step 50,100,200@30s")?, shape)?,
        "spike" => spike(&mut words, shape)?,
        "sine" => sine(&mut words, shape)?,
        "pause" => steady(shape, "pause".into(), 0.0, words.next("a duration, as in pause 90s")?.duration()?),
        "trace" => replay(&mut words, shape, trace)?,
        found => {
            return Err(head.is(format!(
                "{found:?} is no segment; expected const, ramp, step, spike, sine, pause, trace or users=N"
            )));
        }
    }
    words.done()
}

fn steady(shape: &mut Shape, name: String, rate: f64, length: Duration) {
    shape.push(name, Segment::Ramp { from: rate, to: rate, length });
}

fn step(levels: Word<'_>, shape: &mut Shape) -> Result<(), Problem> {
    let (mut rates, length) = levels
        .split("@")
        .ok_or_else(|| levels.is("expected rates and a duration, as in step 50,100,200@30s"))?;
    let length = length.duration()?;
    loop {
        let (rate, rest) = rates.split(",").map_or((rates, None), |(rate, rest)| (rate, Some(rest)));
        steady(shape, format!("step {}", rate.text), rate.rate()?, length);
        match rest {
            Some(rest) => rates = rest,
            None => return Ok(()),
        }
    }
}

/// `spike 50->1000@10s for 5s [TOTAL]`: without a total the rate is back for as long as it was there before.
fn spike(words: &mut Words<'_, '_>, shape: &mut Shape) -> Result<(), Problem> {
    const FORM: &str = "a spike as in spike 50->1000@10s for 5s, with the whole length behind it if you like";
    let word = words.next(FORM)?;
    let form = || word.is(format!("expected {FORM}"));
    let (base, rest) = word.split("->").ok_or_else(form)?;
    let (peak, before) = rest.split("@").ok_or_else(form)?;
    let keyword = words.next(FORM)?;
    if keyword.text != "for" {
        return Err(keyword.is(format!("expected {FORM}")));
    }
    let length = words.next(FORM)?.duration()?;
    let (low, high, before) = (base.rate()?, peak.rate()?, before.duration()?);
    let after = match words.words.next() {
        None => before,
        Some(total) => total.duration()?.checked_sub(before + length).ok_or_else(|| {
            total.is(format!(
                "{:?} ends before the spike does; expected {:?} or more",
                total.text,
                before + length
            ))
        })?,
    };
    steady(shape, format!("before {}", word.text), low, before);
    steady(shape, format!("spike {}", peak.text), high, length);
    if !after.is_zero() {
        steady(shape, format!("after {}", word.text), low, after);
    }
    Ok(())
}

fn sine(words: &mut Words<'_, '_>, shape: &mut Shape) -> Result<(), Problem> {
    const FORM: &str = "a wave as in sine mean=200 amp=150 period=5m 10m";
    let (mut mean, mut amp, mut period) = (None, None, None);
    let length = loop {
        let word = words.next(FORM)?;
        match word.split("=") {
            Some((Word { text: "mean", .. }, value)) => mean = Some(value),
            Some((Word { text: "amp", .. }, value)) => amp = Some(value),
            Some((Word { text: "period", .. }, value)) => period = Some(value),
            Some((name, _)) => return Err(name.is(format!("{:?} is unknown; expected {FORM}", name.text))),
            None => break word,
        }
    };
    let missing = |name: &str| length.is(format!("{name}= is missing; expected {FORM}"));
    let mean_word = mean.ok_or_else(|| missing("mean"))?;
    let amp_word = amp.ok_or_else(|| missing("amp"))?;
    let segment = Segment::Sine {
        mean: mean_word.rate()?,
        amp: amp_word.rate()?,
        period: period.ok_or_else(|| missing("period"))?.duration()?,
        length: length.duration()?,
    };
    segment.check().map_err(|problem| amp_word.is(problem.to_string()))?;
    shape.push(format!("sine {}±{}", mean_word.text, amp_word.text), segment);
    Ok(())
}

fn replay(
    words: &mut Words<'_, '_>,
    shape: &mut Shape,
    trace: &mut impl FnMut(&str, &Options) -> Result<Arc<Profile>, String>,
) -> Result<(), Problem> {
    const OPTIONS: &str = "scale=, speed=, from=, for=, bin=, row=, service= or form=";
    let file = words.next("a file, as in trace FILE scale=0.1 speed=60x")?;
    let (mut scale, mut speed, mut options) = (1.0, 1.0, Options::default());
    for word in words.words.by_ref() {
        let (name, value) = word.split("=").ok_or_else(|| word.is(format!("expected {OPTIONS}")))?;
        match name.text {
            "scale" => scale = value.positive("scale")?,
            "speed" => speed = Word { text: value.text.trim_end_matches('x'), ..value }.positive("speed")?,
            "from" => options.from = value.duration()?,
            "for" => options.length = Some(value.duration()?),
            "bin" => options.bin = Some(value.duration()?),
            "service" => options.service = Some(value.text.to_owned()),
            "row" => options.row = Some(value.whole("a row")?),
            "form" => options.form = Some(value.text.parse().map_err(|problem: String| value.is(problem))?),
            found => return Err(name.is(format!("{found:?} is unknown; expected {OPTIONS}"))),
        }
    }
    let profile = trace(file.text, &options).map_err(|problem| file.is(problem))?;
    let segment = Segment::Trace { profile, scale, speed };
    segment.check().map_err(|problem| file.is(problem.to_string()))?;
    let name = file.text.rsplit('/').next().unwrap_or(file.text);
    shape.push(format!("trace {name}"), segment);
    Ok(())
}

/// `users=20 think=exp(1s) 2m`.
fn closed(head: &Word<'_>, mut words: Words<'_, '_>) -> Result<Closed, Problem> {
    const FORM: &str = "users as in users=20 think=exp(1s) 2m";
    let (_, users) = head.split("=").ok_or_else(|| head.is(format!("expected {FORM}")))?;
    let count: u32 = users.whole("a number of users")?;
    if !(1..=100_000).contains(&count) {
        return Err(users.is("expected from 1 to 100000 users"));
    }
    let mut think = Think::Fixed(Duration::ZERO);
    let mut word = words.next(FORM)?;
    if let Some((Word { text: "think", .. }, value)) = word.split("=") {
        think = match value.text.strip_prefix("exp(").and_then(|rest| rest.strip_suffix(')')) {
            Some(mean) => Think::Exponential(Word { at: value.at + 4, text: mean }.duration()?),
            None => Think::Fixed(value.duration()?),
        };
        word = words.next(FORM)?;
    }
    let length = word.duration()?;
    words.done()?;
    Ok(Closed { users: count, think, length })
}

#[cfg(test)]
#[path = "language_tests.rs"]
mod tests;
