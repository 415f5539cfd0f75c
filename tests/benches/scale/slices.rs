//! What is replayed: slices of two public traces, if they are there, and a synthetic set.

use std::{f64::consts::TAU, io::Read as _, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use tidegate::simulate::{
    chance::Chance,
    replay::{Trace, read, shape::poisson},
};

const SECOND: Duration = Duration::from_secs(1);

/// Services that are judged together.
pub(crate) struct Slice {
    pub(crate) name: &'static str,
    /// Each with its trace and how long its requests take on average.
    pub(crate) services: Vec<(Arc<Trace>, Duration)>,
}

impl Slice {
    fn one(name: &'static str, counts: Vec<u32>, service: Duration) -> Self {
        Self { name, services: vec![(Arc::new(Trace::Counts { bin: SECOND, counts }), service)] }
    }
}

/// T1, a day of 400 functions in requests per minute: the rare ones (at most 2000 a day) for the whole day, the others for
/// an hour (noon to one), or all of it.
pub(crate) fn azure(folder: &Path, full: bool) -> anyhow::Result<Vec<Slice>> {
    let file = folder.join("azure-functions-2019-day1.csv.gz");
    let bytes = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*bytes).read_to_string(&mut text)?;
    let (mut rare, mut busy) = (Vec::new(), Vec::new());
    for one in read::read(&text, None)? {
        let service = one.average.unwrap_or(SECOND);
        match one.trace {
            Trace::Counts { bin, counts } if counts.iter().sum::<u32>() > 2000 => {
                let counts = if full { counts } else { counts[720..780].to_vec() };
                busy.push((Arc::new(Trace::Counts { bin, counts }), service));
            }
            trace => rare.push((Arc::new(trace), service)),
        }
    }
    let busy_name = if full { "T1 busy (day)" } else { "T1 busy (hour)" };
    Ok(vec![Slice { name: "T1 rare (day)", services: rare }, Slice { name: busy_name, services: busy }])
}

/// T2, two months of a web server in requests per second: two days (from the eleventh on), and six hours of fifty of it on top of
/// each other, at offsets by chance.
pub(crate) fn nasa(folder: &Path, full: bool) -> anyhow::Result<Vec<Slice>> {
    let file = folder.join("nasa-http-1995-per-second.txt.bz2");
    let bytes = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    let mut text = String::new();
    bzip2::read::BzDecoder::new(&*bytes).read_to_string(&mut text)?;
    let Trace::Counts { counts, .. } = read::read(&text, None)?.remove(0).trace else {
        return Ok(Vec::new());
    };
    let start = 10 * 86_400;
    let own = if full { counts.clone() } else { counts[start..start + 2 * 86_400].to_vec() };
    let (mut chance, length) = (Chance::new(50), 6 * 3600);
    let mut sum = vec![0; length];
    for _ in 0..50 {
        let offset = usize::try_from(chance.below((counts.len() - length) as u64))?;
        for (all, one) in sum.iter_mut().zip(&counts[offset..]) {
            *all += one;
        }
    }
    Ok(vec![Slice::one("T2", own, SECOND), Slice::one("T2 x50", sum, SECOND)])
}

/// Shapes of which each stands for a kind of traffic.
pub(crate) fn synthetic() -> Vec<Slice> {
    let shape = |name, seconds: u32, service_ms, rate: &dyn Fn(f64) -> f64| {
        let mut chance = Chance::new(7);
        let counts = (0..seconds).map(|second| poisson(rate(f64::from(second)), &mut chance)).collect();
        Slice::one(name, counts, Duration::from_millis(service_ms))
    };
    vec![
        shape("day and night", 6 * 3600, 500, &|s| 20.0 * (1.0 - (s * TAU / 7200.0).cos())),
        // x3 and x10 for ten minutes each.
        shape("steps", 7200, 200, &|s| [10.0, 30.0, 10.0, 100.0][(s / 600.0) as usize % 4]),
        // x5 for twelve minutes every two hours.
        shape("spikes", 8 * 3600, 200, &|s| {
            if (3600.0..4320.0).contains(&(s % 7200.0)) { 100.0 } else { 20.0 }
        }),
        shape("bursts", 4 * 3600, 500, &|s| if s % 300.0 < 20.0 { 20.0 } else { 0.2 }),
        shape("every 15 min", 24 * 3600, 2000, &|s| if s % 900.0 < 1.0 { 1.5 } else { 0.0 }),
    ]
}
