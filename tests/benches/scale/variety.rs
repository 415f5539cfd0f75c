//! How the laws compare where starts and requests take longer or shorter than in the traces: ten kinds of traffic, each with starts
//! from a fifth of a second to half a minute, requests from a tenth of a second to a minute, and one or ten at once on a replica. What
//! replicas and late requests cost together is compared, a late one at a minute of a replica, as `late_worth` has it where nothing is said.

use std::time::Duration;

use tidegate_config::{model::Law, units::Concurrency};

use super::experiments::outcome;

/// Runs of each.
const RUNS: u64 = 3;
/// Seconds of a replica that a late request counts for.
const WORTH: f64 = 60.0;
const STARTS: [f64; 4] = [0.2, 2.0, 10.0, 30.0];
const SERVICES: [f64; 4] = [0.1, 1.0, 10.0, 60.0];
const SLOTS: [u32; 2] = [1, 10];

/// Prints a row for each start, each length of requests and each size of a replica.
pub(crate) fn print() {
    println!("\n{:<42} {:>8} {:>8}", "work / kpa, replicas and late requests", "mean", "worst");
    let mut all = Vec::new();
    for (start, service, slots) in replicas() {
        let ratios: Vec<_> =
            kinds(service).map(|(kind, words)| (ratio(&words, service, start, slots), kind)).into();
        row(&format!("starts of {start} s, {slots} at once of {service} s"), &ratios);
        all.extend(ratios);
    }
    row("all of them", &all);
}

/// Seconds of a start, of a request, and requests at once.
fn replicas() -> impl Iterator<Item = (f64, f64, u32)> {
    let requests = |start| SERVICES.into_iter().map(move |service| (start, service));
    let each = |(start, service)| SLOTS.into_iter().map(move |slots| (start, service, slots));
    STARTS.into_iter().flat_map(requests).flat_map(each)
}

fn row(name: &str, ratios: &[(f64, &str)]) {
    let mean = (ratios.iter().map(|(ratio, _)| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
    let (worst, kind) = ratios.iter().max_by(|(a, _), (b, _)| a.total_cmp(b)).expect("some");
    println!("{name:<42} {mean:>8.3} {worst:>8.3}  {kind}");
}

/// What our law costs over what Knative's does.
fn ratio(words: &str, service: f64, start: f64, slots: u32) -> f64 {
    let [service, start] = [service, start].map(Duration::from_secs_f64);
    let [ours, theirs] = [Law::Work, Law::Kpa].map(|law| {
        let got = outcome(words, service, start, RUNS, |scaling| {
            (scaling.law, scaling.concurrency) = (law, Concurrency::new(slots));
        });
        got.replica_seconds + WORTH * got.late as f64 / RUNS as f64
    });
    ours / theirs
}

/// Traffic that keeps so many replicas of one slot busy, in words: what it is called, and its shape.
fn kinds(service: f64) -> [(&'static str, String); 10] {
    let rate = |busy: f64| busy / service;
    let again = |words: String, times: usize| vec![words; times].join(" | ");
    let spike = format!("const {} 50s | const {} 10s", rate(2.0), rate(12.0));
    let burst = format!("const {} 2s | const 0 58s", rate(10.0 * service.max(1.0)));
    [
        ("steady", format!("const {} 20m", rate(3.0))),
        ("a step", format!("const {} 5m | const {} 8m | const {} 7m", rate(2.0), rate(20.0), rate(2.0))),
        ("a ramp", format!("ramp {}..{} 8m | ramp {}..{} 8m", rate(0.5), rate(20.0), rate(20.0), rate(0.5))),
        ("a slow ramp", format!("ramp {}..{} 30m", rate(2.0), rate(20.0))),
        ("spikes each minute", again(spike, 15)),
        ("steep spikes", format!("const 1 5m | {}", again("const 50 10s | const 1 5m".to_owned(), 3))),
        ("now and then", "const 0.02 4h".to_owned()),
        ("bursts each minute", again(burst, 15)),
        ("busy, then silent", again(format!("const {} 2m | const 0 4m", rate(10.0)), 3)),
        ("waves", format!("sine mean={} amp={} period=10m 30m", rate(8.0), rate(7.0))),
    ]
}
