//! `tidegate load`: what comes in a file or on the command line is sent, watched and reported. [`args`] says what was asked
//! for, [`show`] shows it while it runs, [`watch`] looks at the service meanwhile, [`files`] writes it all down.
//! [`compare`] and [`knee`] are what else can be asked.

mod args;
mod compare;
pub(super) mod files;
mod history;
mod knee;
mod line;
mod screen;
mod show;
mod watch;

use std::{process::ExitCode, sync::Arc, time::SystemTime};

use anyhow::Context;
use parking_lot::Mutex;
use tidegate_loadtest::{
    NoProcessor, Options, Outcome, Pattern, Report, aim, baseline, overlay::Overlay, target,
};
use tokio::signal::unix::{SignalKind, signal};

pub(super) use self::args::Load;
use self::{
    args::{Ask, Asked},
    show::Show,
    watch::Watch,
};
use super::output::{Misuse, print, print_json};

pub(super) fn run(args: &Load) -> anyhow::Result<ExitCode> {
    match &args.ask {
        Some(Ask::Compare(args)) => compare::compare(args),
        Some(Ask::Merge(args)) => compare::merge(args),
        Some(Ask::FindKnee(args)) => knee::find(args),
        None => send(args),
    }
}

fn send(args: &Load) -> anyhow::Result<ExitCode> {
    let asked = args.asked()?;
    let before = args.baseline.as_deref().map(files::read).transpose().map_err(misused)?;
    if let Some(before) = &before {
        let names = asked.options.aims.iter().map(|aim| aim.name.as_str());
        baseline::fits(before, &asked.pattern, names)
            .map_err(|unfit| Misuse(format!("--baseline: {unfit}")))?;
    }
    args.out.iter().try_for_each(|file| files::writable(file)).map_err(misused)?;
    let started = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot make a runtime")?;
    let report = runtime.block_on(Box::pin(watched(args, &asked))).map_err(blame)?;
    let report = Report { name: asked.name.clone(), started, ..report };
    let mut outcomes: Vec<Outcome> = asked.promises.iter().map(|promise| promise.check(&report)).collect();
    outcomes.extend(before.iter().flat_map(|before| baseline::check(&report, before, args.tolerance)));
    // What was measured is shown, whatever becomes of the files.
    let written = files::write_all(&args.out, &report, &outcomes, asked.slo);
    if args.json {
        print_json(&report.to_json(&outcomes))?
    } else {
        print(&report.to_text(&outcomes))?
    }
    files::exit(written, report.exit_code(&outcomes))
}

/// Sends, shows how it goes, and looks at the service meanwhile if that is wanted.
async fn watched(args: &Load, asked: &Asked) -> anyhow::Result<Report> {
    tidegate_loadtest::reach(&asked.options).await?;
    let watch = match &args.service {
        Some(service) => Some(Watch::open(&args.gateway, service, &asked.options.aims).await?),
        None => None,
    };
    let seen = watch.as_ref().map(Watch::seen);
    let (options, pattern) = (asked.options.clone(), asked.pattern.clone());
    let mut show = Show::new(asked, args.plain, Arc::clone(&options.stop), Arc::clone(&options.abort));
    let sending = sending(options, pattern, &mut show, seen.clone());
    let start = crate::clock::now();
    let looking = async {
        match watch {
            Some(watch) => watch.look(start).await,
            None => std::future::pending().await,
        }
    };
    let result = tokio::select! {
        report = sending => report,
        () = looking => unreachable!("it looks for ever"),
        () = interrupted(&asked.options) => Err(anyhow::anyhow!("interrupted")),
    };
    show.finish();
    let report = result?;
    let overlay = seen.map(|seen| {
        let mut seen = seen.lock().clone();
        seen.end(report.elapsed.as_secs_f64());
        seen
    });
    Ok(Report { overlay, ..report })
}

async fn sending(
    options: Options,
    pattern: Pattern,
    show: &mut Show,
    seen: Option<Arc<Mutex<Overlay>>>,
) -> anyhow::Result<Report> {
    let sending = tidegate_loadtest::run(options, pattern, |snapshot| {
        show.show(&snapshot, seen.as_ref().map(|seen| seen.lock().clone()).as_ref());
    });
    Box::pin(sending).await
}

/// The first interruption (SIGINT, SIGTERM) ends the plan, the second what is under way; what was measured until then is
/// reported. The third ends everything.
async fn interrupted(options: &Options) {
    let signals =
        signal(SignalKind::interrupt()).and_then(|first| Ok((first, signal(SignalKind::terminate())?)));
    let Ok((mut interrupt, mut terminate)) = signals else { return std::future::pending().await };
    for bell in [Some(&options.stop), Some(&options.abort), None] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        bell.into_iter().for_each(|bell| bell.notify_one());
    }
}

/// A mistake of whoever typed it.
fn misused(error: anyhow::Error) -> anyhow::Error {
    let words = format!("{error:#}");
    error.context(Misuse(words))
}

/// What was typed wrong is misuse; a name that does not resolve is a failure.
fn blame(error: anyhow::Error) -> anyhow::Error {
    let typed_wrong = match error.downcast_ref::<target::Invalid>() {
        Some(target::Invalid::Url { .. } | target::Invalid::Template { .. } | target::Invalid::Host(_)) => {
            true
        }
        Some(target::Invalid::Resolve { .. } | target::Invalid::NoAddress(_)) => false,
        None => error.is::<aim::Invalid>() || error.is::<NoProcessor>(),
    };
    if typed_wrong { misused(error) } else { error }
}
