//! `make chaos`: a real gateway process over real engines, one failure after another, one line for each.
//! `MODES=F5,F7` runs some; `SOAK`, `PAUSE`, `N`, `UPGRADES` and `STOPS` set how long or how often.
//! Ends with `chaos: modes=N failed=K`, and with exit code 1 if K is not 0. Nothing is left behind, whatever happens.

mod modes;
mod stage;

use std::{collections::BTreeSet, io::Write, panic::AssertUnwindSafe, path::Path, process::ExitCode};

use anyhow::Context;
use e2e::chaos::run::attempt;
use futures_util::FutureExt;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Duration, timeout},
};

use crate::{modes::MODES, stage::Stage};

/// No mode takes longer than this beyond its own length; one that does hangs.
const LONGEST: Duration = Duration::from_secs(420);

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    // Scripts are named from the root; cargo starts benches in their package.
    std::env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let failed = tokio::select! {
        failed = all() => failed?,
        _ = interrupt.recv() => return Ok(ExitCode::from(130)),
        _ = terminate.recv() => return Ok(ExitCode::from(143)),
    };
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs what is asked for; how many failed.
async fn all() -> anyhow::Result<usize> {
    let wanted = wanted()?;
    let stage = Stage::set().context("cannot set the stage")?;
    let (mut ran, mut failed) = (0, 0);
    for (id, title, mode) in MODES {
        if !wanted.is_empty() && !wanted.contains(*id) {
            continue;
        }
        print!("{id} {title}: ");
        std::io::stdout().flush()?;
        ran += 1;
        // A mode that panics drops its gateway and its hosts, as one that ends does.
        let verdict = timeout(LONGEST + stage.soak(), AssertUnwindSafe(mode(&stage)).catch_unwind()).await;
        match verdict {
            Ok(Ok(Ok(verdict))) => {
                failed += usize::from(!verdict.passed());
                println!("{verdict}");
            }
            Ok(Ok(Err(error))) => {
                failed += 1;
                println!("FAILED: {}", format!("{error:#}").replace('\n', " | "));
            }
            Ok(Err(_)) => {
                failed += 1;
                println!("FAILED: it panicked");
            }
            Err(_) => {
                failed += 1;
                println!("FAILED: it did not end");
            }
        }
        keep_log(id);
    }
    println!("chaos: modes={ran} failed={failed}");
    Ok(failed)
}

/// What `MODES` names; nothing: all.
fn wanted() -> anyhow::Result<BTreeSet<String>> {
    let named = std::env::var("MODES").unwrap_or_default();
    let wanted: BTreeSet<String> =
        named.split([',', ' ']).filter(|word| !word.is_empty()).map(str::to_uppercase).collect();
    for word in &wanted {
        anyhow::ensure!(MODES.iter().any(|(id, ..)| id == word), "MODES names {word}, which is not there");
    }
    Ok(wanted)
}

/// The gateway's log of the mode that ended, for whoever looks into a failure.
fn keep_log(id: &str) {
    attempt("mkdir -p target/chaos");
    attempt(&format!("mv {}/last-gateway.log target/chaos/{id}.log", e2e::chaos::ROOT));
}
