//! The open loop of `tidegate load` on one thread, for `scripts/bench-load`, which compares it with other tools.
//! `send URL SECONDS CONNECTIONS CPU [RATE]` prints one line; without a rate it is told to send more than can be done.

use std::time::Duration;

use anyhow::Context;
use tidegate_loadtest::{
    Options,
    plan::{self, Plan},
    record::Spread,
    run,
};

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = |what: &str| {
        args.next().with_context(|| format!("usage: send URL SECONDS CONNECTIONS CPU [RATE]; no {what}"))
    };
    let (url, seconds) = (next("URL")?, next("SECONDS")?.parse()?);
    let (connections, cpu) = (next("CONNECTIONS")?.parse()?, next("CPU")?.parse()?);
    let rate = args.next().map(|rate| rate.parse()).transpose()?;
    // What is still unsent then, of more than can be sent, is given up at once.
    let timeout = Duration::from_millis(if rate.is_some() { 30_000 } else { 500 });
    let options = Options { connections, cpu: Some(cpu), timeout, ..Options::new(url) };
    let plan = Plan::even(rate.unwrap_or(plan::MOST), Duration::from_secs(seconds))?;
    let report = tokio::runtime::Runtime::new()?.block_on(run(options, plan, |_| ()))?;
    let sent = report.service_time.count();
    #[expect(clippy::cast_precision_loss, reason = "a count of seconds")]
    let rps = sent as f64 / report.elapsed.as_secs_f64();
    println!(
        "rps={rps:.0} sent={sent} failed={} p50_ms={} p90_ms={} p99_ms={}",
        report.counts.errors.total() - report.counts.errors.unsent,
        ms(&report.latency, 50.0),
        ms(&report.latency, 90.0),
        ms(&report.latency, 99.0),
    );
    Ok(())
}

fn ms(spread: &Spread, percent: f64) -> String {
    spread
        .percentile(percent)
        .map_or_else(|| "-".to_owned(), |time| format!("{:.2}", time.as_secs_f64() * 1e3))
}
