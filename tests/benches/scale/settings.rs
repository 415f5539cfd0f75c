//! The settings that are compared: Knative's law and ours, each over twenty-seven, the others at their defaults.

use std::time::Duration;

use tidegate_config::{
    model::{Aim, Idle, Law, ScalingPolicy},
    units::{Concurrency, Percent},
};

/// Settings of a law.
pub(crate) struct Setting {
    pub(crate) law: &'static str,
    pub(crate) scaling: ScalingPolicy,
}

impl Setting {
    /// What is special about it.
    pub(crate) fn words(&self) -> String {
        let scaling = &self.scaling;
        match scaling.work.aim {
            Aim::Worth(worth) if self.law == "work" => {
                format!("work, late_worth {:.1} s, idle {:?}", worth.as_secs_f64(), scaling.idle)
            }
            _ => format!(
                "{}, target {} %, window {} s, idle {:?}",
                self.law,
                scaling.target.whole(),
                scaling.stable_window.as_secs(),
                scaling.idle
            ),
        }
    }
}

/// What all settings have in common: nobody gives up, nothing is cut off. Of Knative's law.
pub(crate) fn base(concurrency: u32) -> ScalingPolicy {
    ScalingPolicy {
        law: Law::Kpa,
        max: 1000,
        concurrency: Concurrency::new(concurrency),
        hold: Duration::from_secs(3600),
        drain: Duration::from_secs(3600),
        queue: 1_000_000,
        ..ScalingPolicy::default()
    }
}

/// All of them. The first one is the anchor: Knative's defaults.
pub(crate) fn all(concurrency: u32) -> Vec<Setting> {
    let base = base(concurrency);
    let kpa = knative(&base).map(|scaling| Setting { law: "kpa", scaling });
    let work = ours(&base).map(|scaling| Setting { law: "work", scaling });
    // A fixed target is Knative's law without a surge.
    let fixed = ScalingPolicy { surge_threshold: f64::INFINITY, ..base.clone() };
    let hpa = ScalingPolicy { law: Law::Hpa, ..base.clone() };
    let others = [Setting { law: "fixed", scaling: fixed }, Setting { law: "hpa", scaling: hpa }];
    kpa.chain(work).chain(others).collect()
}

fn knative(base: &ScalingPolicy) -> impl Iterator<Item = ScalingPolicy> {
    let seconds = Duration::from_secs;
    [70, 50, 90].into_iter().flat_map(move |target| {
        [60, 15, 120].into_iter().flat_map(move |window| {
            fixed().into_iter().map(move |idle| ScalingPolicy {
                target: Percent::new(target).expect("in range"),
                stable_window: seconds(window),
                idle,
                ..base.clone()
            })
        })
    })
}

/// Eighteen of what a late request is worth, from a tenth of a second of a replica to some hours, and three with each time for which
/// Knative's law keeps the last replica.
fn ours(base: &ScalingPolicy) -> impl Iterator<Item = ScalingPolicy> {
    let learned = (0..18).map(|step| (0.1 * 2_f64.powi(step), Idle::Auto));
    let fixed = fixed().into_iter().flat_map(|idle| [1.0, 8.0, 64.0].map(|worth| (worth, idle)));
    learned.chain(fixed).map(|(worth, idle)| {
        let mut scaling = ScalingPolicy { law: Law::Work, idle, ..base.clone() };
        scaling.work.aim = Aim::Worth(Duration::from_secs_f64(worth));
        scaling
    })
}

/// How long the last replica is kept, where that is fixed.
fn fixed() -> [Idle; 3] {
    [60, 10, 600].map(|seconds| Idle::After(Duration::from_secs(seconds)))
}
