//! As many requests as one thread can send: the open loop of `tidegate load`, told to send more than can be done.
//! `saturate URL SECONDS CONNECTIONS [CPU]` prints one line; `scripts/bench-load` compares it with that of other tools.

use std::time::Duration;

use anyhow::Context;
use tidegate_loadtest::{
    Options,
    plan::{self, Plan},
    report::human,
    run,
};

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = |what: &str| {
        args.next().with_context(|| format!("usage: saturate URL SECONDS CONNECTIONS [CPU]; no {what}"))
    };
    let (url, seconds) = (next("URL")?, next("SECONDS")?.parse()?);
    let connections = next("CONNECTIONS")?.parse()?;
    let cpu = args.next().map(|cpu| cpu.parse()).transpose()?;
    // What is still unsent then is given up at once.
    let timeout = Duration::from_millis(500);
    let options = Options { connections, cpu, timeout, ..Options::new(url) };
    let plan = Plan::even(plan::MOST, Duration::from_secs(seconds))?;
    let report = tokio::runtime::Runtime::new()?.block_on(run(options, plan, |_| ()))?;
    let sent = report.service_time.count();
    #[expect(clippy::cast_precision_loss, reason = "a count of seconds")]
    let rate = sent as f64 / report.elapsed.as_secs_f64();
    let service = report.service_time.percentile(50.0).map_or_else(String::new, human);
    println!(
        "rps={rate:.0} sent={sent} failed={} service_p50={service}",
        report.counts.errors.total() - report.counts.errors.unsent
    );
    Ok(())
}
