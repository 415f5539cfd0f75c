//! `make test-clusters`: a real gateway process over real clusters, one case after another, one line for each.
//! `ENGINES=kubernetes` tries one of them, `CASES=S5,K7` some cases; `WAKES=50` measures so many wakes instead ([`wake`]), on
//! the one that is named. Ends with `clusters: engines=N cases=N failed=K`, and with exit code 1 if K is not 0.
//! Nothing is left behind, whatever happens.

mod estate;
mod kubernetes;
mod steps;
mod swarm;
mod wake;

use std::{collections::BTreeSet, io::Write, panic::AssertUnwindSafe, path::Path, process::ExitCode};

use anyhow::Result;
use e2e::chaos::{run::attempt, verdict::Verdict};
use futures_util::{FutureExt, future::LocalBoxFuture};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Duration, timeout},
};

/// A case: its number, what is tried, how.
pub(crate) type Case<E> = (&'static str, &'static str, fn(&mut E) -> LocalBoxFuture<'_, Result<Verdict>>);

/// What the cases of an engine run on.
pub(crate) trait Ground {
    /// Removes what a case left, and looks whether what is not ours is as it was.
    fn clear(&mut self) -> impl Future<Output = Result<()>>;
}

/// The engines that are tried, and what numbers of their cases begin with.
const ENGINES: [(&str, char); 2] = [("swarm", 'S'), ("kubernetes", 'K')];

/// No case takes longer; one that does hangs.
const LONGEST: Duration = Duration::from_secs(300);

#[tokio::main]
async fn main() -> Result<ExitCode> {
    // Scripts are named from the root; cargo starts benches in their package.
    std::env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let engines = engines()?;
    let run = async {
        match std::env::var("WAKES").unwrap_or_default().as_str() {
            "" => all(&engines).await,
            cycles if engines.contains("kubernetes") => {
                kubernetes::wake::run(cycles.parse()?).await.map(|()| 0)
            }
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
async fn all(engines: &BTreeSet<&str>) -> Result<usize> {
    let wanted = named("CASES").iter().map(|word| word.to_uppercase()).collect::<BTreeSet<_>>();
    let (mut ran, mut failed) = (0, 0);
    for (engine, letter) in ENGINES.iter().filter(|(engine, _)| engines.contains(engine)) {
        if !wanted.is_empty() && !wanted.iter().any(|case| case.starts_with(*letter)) {
            continue;
        }
        let (of_it, bad) = match *engine {
            "swarm" => cases(&mut estate::Estate::up().await?, swarm::CASES, &wanted).await?,
            _ => cases(&mut kubernetes::Estate::up().await?, kubernetes::CASES, &wanted).await?,
        };
        (ran, failed) = (ran + of_it, failed + bad);
    }
    println!("clusters: engines={} cases={ran} failed={failed}", engines.len());
    Ok(failed)
}

/// Runs cases of one engine; how many ran and how many of them failed.
async fn cases<E: Ground>(
    estate: &mut E,
    cases: &[Case<E>],
    wanted: &BTreeSet<String>,
) -> Result<(usize, usize)> {
    let (mut ran, mut failed) = (0, 0);
    for (id, title, case) in cases.iter().filter(|(id, ..)| wanted.is_empty() || wanted.contains(*id)) {
        print!("{id} {title}: ");
        std::io::stdout().flush()?;
        ran += 1;
        // A case that panics drops its gateway, as one that ends does.
        let outcome = timeout(LONGEST, AssertUnwindSafe(case(estate)).catch_unwind()).await;
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
    Ok((ran, failed))
}

fn failure(words: &str) -> Verdict {
    let mut verdict = Verdict::default();
    verdict.problem(words);
    verdict
}

/// The engines that `ENGINES` names; nothing: all.
fn engines() -> Result<BTreeSet<&'static str>> {
    let (named, all) = (named("ENGINES"), ENGINES.map(|(engine, _)| engine));
    for word in &named {
        anyhow::ensure!(all.contains(&&**word), "ENGINES names {word}; expected {}", all.join(" or "));
    }
    Ok(all.into_iter().filter(|engine| named.is_empty() || named.contains(*engine)).collect())
}

/// The words of a variable, which may be none.
fn named(variable: &str) -> BTreeSet<String> {
    let text = std::env::var(variable).unwrap_or_default();
    text.split([',', ' ']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The gateway's log of the case that ended, for whoever looks into a failure.
fn keep_log(id: &str) {
    attempt("mkdir -p target/clusters");
    attempt(&format!("mv {}/last-gateway.log target/clusters/{id}.log", e2e::chaos::ROOT));
}
