//! The experiments of docs/scaling.md that are about single situations: overshoot behind a slow start, the cliff after a burst, the
//! reaction to steps, and what a part of our law is good for.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tidegate::simulate::replay::{Case, Outcome, Takes, run_all};
use tidegate_config::{
    model::{Aim, Idle, Law, ScalingPolicy, Service},
    units::Concurrency,
};
use tidegate_loadtest::plan::{Plan, Process, read::shape};

use super::{
    settings::{self, Setting},
    slices::Slice,
};

/// Chance decides about single steps: so many runs of each, all together.
const RUNS: u64 = 10;

/// One service of one slot per replica; replica-seconds per run, all else of all runs.
pub(crate) fn outcome(
    words: &str,
    service: Duration,
    start: Duration,
    runs: u64,
    change: impl FnOnce(&mut ScalingPolicy),
) -> Outcome {
    let mut of = Service::of("tried".parse().expect("a valid name"), "tried");
    (of.scaling.max, of.scaling.concurrency) = (1000, Concurrency::new(1));
    (of.scaling.hold, of.scaling.drain, of.scaling.queue) = (service * 36_000, service * 36_000, 1_000_000);
    change(&mut of.scaling);
    let plan = Plan::new(shape(words).expect("a shape"), Process::Scatter, 0).expect("a plan");
    let of = Arc::new(of);
    let case = |seed| Case {
        service: Arc::clone(&of),
        plan: plan.clone(),
        begins: Timestamp::UNIX_EPOCH,
        took: Arc::default(),
        service_time: Takes::with_mean(service, 1.0),
        start_time: Takes::with_median(start, 0.5),
        late_after: Duration::from_millis(500),
        seed,
    };
    let cases: Vec<_> = (0..runs).map(|seed| (0, case(seed))).collect();
    let mut outcome = run_all(&cases, 1, super::threads(), &|_| ()).swap_remove(0);
    outcome.replica_seconds /= runs as f64;
    outcome
}

/// Prints them all.
pub(crate) fn print() {
    let ms = Duration::from_millis;
    let rows = [
        ("E3 three requests behind a start of 10 s", "const 3 1s | pause 3m", ms(100), ms(10_000)),
        ("E4 a burst, then a third of it", "const 2 5m | const 64 2m | const 20 10m", ms(1000), ms(2000)),
        ("E5 a step of x3", "step 10,30@10m", ms(200), ms(2000)),
        ("E5 a step of x10", "step 10,100@10m", ms(200), ms(2000)),
        (
            "E6 spikes of x5 every 2 h",
            "const 20 108m | const 100 12m | const 20 108m | const 100 12m",
            ms(200),
            ms(2000),
        ),
    ];
    println!(
        "{:<42} {:<5} {:>8} {:>9} {:>11} {:>6}",
        "experiment", "law", "late", "p99 ms", "replica-s", "most"
    );
    for (name, words, service, start) in rows {
        for (law, label) in [(Law::Kpa, "kpa"), (Law::Work, "work"), (Law::Hpa, "hpa")] {
            let got = outcome(words, service, start, RUNS, |scaling| scaling.law = law);
            row(name, label, &got);
        }
    }
    without("const 20 10m | ramp 20..80 3m | const 60 5m | pause 20m | const 5 10m");
}

/// E7: what keeping the last replica costs and saves, for rare functions: for a fixed time, and for as long as the gaps that
/// were seen are worth it.
pub(crate) fn keep_alive(rare: &Slice) {
    let fixed = [1, 5, 10, 20, 60].map(|minutes| {
        let idle = Idle::After(Duration::from_secs(60 * minutes));
        (format!("fixed {minutes} min"), ScalingPolicy { idle, ..settings::base(1) })
    });
    let learned = [10, 60, 600].map(|seconds| {
        let mut scaling = ScalingPolicy { law: Law::Work, ..settings::base(1) };
        scaling.work.aim = Aim::Worth(Duration::from_secs(seconds));
        (format!("learned, late_worth {seconds} s"), scaling)
    });
    compared("E7 rare functions", rare, fixed.into_iter().chain(learned));
}

/// E8: a silence of a day and more, with what was before and after it.
pub(crate) fn silence(around: &Slice) {
    let laws = [(Law::Kpa, "kpa"), (Law::Work, "work"), (Law::Hpa, "hpa")];
    let laws = laws.map(|(law, name)| (name.to_owned(), ScalingPolicy { law, ..settings::base(1) }));
    compared("E8 a long silence", around, laws);
}

fn compared(what: &str, slice: &Slice, of: impl IntoIterator<Item = (String, ScalingPolicy)>) {
    let (names, scalings): (Vec<_>, Vec<_>) = of.into_iter().unzip();
    let settings: Vec<_> = scalings.into_iter().map(|scaling| Setting { law: "", scaling }).collect();
    for (name, got) in names.iter().zip(super::run(slice, &settings, 1)) {
        row(&format!("{what}: {name}"), "", &got);
    }
}

fn row(name: &str, label: &str, got: &Outcome) {
    let p99 = got.waits.value_at_quantile(0.99);
    let late = got.late_share() * 100.0;
    println!("{name:<42} {label:<5} {late:>7.3}% {p99:>9} {:>11.0} {:>6}", got.replica_seconds, got.most);
}

/// What each part is good for: the law without it.
fn without(words: &str) {
    for name in ["nothing"].into_iter().chain(ScalingPolicy::PARTS) {
        let got = outcome(words, Duration::from_millis(200), Duration::from_secs(2), RUNS, |scaling| {
            scaling.law = Law::Work;
            assert!(name == "nothing" || scaling.switch_off(name), "{name} is a part");
        });
        row(&format!("a ramp, a fall, silence; without {name}"), "work", &got);
    }
}
