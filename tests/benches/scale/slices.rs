//! What is replayed: slices of two public traces, if they are there, and a synthetic set.

use std::{path::Path, time::Duration};

use anyhow::Context;
use tidegate::simulate::chance::Chance;
use tidegate_loadtest::plan::{Plan, Process, Shape, read, recording::Options, trace::Profile};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// Services that are judged together.
pub(crate) struct Slice {
    pub(crate) name: &'static str,
    /// Each with when requests come to it and how long they take on average.
    pub(crate) services: Vec<(Plan, Duration)>,
}

/// As many as were counted, at random instants.
fn replayed(profile: Profile) -> Plan {
    Plan::new(Shape::recorded("trace", profile), Process::Scatter, 0).expect("a recording has requests")
}

/// T1, a day of 400 functions in requests per minute: the rare ones (at most 2000 a day) for the whole day, the others for
/// an hour (noon to one), or all of it.
pub(crate) fn azure(folder: &Path, full: bool) -> anyhow::Result<Vec<Slice>> {
    let (mut rare, mut busy) = (Vec::new(), Vec::new());
    let file = folder.join("azure-functions-2019-day1.csv.gz");
    for one in read::recordings(&file, &Options::default())? {
        let service = one.mean.unwrap_or(SECOND);
        if one.profile.requests() <= 2000.0 {
            rare.push((replayed(one.profile), service));
        } else if full {
            busy.push((replayed(one.profile), service));
        } else if let Ok(noon) = one.profile.part(DAY / 2, Some(DAY / 24)) {
            busy.push((replayed(noon), service));
        }
    }
    let busy_name = if full { "T1 busy (day)" } else { "T1 busy (hour)" };
    Ok(vec![Slice { name: "T1 rare (day)", services: rare }, Slice { name: busy_name, services: busy }])
}

/// T2, two months of a web server in requests per second: two days (from the eleventh on), and six hours of fifty of it on top of
/// each other, at offsets by chance.
pub(crate) fn nasa(folder: &Path, full: bool) -> anyhow::Result<Vec<Slice>> {
    let whole = read::trace(&folder.join("nasa-http-1995-per-second.txt.bz2"), &Options::default())?;
    let fifty = fifty(&whole)?;
    let own = if full { whole } else { whole.part(DAY * 10, Some(DAY * 2))? };
    let slice = |name, profile| Slice { name, services: vec![(replayed(profile), SECOND)] };
    Ok(vec![slice("T2", own), slice("T2 x50", fifty)])
}

/// The longest silence of T2, with six hours before and after it.
pub(crate) fn silence(folder: &Path) -> anyhow::Result<Slice> {
    let whole = read::trace(&folder.join("nasa-http-1995-per-second.txt.bz2"), &Options::default())?;
    let (counts, _) = whole.bins().context("T2 has counts")?;
    let (mut longest, mut begun) = ((0, 0), 0);
    for (second, count) in counts.iter().enumerate() {
        if *count > 0.0 {
            longest = longest.max((second - begun, begun));
            begun = second + 1;
        }
    }
    let (length, from) = longest;
    let around = whole.part(
        SECOND * u32::try_from(from.saturating_sub(6 * 3600))?,
        Some(SECOND * u32::try_from(length + 12 * 3600)?),
    )?;
    println!("E8: the silence lasts {:.1} h", length as f64 / 3600.0);
    Ok(Slice { name: "T2 around a silence", services: vec![(replayed(around), SECOND)] })
}

fn fifty(whole: &Profile) -> anyhow::Result<Profile> {
    let (counts, bin) = whole.bins().context("T2 has counts")?;
    let (mut chance, length) = (Chance::new(50), 6 * 3600);
    let mut sum = vec![0.0; length];
    for _ in 0..50 {
        let offset = usize::try_from(chance.below((counts.len() - length) as u64))?;
        for (all, one) in sum.iter_mut().zip(&counts[offset..]) {
            *all += one;
        }
    }
    Ok(Profile::counts(sum.into(), bin)?)
}

/// Shapes of which each stands for a kind of traffic: independent requests.
pub(crate) fn synthetic() -> Vec<Slice> {
    let shape = |name, service_ms, times: usize, words: &str| {
        let shape = read::shape(&vec![words; times].join(" | ")).expect("a shape");
        let plan = Plan::new(shape, Process::Poisson, 0).expect("a plan");
        Slice { name, services: vec![(plan, Duration::from_millis(service_ms))] }
    };
    vec![
        shape("day and night", 500, 1, "sine mean=20 amp=20 period=2h 6h"),
        // x3 and x10 for ten minutes each.
        shape("steps", 200, 3, "step 10,30,10,100@10m"),
        // x5 for twelve minutes every two hours.
        shape("spikes", 200, 4, "spike 20->100@1h for 12m 2h"),
        shape("bursts", 500, 48, "const 20 20s | const 0.2 280s"),
        shape("every 15 min", 2000, 96, "const 1.5 1s | pause 899s"),
    ]
}
