//! `tidegate load find-knee`: the highest rate that a service bears, and what follows for its `concurrency`.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Args;
use tidegate_loadtest::{
    Options, Report,
    knee::{Knee, Level, Search, Step},
    overlay::Overlay,
    plan::{Plan, Process, Shape},
    report::human,
};

use super::{args::percent, watch::Watch};
use crate::cli::{
    Gateway,
    client::block_on,
    output::{Misuse, print},
};

/// How near the highest good and the lowest bad rate come.
const PRECISION: f64 = 0.05;
/// Times that a rate is tried which the generator could not keep up with: something else may have had the processor.
const TRIES: u32 = 3;

/// What to look for.
#[derive(Debug, Args)]
pub(in crate::cli) struct FindKnee {
    /// Where to send, as in `http://api.localhost:8080/`
    url: String,
    /// Response times up to this are good
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = humantime::parse_duration)]
    slo: Duration,
    /// The share of requests that have to be
    #[arg(long, value_name = "PERCENT", default_value = "99%", value_parser = percent)]
    share: f64,
    /// The first rate, in requests per second
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    from: f64,
    /// The highest
    #[arg(long, value_name = "N", default_value_t = 100_000.0)]
    most: f64,
    /// How much higher each rate is than the one before
    #[arg(long, value_name = "FACTOR", default_value_t = 1.5)]
    factor: f64,
    /// How long each rate is measured
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    step: Duration,
    /// How long it is sent before that, for replicas to come
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    settle: Duration,
    /// Requests at once
    #[arg(long, value_name = "N", default_value_t = 1000)]
    connections: usize,
    /// The replicas that serve, where no gateway can be asked
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    replicas: f64,
    /// The service, whose replicas the gateway is asked for
    #[arg(long, value_name = "NAME", conflicts_with = "replicas")]
    service: Option<String>,
    #[command(flatten)]
    gateway: Gateway,
}

impl FindKnee {
    fn check(&self) -> Result<(), &'static str> {
        let some = |length: Duration| !length.is_zero();
        if !(self.from > 0.0 && self.most >= self.from && self.factor > 1.0) {
            Err("expected --from above 0, --most above it and --factor above 1")
        } else if !(some(self.slo) && some(self.step)) {
            Err("expected --slo and --step above 0s")
        } else if !(0.0..=1.0).contains(&self.share) {
            Err("expected --share from 0% to 100%")
        } else if !(self.replicas > 0.0 && self.replicas.is_finite()) {
            Err("expected --replicas above 0")
        } else if self.connections == 0 {
            Err("expected --connections above 0")
        } else {
            Ok(())
        }
    }
}

pub(super) fn find(args: &FindKnee) -> anyhow::Result<ExitCode> {
    args.check().map_err(|words| Misuse(words.into()))?;
    block_on(Box::pin(search(args)))
}

async fn search(args: &FindKnee) -> anyhow::Result<ExitCode> {
    tidegate_loadtest::reach(&Options::new(&args.url)).await.map_err(super::blame)?;
    let mut search = Search::new(args.from, args.factor, args.most, PRECISION);
    print(&format!("  {:>12} {:>10} {:>10} {:>10} {:>9}\n", "requests/s", "within", "p99", "replicas", ""))?;
    let mut behind = 0;
    while let Some(rate) = search.next().filter(|_| behind < TRIES) {
        let (step, kept_up) = measure(args, rate).await?;
        print(&line(&step, kept_up))?;
        // Of a rate that could not be sent nobody knows whether it would be borne.
        if kept_up {
            behind = 0;
            search.tried(step);
        } else {
            behind += 1;
        }
    }
    let invalid = behind == TRIES;
    let knee = search.knee();
    let level = format!("{} % within {}", args.share * 100.0, human(args.slo));
    print(&words(&level, args.replicas, &knee, invalid))?;
    Ok(ExitCode::from(match (invalid, knee.good) {
        (true, _) => 3,
        (false, None) => 1,
        (false, Some(_)) => 0,
    }))
}

/// Sends one rate: first to settle, then to measure. Tells whether the generator kept up, too.
async fn measure(args: &FindKnee, rate: f64) -> anyhow::Result<(Step, bool)> {
    let shape = Shape::steps([(rate, args.settle), (rate, args.step)]);
    let plan = Plan::new(shape, Process::Poisson, 0).map_err(|problem| Misuse(problem.to_string()))?;
    // Patience much beyond the service level would only make bad rates take long.
    let timeout = (args.slo * 10).max(Duration::from_secs(2));
    let options = Options { connections: args.connections, timeout, ..Options::new(&args.url) };
    let sending = Box::pin(tidegate_loadtest::run(options, plan, |_| ()));
    let (report, replicas) = match &args.service {
        None => (sending.await?, None),
        Some(service) => {
            let watch = Watch::open(&args.gateway, service, &[]).await?;
            let seen = watch.seen();
            let report: Report = tokio::select! {
                report = sending => report?,
                () = watch.look(crate::clock::now()) => unreachable!("it looks for ever"),
            };
            let mut seen = seen.lock().clone();
            seen.end(report.elapsed.as_secs_f64());
            let replicas = ready(&seen, args.settle.as_secs_f64()).filter(|_| !seen.is_partial());
            (report, Some(replicas.context("the gateway has told nothing about replicas")?))
        }
    };
    let level = Level { slo: args.slo, share: args.share };
    Ok((Step::of(&report, 1, rate, level, replicas), report.kept_up))
}

/// Replicas that were ready since an instant, in the mean over time.
fn ready(seen: &Overlay, since: f64) -> Option<f64> {
    let pairs = || seen.looks.windows(2).filter(|pair| pair[1].at > since);
    let length = |pair: &[tidegate_loadtest::overlay::Look]| pair[1].at - pair[0].at.max(since);
    let seconds: f64 = pairs().map(length).sum();
    let sum: f64 = pairs().map(|pair| f64::from(pair[0].ready) * length(pair)).sum();
    (seconds > 0.0).then(|| sum / seconds)
}

fn line(step: &Step, kept_up: bool) -> String {
    let p99 = step.p99.map_or_else(|| "-".to_owned(), human);
    let replicas = step.replicas.map_or_else(|| "-".to_owned(), |replicas| format!("{replicas:.1}"));
    let verdict = match (kept_up, step.good) {
        (false, _) => "invalid",
        (true, true) => "good",
        (true, false) => "too much",
    };
    format!("  {:>12.1} {:>9.2}% {p99:>10} {replicas:>10} {verdict:>9}\n", step.rate, step.within * 100.0)
}

/// What was found. Where the level never broke, or nobody knows whether it would, there is no knee to take a concurrency from.
fn words(level: &str, replicas: f64, knee: &Knee, invalid: bool) -> String {
    let advice = "  INVALID: the generator could not keep up. Give it a processor to itself or another machine, or let \
                  several look together; or begin --from a lower rate\n";
    let advice = if invalid { advice } else { "" };
    let (Some(good), Some(capacity)) = (knee.good, knee.capacity(replicas)) else {
        let found = if invalid { "no rate could be measured" } else { "no rate is borne" };
        return format!("\n  {found} with {level}\n{advice}");
    };
    match knee.bad {
        Some(bad) if !invalid => format!(
            "\n  {:.1}/s with {level}; {:.1}/s is too much\n  a replica bears {:.1}/s, {} at once: concurrency = {}\n",
            good.rate, bad.rate, capacity.rate, capacity.concurrency, capacity.concurrency
        ),
        Some(_) | None => {
            let more = if invalid { "" } else { "  more was not tried: raise --most to find the knee\n" };
            format!(
                "\n  at least {:.1}/s with {level}\n  a replica bears at least {:.1}/s; no concurrency follows, for no \
                 knee was found\n{more}{advice}",
                good.rate, capacity.rate
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_loadtest::overlay::Look;

    use super::*;

    #[test]
    fn a_concurrency_follows_only_from_a_knee() {
        let mean = Some(Duration::from_millis(20));
        let step = |rate, good| Step { rate, within: 1.0, p99: mean, mean, replicas: None, good };
        let said = |good: Option<f64>, bad: Option<f64>, invalid| {
            let knee =
                Knee { good: good.map(|rate| step(rate, true)), bad: bad.map(|rate| step(rate, false)) };
            words("99 % within 200ms", 1.0, &knee, invalid)
        };
        assert!(said(Some(300.0), Some(310.0), false).contains("concurrency = 6"));
        for (good, bad, invalid, parts) in [
            (Some(300.0), None, false, ["at least 300.0/s", "raise --most"]),
            (Some(300.0), None, true, ["at least 300.0/s", "INVALID"]),
            (Some(300.0), Some(450.0), true, ["at least 300.0/s", "INVALID"]),
            (None, Some(10.0), false, ["no rate is borne", "99 % within 200ms"]),
            (None, None, true, ["no rate could be measured", "lower rate"]),
        ] {
            let text = said(good, bad, invalid);
            assert!(
                parts.iter().all(|part| text.contains(part)) && !text.contains("concurrency ="),
                "{text}"
            );
        }
    }

    #[test]
    fn replicas_are_those_of_the_measured_part() {
        let mut seen = Overlay::new("api");
        for (at, ready) in [(0.0, 1), (4.0, 2), (6.0, 4), (8.0, 4)] {
            seen.look(Look { at, ready, ..Look::default() });
        }
        assert_eq!(ready(&seen, 4.0), Some(3.0));
        assert_eq!(ready(&Overlay::new("api"), 0.0), None);
    }
}
