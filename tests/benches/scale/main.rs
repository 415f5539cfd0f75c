//! `make bench-scale`: the law `work` against Knative's, a fixed target and Kubernetes', on real and synthetic traffic. Each law's
//! best settings make a front of cost against late requests; the fronts are compared at the cost, and at the share of late requests,
//! that Knative's law has at its defaults. TRACES=DIR names the traces, FULL=1 replays all of them with ten seeds, ONLY=T2 replays
//! those whose names begin so, POINTS=1 prints what each setting came to, SEEDS=1 is quicker. `least` beside a ratio is what hardly any
//! law gets below: the late ratio of those who come during each service's first start of all (Knative's law makes it), and the cost ratio
//! of somebody who knew every request beforehand.

mod capped;
mod experiments;
mod settings;
mod slices;
mod variety;

use std::{num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use tidegate::simulate::replay::{Case, Front, Outcome, Takes, front::ratio, run_all};
use tidegate_config::model::Service;

use self::{settings::Setting, slices::Slice};

/// A request that waits longer is late.
const LATE_AFTER: Duration = Duration::from_millis(500);
/// Half of them at 2 s, and one in ten longer than 3.8 s.
const START: (Duration, f64) = (Duration::from_secs(2), 0.5);

fn main() -> anyhow::Result<()> {
    let full = std::env::var_os("FULL").is_some();
    let usual = if full { 10 } else { 3 };
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(usual);
    let only = std::env::var("ONLY").unwrap_or_default();
    if only == "variety" {
        variety::print();
        return Ok(());
    }
    if only.is_empty() {
        experiments::print();
        variety::print();
        if let Some(folder) = traces() {
            let rare = slices::azure(&folder, false)?.swap_remove(0);
            experiments::keep_alive(&rare);
            capped::print(&rare);
            experiments::silence(&slices::silence(&folder)?);
        }
        println!();
    }
    let mut results = Vec::new();
    println!(
        "{:<16} {:>2}  {:>8}  {:>28}  {:>28}  {:>9} {:>9} {:>9} {:>9}",
        "trace",
        "c",
        "requests",
        "late at kpa's cost: kpa work",
        "cost at kpa's late: kpa work",
        "slo ratio",
        "least",
        "cost ratio",
        "least"
    );
    for slice in slices(full)?.into_iter().filter(|slice| slice.name.starts_with(&only)) {
        for concurrency in [1, 10] {
            results.push(compare(&slice, concurrency, seeds));
        }
    }
    let worst = results.iter().max_by(|a, b| a.badness().total_cmp(&b.badness())).expect("a trace at least");
    println!(
        "scale: traces={} worst={} slo_equal_cost_ratio={:.3} cost_equal_slo_ratio={:.3}",
        results.len(),
        worst.name.replace(' ', "-"),
        worst.slo,
        worst.cost
    );
    Ok(())
}

fn slices(full: bool) -> anyhow::Result<Vec<Slice>> {
    let mut all = slices::synthetic();
    match traces() {
        Some(folder) => {
            all.extend(slices::nasa(&folder, full)?);
            all.extend(slices::azure(&folder, full)?);
        }
        None => println!("no traces: only the synthetic set runs (TRACES=DIR)"),
    }
    Ok(all)
}

/// Where the traces are, if they are anywhere.
fn traces() -> Option<PathBuf> {
    let folder = std::env::var_os("TRACES").map_or_else(|| PathBuf::from("../shared/traces"), PathBuf::from);
    folder.is_dir().then_some(folder)
}

/// How one trace came out.
struct Compared {
    name: String,
    /// Late requests on our front over those on Knative's, at its default's cost.
    slo: f64,
    /// Cost on our front over that on Knative's, at its default's share of late requests.
    cost: f64,
}

impl Compared {
    /// How far from what is wanted; any ratio above 1 ranks before all others.
    fn badness(&self) -> f64 {
        let above = self.slo.max(self.cost) > 1.0;
        (self.slo / 0.5).min(self.cost / 0.8) + if above { 1e6 } else { 0.0 }
    }
}

fn compare(slice: &Slice, concurrency: u32, seeds: u64) -> Compared {
    let settings = settings::all(concurrency);
    let outcomes = run(slice, &settings, seeds);
    let point = |outcome: &Outcome| (outcome.replica_seconds, outcome.late_share());
    let of = |law: &str| {
        let own = settings.iter().zip(&outcomes).filter(move |(setting, _)| setting.law == law);
        own.map(|(_, outcome)| point(outcome)).collect::<Vec<_>>()
    };
    if std::env::var_os("POINTS").is_some() {
        for (setting, outcome) in settings.iter().zip(&outcomes) {
            let (cost, share) = point(outcome);
            println!("  {:<60} {cost:>10.0} {:>10.5}%", setting.words(), share * 100.0);
        }
    }
    let (kpa, work) = (Front::of(of("kpa")), Front::of(of("work")));
    let (cost, share) = point(&outcomes[0]);
    let (theirs, ours) = (kpa.share_at(cost), work.share_at(cost));
    let (their_cost, our_cost) = (kpa.cost_at(share), work.cost_at(share));
    let compared = Compared {
        name: format!("{} c{concurrency}", slice.name),
        slo: ratio(ours, theirs),
        cost: ratio(our_cost, their_cost),
    };
    println!(
        "{:<16} {concurrency:>2}  {:>8}  {:>13.5}% {:>13.5}%  {their_cost:>13.0} {our_cost:>14.0}  {:>9.3} {:>9.3} {:>9.3} {:>9.3}",
        slice.name,
        outcomes[0].requests / seeds,
        theirs * 100.0,
        ours * 100.0,
        compared.slo,
        ratio(outcomes[0].first_share(), theirs),
        compared.cost,
        ratio(outcomes[0].least_seconds, their_cost)
    );
    for law in ["fixed", "hpa"] {
        let (cost, share) = of(law)[0];
        println!(
            "{:<20} {law} at its defaults: {:.5}% late for {cost:.0} replica-seconds",
            "",
            share * 100.0
        );
    }
    compared
}

fn run(slice: &Slice, settings: &[Setting], seeds: u64) -> Vec<Outcome> {
    let mut cases = Vec::new();
    for (number, setting) in settings.iter().enumerate() {
        let mut service = Service::of("replayed".parse().expect("a valid name"), "replayed");
        service.scaling = setting.scaling.clone();
        let service = Arc::new(service);
        for seed in 0..seeds {
            for (at, (plan, average)) in slice.services.iter().enumerate() {
                let case = Case {
                    service: Arc::clone(&service),
                    plan: plan.clone(),
                    begins: Timestamp::UNIX_EPOCH,
                    took: Arc::default(),
                    service_time: Takes::with_mean(*average, 1.0),
                    start_time: Takes::with_median(START.0, START.1),
                    late_after: LATE_AFTER,
                    seed: seed * 1000 + at as u64,
                };
                cases.push((number, case));
            }
        }
    }
    run_all(&cases, settings.len(), threads(), &|_| ())
}

fn threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
