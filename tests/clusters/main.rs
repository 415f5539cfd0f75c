//! `make test-clusters`: a real gateway process over a real cluster, one case after another, one line for each.
//! `CASES=S5,S7` runs some; `WAKES=50` measures so many wakes instead ([`wake`]). Ends with `clusters: engines=N cases=N failed=K`, and with exit code 1 if K is not 0.
//! Nothing is left behind, whatever happens.

mod estate;
mod swarm;
mod wake;

use std::{collections::BTreeSet, io::Write, panic::AssertUnwindSafe, path::Path, process::ExitCode};

use e2e::chaos::{run::attempt, verdict::Verdict};
use futures_util::FutureExt;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Duration, timeout},
};

use crate::{estate::Estate, swarm::CASES};

/// No case takes longer; one that does hangs.
const LONGEST: Duration = Duration::from_secs(300);

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    // Scripts are named from the root; cargo starts benches in their package.
    std::env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let run = async {
        match std::env::var("WAKES").unwrap_or_default().as_str() {
            "" => all().await,
            cycles => wake::run(cycles.parse()?).await.map(|()| 0),
        }
    };
    let failed = tokio::select! {
        failed = run => failed?,
        _ = interrupt.recv() => return Ok(ExitCode::from(130)),
        _ = terminate.recv() => return Ok(ExitCode::from(143)),
    };
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs what is asked for; how many failed.
async fn all() -> anyhow::Result<usize> {
    let wanted = wanted()?;
    let mut estate = Estate::up().await?;
    let (mut ran, mut failed) = (0, 0);
    for (id, title, case) in CASES.iter().filter(|(id, ..)| wanted.is_empty() || wanted.contains(*id)) {
        print!("{id} {title}: ");
        std::io::stdout().flush()?;
        ran += 1;
        // A case that panics drops its gateway, as one that ends does.
        let outcome = timeout(LONGEST, AssertUnwindSafe(case(&mut estate)).catch_unwind()).await;
        let mut verdict = match outcome {
            Ok(Ok(Ok(verdict))) => verdict,
            Ok(Ok(Err(error))) => failure(&format!("{error:#}").replace('\n', " | ")),
            Ok(Err(_)) => failure("it panicked"),
            Err(_) => failure("it did not end"),
        };
        if let Err(error) = estate.clear().await {
            verdict.problem(format!("{error:#}"));
        }
        failed += usize::from(!verdict.passed());
        println!("{verdict}");
        keep_log(id);
    }
    println!("clusters: engines=1 cases={ran} failed={failed}");
    Ok(failed)
}

fn failure(words: &str) -> Verdict {
    let mut verdict = Verdict::default();
    verdict.problem(words);
    verdict
}

/// What `CASES` names; nothing: all.
fn wanted() -> anyhow::Result<BTreeSet<String>> {
    let named = std::env::var("CASES").unwrap_or_default();
    let wanted: BTreeSet<String> =
        named.split([',', ' ']).filter(|word| !word.is_empty()).map(str::to_uppercase).collect();
    for word in &wanted {
        anyhow::ensure!(CASES.iter().any(|(id, ..)| id == word), "CASES names {word}, which is not there");
    }
    Ok(wanted)
}

/// The gateway's log of the case that ended, for whoever looks into a failure.
fn keep_log(id: &str) {
    attempt("mkdir -p target/clusters");
    attempt(&format!("mv {}/last-gateway.log target/clusters/{id}.log", e2e::chaos::ROOT));
}
