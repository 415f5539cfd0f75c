//! `tidegate load`: what comes in a file or on the command line is sent, watched and reported. [`args`] says what was asked
//! for, [`live`] shows it while it runs, [`files`] writes it down.

mod args;
mod files;
mod live;

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;
use tidegate_loadtest::{Outcome, Report, baseline, target};
use tokio::sync::Notify;

pub(super) use self::args::Load;
use self::live::Live;
use super::output::{Misuse, print, print_json};

pub(super) fn run(args: &Load) -> anyhow::Result<ExitCode> {
    let (options, pattern) = (args.options()?, args.pattern()?);
    let before = args.baseline.as_deref().map(files::read).transpose()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot make a runtime")?;
    let live = Live::new(pattern.duration());
    let stop = Arc::clone(&options.stop);
    let sending = async {
        let sending = tidegate_loadtest::run(options, pattern, |snapshot| live.show(&snapshot));
        tokio::select! {
            report = Box::pin(sending) => report,
            () = interrupted_twice(&stop) => anyhow::bail!("interrupted"),
        }
    };
    let result = runtime.block_on(Box::pin(sending));
    live.finish();
    let report = result.map_err(blame)?;
    let mut outcomes: Vec<Outcome> = args.promises.iter().map(|promise| promise.check(&report)).collect();
    outcomes.extend(before.iter().flat_map(|before| baseline::check(&report, before, args.tolerance)));
    tell(args, &report, &outcomes)?;
    Ok(ExitCode::from(report.exit_code(&outcomes)))
}

fn tell(args: &Load, report: &Report, outcomes: &[Outcome]) -> anyhow::Result<()> {
    for file in &args.out {
        files::write(file, report, outcomes)?;
    }
    if args.json { print_json(&report.to_json(outcomes)) } else { print(&report.to_text(outcomes)) }
}

/// The first interruption ends the plan, and what was measured until then is reported; the second ends everything.
async fn interrupted_twice(stop: &Notify) {
    for _ in 0..2 {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        stop.notify_one();
    }
}

/// What was typed wrong is misuse; a name that does not resolve is a failure.
fn blame(error: anyhow::Error) -> anyhow::Error {
    let typed_wrong = match error.downcast_ref::<target::Invalid>() {
        Some(target::Invalid::Url { .. } | target::Invalid::Template { .. } | target::Invalid::Host(_)) => {
            true
        }
        Some(target::Invalid::Resolve { .. } | target::Invalid::NoAddress(_)) => false,
        None => error.is::<tidegate_loadtest::aim::Invalid>(),
    };
    if typed_wrong {
        let words = format!("{error:#}");
        error.context(Misuse(words))
    } else {
        error
    }
}
