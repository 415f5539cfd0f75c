//! How many send instants a second of one processor plans, without sending anything: the scheduler alone, for
//! `scripts/bench-load`. A line for each shape and process; the last one has the slowest.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tidegate_loadtest::plan::{Plan, Process, Segment, Shape, trace::Profile};

/// What is to be planned in a second.
const WANTED: f64 = 100_000.0;
/// The length of each plan, all of which have 100 000 requests per second.
const LENGTH: Duration = Duration::from_secs(20);

fn main() -> anyhow::Result<()> {
    let processes = [
        Process::Uniform,
        Process::Poisson,
        Process::Scatter,
        Process::Gamma { cv: 2.0 },
        Process::Burst { size: 10 },
    ];
    let mut slowest = f64::INFINITY;
    for (name, shape) in shapes()? {
        for process in processes {
            let plan = Plan::new(shape.clone(), process, 1)?;
            let rate = planned_per_second(&plan);
            println!("  {name:<6} {process:<12} {:>6.1} million instants per second", rate / 1e6);
            slowest = slowest.min(rate);
        }
    }
    println!("instants_per_s={slowest:.0} wanted={WANTED:.0} ratio={:.0}", slowest / WANTED);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "how long it takes is what is asked")]
fn planned_per_second(plan: &Plan) -> f64 {
    let begun = Instant::now();
    #[expect(clippy::cast_precision_loss, reason = "some millions")]
    let planned = plan.instants().count() as f64;
    planned / begun.elapsed().as_secs_f64()
}

fn shapes() -> anyhow::Result<[(&'static str, Shape); 3]> {
    let (mut wave, mut trace) = (Shape::default(), Shape::default());
    wave.push("sine", Segment::Sine { mean: WANTED, amp: WANTED, period: LENGTH / 4, length: LENGTH });
    // Counts per millisecond: a new piece every hundred requests.
    let counts: Arc<[f32]> = vec![100.0; 1000 * usize::try_from(LENGTH.as_secs())?].into();
    let profile = Profile::counts(counts, Duration::from_millis(1))?;
    trace.push("trace", Segment::Trace { profile: Arc::new(profile), scale: 1.0, speed: 1.0 });
    Ok([("const", Shape::constant(WANTED, LENGTH)), ("sine", wave), ("trace", trace)])
}
