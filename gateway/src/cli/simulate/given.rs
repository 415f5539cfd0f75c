//! What a simulation is given besides settings: traffic, and how long services and starts take. Shared by `simulate` and `tune`;
//! what settings begin with is [`subject`](super::subject).

use std::{
    io::IsTerminal,
    num::NonZeroUsize,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use parking_lot::Mutex;
use tidegate_config::model::{ScalingPolicy, Service};
use tidegate_loadtest::plan::{
    Invalid, Plan, Process, Shape,
    recording::{LONGEST, Recording},
};

use crate::{
    cli::output::Misuse,
    clock,
    simulate::replay::{Case, Outcome, Takes, run_all},
};

/// The first moment of a Monday: 2024-01-01, in UTC.
const MONDAY: Timestamp = Timestamp::constant(1_704_067_200, 0);

/// How long things take, what the clock shows, and what counts as late.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Assumed {
    /// How long a replica works on a request, on average [default: as the trace says, else 200ms]
    #[arg(long, value_name = "DURATION", value_parser = a_day_at_most, allow_hyphen_values = true)]
    service_time: Option<Duration>,
    /// How much that varies: standard deviation over mean (lognormal); 0 for not at all [default: as the trace says, else 1]
    #[arg(long, value_name = "CV", value_parser = spread, allow_hyphen_values = true)]
    service_spread: Option<f64>,
    /// How long a start takes, in the middle [default: as those that the trace tells of, else 2s]
    #[arg(long, value_name = "DURATION", value_parser = a_day_at_most, allow_hyphen_values = true)]
    start_time: Option<Duration>,
    /// How much that varies: deviation of its logarithm (lognormal); 0 for not at all
    #[arg(long, value_name = "SIGMA", default_value_t = 0.5, value_parser = spread, allow_hyphen_values = true)]
    start_spread: f64,
    /// When the traffic begins, for `keep_warm` [default: as the trace says, else a Monday at midnight, UTC]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    begins: Option<Timestamp>,
    /// A request that waits longer is late [default: as the file says under `policy = "work"`, or the one goal of what is tried, else 500ms]
    #[arg(long, value_name = "DURATION", value_parser = span, allow_hyphen_values = true)]
    late_after: Option<Duration>,
    /// Threads [default: as many as there are processors]
    #[arg(long, value_name = "N", value_parser = from_one::<NonZeroUsize>)]
    threads: Option<NonZeroUsize>,
}

impl Assumed {
    /// What counts as late where settings begin with these; `tried`: what all agree on that say it.
    pub(in crate::cli) fn late_after(&self, base: &ScalingPolicy, tried: Option<Duration>) -> Duration {
        self.late_after.or(tried).unwrap_or(base.work.late_after)
    }

    /// What the clock shows at the beginning.
    pub(in crate::cli) fn begins(&self, traffic: &Traffic) -> Timestamp {
        self.begins.or(traffic.begins).unwrap_or(MONDAY)
    }

    fn service_time(&self, traffic: &Traffic) -> Takes {
        let mean = self.service_time.or(traffic.mean).unwrap_or(Duration::from_millis(200));
        Takes::with_mean(mean, self.service_spread.unwrap_or(1.0))
    }

    /// How long each request took, unless something else is to be assumed.
    fn took(&self, traffic: &Traffic) -> Arc<[Option<Duration>]> {
        let is_said = self.service_time.is_some() || self.service_spread.is_some();
        if is_said { Arc::default() } else { Arc::clone(&traffic.took) }
    }

    fn start_time(&self, traffic: &Traffic) -> Takes {
        match self.start_time {
            None if !traffic.starts.is_empty() => Takes::Measured(Arc::clone(&traffic.starts)),
            given => Takes::with_median(given.unwrap_or(Duration::from_secs(2)), self.start_spread),
        }
    }

    /// What is assumed of times, in words.
    pub(in crate::cli) fn told(&self, traffic: &[Traffic]) -> String {
        let [first, ..] = traffic else { return String::new() };
        let service = match traffic {
            // Whoever took milliseconds for seconds sees it here.
            [one @ Traffic { mean: Some(mean), .. }] if self.took(one).iter().any(Option::is_some) => {
                format!("a request takes as long as it did, {}", on_average(*mean))
            }
            [_, _, ..] if self.service_time.is_none() => {
                "requests of each service take as the trace says".to_owned()
            }
            _ => format!("a request takes {}", on_average(self.service_time(first).mean())),
        };
        let start = self.start_time(first);
        let which = match &start {
            Takes::Measured(times) => format!(" as one of {} that were recorded,", times.len()),
            Takes::Always(_) | Takes::Lognormal { .. } => String::new(),
        };
        let unserved = match traffic.iter().map(|one| one.unserved).sum() {
            0 => String::new(),
            1 => ", 1 request that no replica had is left out".to_owned(),
            several => format!(", {several} requests that no replica had are left out"),
        };
        format!("{service}, a start{which} {}{unserved}", on_average(start.mean()))
    }
}

/// In milliseconds, or in microseconds where there are few.
fn on_average(mean: Duration) -> String {
    let grain = if mean < Duration::from_millis(10) { 1_000 } else { 1_000_000 };
    let mean = mean - Duration::from_nanos(u64::from(mean.subsec_nanos() % grain));
    format!("{} on average", humantime::format_duration(mean))
}

/// A duration with its unit.
pub(in crate::cli) fn span(text: &str) -> Result<Duration, String> {
    // Anything else that begins so is an option where the time was left out.
    let is_negative = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    if text.strip_prefix('-').is_some_and(is_negative) {
        return Err("a time must not be negative; expected one as in 500ms, 30s or 5m".to_owned());
    }
    humantime::parse_duration(text)
        .map_err(|_| "expected a number with a unit, as in 500ms, 30s or 5m".to_owned())
}

/// How long a request or a start takes: no longer than a request may be recorded to take.
fn a_day_at_most(text: &str) -> Result<Duration, String> {
    let time = span(text)?;
    if time <= LONGEST { Ok(time) } else { Err("expected a day at most".to_owned()) }
}

/// A number of what there is at least one of.
pub(in crate::cli) fn from_one<N: FromStr>(text: &str) -> Result<N, String> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && text.bytes().any(|byte| byte != b'0');
    let expected = if is_number { "a smaller number" } else { "a whole number from 1 on, as in 4" };
    text.parse().map_err(|_| format!("expected {expected}"))
}

fn moment(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "expected a time with its zone, as in 2026-03-02T08:00:00Z".to_owned())
}

fn spread(text: &str) -> Result<f64, String> {
    let allowed = || "expected a number from 0 to 10".to_owned();
    let spread: f64 = text.parse().map_err(|_| allowed())?;
    (0.0..=10.0).contains(&spread).then_some(spread).ok_or_else(allowed)
}

/// What comes to one service.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Traffic {
    pub(in crate::cli) plan: Plan,
    took: Arc<[Option<Duration>]>,
    mean: Option<Duration>,
    begins: Option<Timestamp>,
    starts: Arc<[Duration]>,
    unserved: usize,
}

impl Traffic {
    /// From the first moment to the last.
    pub(in crate::cli) fn length(&self) -> Duration {
        self.plan.duration()
    }

    /// What a shape says.
    pub(in crate::cli) fn shaped(shape: Shape, process: Process) -> Result<Self, Misuse> {
        let plan = plan(shape, process)?;
        if plan.expected() == 0 {
            return Err(Misuse(Invalid::Empty.to_string()));
        }
        let (took, starts) = (Arc::default(), Arc::default());
        Ok(Self { plan, took, mean: None, begins: None, starts, unserved: 0 })
    }

    /// What was recorded.
    pub(in crate::cli) fn recorded(recording: Recording, process: Process) -> Result<Self, Misuse> {
        let Recording { profile, took, mean, begins, starts, unserved } = recording;
        let begins = begins.and_then(|since| Timestamp::from_duration(since.try_into().ok()?).ok());
        let plan = plan(Shape::recorded("trace", profile), process)?;
        Ok(Self { plan, took, mean, begins, starts, unserved })
    }
}

fn plan(shape: Shape, process: Process) -> Result<Plan, Misuse> {
    Plan::new(shape, process, 0).map_err(|problem| Misuse(problem.to_string()))
}

/// What settings are tried on.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Trial<'a> {
    pub(in crate::cli) assumed: &'a Assumed,
    /// A request that waits longer is late.
    pub(in crate::cli) late_after: Duration,
    pub(in crate::cli) traffic: &'a [Traffic],
    /// Runs of each setting.
    pub(in crate::cli) seeds: u32,
}

impl Trial<'_> {
    /// What came of each setting, all its runs together.
    pub(in crate::cli) fn outcomes<'s>(
        &self,
        settings: impl IntoIterator<Item = &'s ScalingPolicy>,
    ) -> Vec<Outcome> {
        let cases = settings.into_iter().enumerate().flat_map(|(number, setting)| {
            self.cases(setting).into_iter().map(move |(_, case)| (number, case))
        });
        self.run(&cases.collect::<Vec<_>>())
    }

    /// What came of each run of one setting.
    pub(in crate::cli) fn runs(&self, setting: &ScalingPolicy) -> Vec<Outcome> {
        self.run(&self.cases(setting))
    }

    /// One case for each seed, whose number it has, and service.
    fn cases(&self, setting: &ScalingPolicy) -> Vec<(usize, Case)> {
        let mut service = Service::of("simulated".parse().expect("a valid name"), "simulated");
        service.scaling = setting.clone();
        let service = Arc::new(service);
        let case = |seed: u32, at: usize, one: &Traffic| Case {
            service: Arc::clone(&service),
            plan: one.plan.clone(),
            begins: self.assumed.begins(one),
            took: self.assumed.took(one),
            service_time: self.assumed.service_time(one),
            start_time: self.assumed.start_time(one),
            late_after: self.late_after,
            seed: u64::from(seed) * 1_000_000 + at as u64,
        };
        let mut cases = Vec::new();
        for seed in 0..self.seeds {
            let of_it = self.traffic.iter().enumerate().map(|(at, one)| (seed as usize, case(seed, at, one)));
            cases.extend(of_it);
        }
        cases
    }

    /// Runs all cases, each into the sum of its number, and shows how far it is.
    fn run(&self, cases: &[(usize, Case)]) -> Vec<Outcome> {
        let bar = ProgressBar::new(cases.len() as u64);
        let style = "{pos}/{len} runs [{bar:30}] {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
        let threads = self.assumed.threads.or_else(|| std::thread::available_parallelism().ok());
        let threads = threads.unwrap_or(NonZeroUsize::MIN);
        let log = Log { of: cases.len(), last: Mutex::new(clock::now()) };
        let shown = std::io::stderr().is_terminal();
        let tell = |done: usize| if shown { bar.set_position(done as u64) } else { log.tell(done) };
        let sums = cases.iter().map(|(sum, _)| sum + 1).max().unwrap_or(0);
        let outcomes = run_all(cases, sums, threads, &tell);
        bar.finish_and_clear();
        outcomes
    }
}

/// How far it is, where no terminal shows it: a line now and then.
struct Log {
    of: usize,
    last: Mutex<Instant>,
}

impl Log {
    const EVERY: Duration = Duration::from_secs(10);

    fn tell(&self, done: usize) {
        let (now, mut last) = (clock::now(), self.last.lock());
        if now.saturating_duration_since(*last) >= Self::EVERY {
            *last = now;
            eprintln!("{done} of {} runs", self.of);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Args {
        #[command(flatten)]
        assumed: Assumed,
    }

    #[test]
    fn what_requests_took_is_told_with_its_mean() {
        use tidegate_loadtest::plan::recording::{Options, each};
        let Args { assumed } = Args::parse_from(["simulate"]);
        let told = |text: &str| {
            let recording = each(text, &Options::default()).expect("good").remove(0);
            assumed.told(&[Traffic::recorded(recording, Process::Scatter).expect("some")])
        };
        for (text, said) in [
            ("time,took\n1,200\n2,400\n3,\n", "a request takes as long as it did, 5m on average, a start"),
            ("time,took_ms\n1,0.2\n", "a request takes as long as it did, 200us on average, a start"),
            (
                "\u{feff}time,took_ms\n1,1.684\n",
                "a request takes as long as it did, 1ms 684us on average, a start",
            ),
            ("time\n1\n", "a request takes 200ms on average, a start"),
        ] {
            assert!(told(text).starts_with(said), "{text}: {}", told(text));
        }
        for said in ["--service-time=1s", "--service-spread=0"] {
            let Args { assumed } = Args::parse_from(["simulate", said]);
            let recording = each("time,took\n1,200\n", &Options::default()).expect("good").remove(0);
            let traffic = Traffic::recorded(recording, Process::Scatter).expect("some");
            assert!(assumed.took(&traffic).is_empty(), "{said} goes before what was recorded");
            assert!(!assumed.told(&[traffic]).contains("as long as it did"), "{said}");
        }
        let line = |ms: &str| format!(r#"{{"time":"2026-11-25T22:40:01Z","status":503,"total_ms":5{ms}}}"#);
        let log = [line(r#","upstream_ms":5"#), line(""), line("")].join("\n");
        assert!(told(&log).ends_with(", 2 requests that no replica had are left out"), "{}", told(&log));
    }

    #[test]
    fn a_shape_that_holds_no_request_is_refused() {
        let shaped = |rate, seconds, process| {
            let shape = Shape::constant(rate, Duration::from_secs(seconds));
            Traffic::shaped(shape, process).map(|traffic| traffic.plan.expected()).map_err(|wrong| wrong.0)
        };
        for (rate, process) in [(0.0, Process::Scatter), (0.001, Process::Scatter), (0.001, Process::Poisson)]
        {
            let said = shaped(rate, 300, process).expect_err("less than one");
            assert!(
                said.ends_with("give a rate above 0 and a duration that holds at least one request"),
                "{said}"
            );
        }
        assert_eq!(shaped(0.001, 1000, Process::Scatter), Ok(1));
        assert_eq!(shaped(0.001, 300, Process::Uniform), Ok(1), "it goes out at once");
    }

    #[test]
    fn a_number_is_from_one_to_what_there_may_be() {
        assert_eq!(from_one("7"), Ok(7_u32));
        for (text, expected) in
            [("0", "from 1 on"), ("-3", "from 1 on"), ("", "from 1 on"), ("99999999999", "smaller")]
        {
            let said = from_one::<std::num::NonZeroU32>(text).expect_err(text);
            assert!(said.contains(expected), "{text}: {said}");
        }
    }

    #[test]
    fn no_time_is_negative() {
        let parsed = |args: &[&str]| Args::try_parse_from([&["simulate"], args].concat());
        for option in ["--service-time", "--start-time", "--late-after"] {
            let said = parsed(&[option, "-1s"]).expect_err("negative").to_string();
            assert!(said.contains(option) && said.contains("a time must not be negative"), "{said}");
            assert!(parsed(&[option, "1s"]).is_ok());
        }
        for none in ["soon", "--start-time"] {
            let said = parsed(&["--service-time", none]).expect_err("no time").to_string();
            assert!(said.contains("expected a number with a unit"), "{said}");
        }
    }
}
