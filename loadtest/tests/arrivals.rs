//! Whether random arrivals are distributed as they claim. Seeds are fixed, so each test always says the same; the bounds
//! are those of the usual tests at a level of 1 %.

use std::{f64::consts::TAU, time::Duration};

use tidegate_loadtest::plan::{Plan, Process, Segment, Shape, language};

/// Kolmogorov and Smirnov: sqrt(n) times the distance stays below this in 99 of 100 samples.
const KS: f64 = 1.628;

fn instants(shape: Shape, process: Process, seed: u64) -> Vec<f64> {
    let plan = Plan::new(shape, process, seed).expect("valid");
    plan.instants().map(|at| at.as_secs_f64()).collect()
}

fn gaps(instants: &[f64]) -> Vec<f64> {
    instants.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// sqrt(n) times the largest distance between the sample's distribution and `expected`.
fn distance(mut sample: Vec<f64>, expected: impl Fn(f64) -> f64) -> f64 {
    sample.sort_by(f64::total_cmp);
    let n = sample.len() as f64;
    let off = |(index, value): (usize, &f64)| {
        let (below, above, right) = (index as f64 / n, (index + 1) as f64 / n, expected(*value));
        (right - below).abs().max((above - right).abs())
    };
    sample.iter().enumerate().map(off).fold(0.0, f64::max) * n.sqrt()
}

/// Pearson's statistic, in standard deviations from what is expected of it.
fn chi_square(found: &[f64], expected: &[f64]) -> f64 {
    let sum: f64 = found.iter().zip(expected).map(|(f, e)| (f - e) * (f - e) / e).sum();
    let freedom = found.len() as f64;
    (sum - freedom) / (2.0 * freedom).sqrt()
}

fn counts(instants: &[f64], bins: usize, width: f64) -> Vec<f64> {
    let mut counts = vec![0.0; bins];
    instants.iter().for_each(|at| counts[(at / width) as usize] += 1.0);
    counts
}

/// The incomplete gamma function by its series, times `k^k x^(k-1)` and so on: the distribution of gaps with mean 1.
fn gamma_distribution(k: f64, gamma_of_k_plus_1: f64, x: f64) -> f64 {
    let x = x * k;
    let (mut term, mut sum) = (1.0, 1.0);
    for n in 1..500 {
        term *= x / (k + f64::from(n));
        sum += term;
    }
    (x.powf(k) * (-x).exp() / gamma_of_k_plus_1 * sum).min(1.0)
}

#[test]
fn poisson_gaps_are_exponential() {
    let shape = || Shape::constant(100.0, Duration::from_secs(200));
    for seed in [1, 2, 3] {
        let instants = instants(shape(), Process::Poisson, seed);
        let found = distance(gaps(&instants), |gap| 1.0 - (-100.0 * gap).exp());
        assert!(found < KS, "seed {seed}: {found}");
        // Counts of disjoint seconds are independent and as spread as their mean.
        let seconds = counts(&instants, 200, 1.0);
        let off = chi_square(&seconds, &vec![100.0; 200]);
        assert!(off.abs() < 2.58, "seed {seed}: {off}");
    }
}

#[test]
fn gamma_gaps_have_their_variation() {
    let shape = || Shape::constant(100.0, Duration::from_secs(200));
    // cv, shape k = 1 / cv^2, and gamma(k + 1).
    for (cv, k, gamma) in [(2.0, 0.25, 0.906_402_477_055), (0.5, 4.0, 24.0), (1.0, 1.0, 1.0)] {
        let gaps = gaps(&instants(shape(), Process::Gamma { cv }, 4));
        let found = distance(gaps.clone(), |gap| gamma_distribution(k, gamma, gap * 100.0));
        assert!(found < KS, "cv {cv}: {found}");
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let spread = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((spread / mean / cv - 1.0).abs() < 0.05, "cv {cv}: {}", spread / mean);
    }
}

#[test]
fn scattered_instants_are_anywhere_and_as_many_as_were_asked_for() {
    let shape = || Shape::constant(100.0, Duration::from_secs(200));
    for seed in [1, 2, 3] {
        let instants = instants(shape(), Process::Scatter, seed);
        assert_eq!(instants.len(), 20_000, "seed {seed}");
        let found = distance(instants.clone(), |at| at / 200.0);
        assert!(found < KS, "seed {seed}: {found}");
        // Seconds are as different from each other as if each request had drawn one: no second is kept even.
        let off = chi_square(&counts(&instants, 200, 1.0), &vec![100.0; 200]);
        assert!(off.abs() < 2.58, "seed {seed}: {off}");
        assert!(distance(gaps(&instants), |gap| 1.0 - (-100.0 * gap).exp()) < KS, "seed {seed}");
    }
}

#[test]
fn an_even_stream_is_not_taken_for_poisson() {
    let even = instants(Shape::constant(100.0, Duration::from_secs(200)), Process::Uniform, 0);
    assert!(distance(gaps(&even), |gap| 1.0 - (-100.0 * gap).exp()) > 10.0 * KS);
}

#[test]
fn arrivals_follow_a_sine() {
    let text = "sine mean=200 amp=150 period=60s 3m";
    let shape =
        language::parse(text, |_, _| Err(String::new())).and_then(|load| load.open(text)).expect("valid");
    let rate = |at: f64| 200.0 + 150.0 * (TAU * at / 60.0).sin();
    let mass = |at: f64| 200.0 * at + 150.0 * 60.0 / TAU * (1.0 - (TAU * at / 60.0).cos());
    for (process, seed) in [(Process::Uniform, 0), (Process::Poisson, 5), (Process::Poisson, 6)] {
        let instants = instants(shape.clone(), process, seed);
        let found = distance(instants.clone(), |at| mass(at) / mass(180.0));
        assert!(found < KS, "{process}, seed {seed}: {found}");
        // Once more without the formula's integral: what the rate adds up to in each of 180 seconds.
        let expected: Vec<f64> = (0..180)
            .map(|s| (0..100).map(|h| rate(f64::from(s) + (f64::from(h) + 0.5) / 100.0) / 100.0).sum())
            .collect();
        let off = chi_square(&counts(&instants, 180, 1.0), &expected);
        assert!(off < 2.58, "{process}, seed {seed}: {off}");
    }
}

#[test]
fn poisson_under_a_ramp_is_poisson_in_its_own_time() {
    let mut shape = Shape::default();
    shape.push("ramp", Segment::Ramp { from: 10.0, to: 210.0, length: Duration::from_secs(100) });
    let own_time: Vec<f64> =
        instants(shape, Process::Poisson, 9).into_iter().map(|at| 10.0 * at + at * at).collect();
    let found = distance(gaps(&own_time), |gap| 1.0 - (-gap).exp());
    assert!(found < KS, "{found}");
}

#[test]
fn a_long_plan_costs_no_memory_and_its_first_instants_come_at_once() {
    let plan = Plan::new(Shape::constant(1e6, Duration::from_secs(30 * 24 * 3600)), Process::Poisson, 1)
        .expect("valid");
    assert_eq!(plan.expected(), 2_592_000_000_000);
    assert_eq!(plan.instants().take(1000).count(), 1000);
}
