//! Scaling settings as a file has to say them: the opposite of [`crate::check`], for commands that recommend settings or try
//! others. Pure. Holds: what is read from it is what it was written for (but for switches of experiments, which no file has).

use serde_json::{Value, json};

use crate::{
    describe::{idle, time},
    model::{Aim, Goal, Idle, KeepWarm, Law, ScalingPolicy, Signals, Work},
    raw,
};

/// What may stand under `scaling`.
pub const KEYS: &[&str] = raw::Scaling::KEYS;

/// Keys of a section with their values, in the order in which they are read best.
pub type Written = Vec<(&'static str, Value)>;

/// What stands under `scaling` in a file for these; defaults are left out.
#[must_use]
pub fn written(scaling: &ScalingPolicy) -> Written {
    let usual = ScalingPolicy::default();
    let mut all = law(scaling.law, &scaling.work, &usual.work);
    all.extend(counts(scaling, &usual));
    all.extend(averages(scaling, &usual));
    all
}

/// Why a key does nothing beside others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// The law does not look at it.
    Law,
    /// There is a minimum: the last replica never goes.
    Min,
    /// The minimum is the maximum: there is nothing to decide.
    Fixed,
}

/// Whether a key under `scaling` does anything beside these settings; those of `work` are refused beside another law.
#[must_use]
pub fn has_effect(key: &str, scaling: &ScalingPolicy) -> bool {
    why_no_effect(key, scaling).is_none()
}

/// Why it does nothing; `None`: it does something.
#[must_use]
pub fn why_no_effect(key: &str, scaling: &ScalingPolicy) -> Option<Because> {
    if !is_looked_at(key, scaling) {
        Some(Because::Law)
    } else if key == "idle" && scaling.min > 0 {
        Some(Because::Min)
    } else if DECIDES.contains(&key) && scaling.is_fixed() {
        Some(Because::Fixed)
    } else {
        None
    }
}

/// Keys that say how many replicas are wanted, and nothing else.
const DECIDES: [&str; 13] = [
    "goal",
    "wait_probability",
    "late_worth",
    "calm",
    "target",
    "surge_window",
    "surge_threshold",
    "max_up_rate",
    "max_down_rate",
    "scale_down_delay",
    "target_rps",
    "target_cpu",
    "target_memory",
];

fn is_looked_at(key: &str, scaling: &ScalingPolicy) -> bool {
    let ScalingPolicy { signals, work, idle, .. } = scaling;
    match (scaling.law, key) {
        (Law::Kpa, _) => true,
        (Law::Work, "target") => !work.parts.staffing,
        (Law::Work, "stable_window") => {
            *signals != Signals::default() || *idle == Idle::Kpa || !work.parts.work
        }
        (Law::Work | Law::Hpa, "surge_threshold") => signals.rps.is_some(),
        (Law::Work | Law::Hpa, "surge_window" | "max_up_rate" | "max_down_rate" | "scale_down_delay") => {
            false
        }
        (Law::Work | Law::Hpa, _) => true,
    }
}

/// A value as TOML has it, on one line.
#[must_use]
pub fn toml(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(table) => {
            let pairs = table.iter().map(|(key, value)| format!("{key} = {}", toml(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
        // A basic string knows the escapes of JSON.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

fn law(law: Law, work: &Work, usual: &Work) -> Written {
    let mut all = vec![("policy", json!(law.to_string()))];
    if law != Law::Work {
        return all;
    }
    match work.aim {
        Aim::Share(share) if work.late_after.is_zero() => all.push(("wait_probability", json!(share))),
        Aim::Share(share) => {
            let goal = Goal { share, wait: work.late_after };
            all.push(("goal", json!(goal.to_string())));
        }
        Aim::Worth(worth) => {
            all.push(("late_worth", json!(time(worth))));
            all.extend(said("late_after", time(work.late_after), time(usual.late_after)));
        }
    }
    all.extend(said("calm", time(work.calm), time(usual.calm)));
    all
}

fn counts(scaling: &ScalingPolicy, usual: &ScalingPolicy) -> Written {
    let Signals { rps, cpu, memory } = scaling.signals;
    let warm = scaling.keep_warm.iter().map(keep_warm).collect::<Vec<_>>();
    let all = [
        scaling.concurrency.map(|limit| ("concurrency", json!(limit.get()))),
        said("min", scaling.min, usual.min),
        said("max", scaling.max, usual.max),
        said("initial", scaling.initial, usual.initial),
        (!warm.is_empty()).then(|| ("keep_warm", Value::Array(warm))),
        rps.map(|rps| ("target_rps", json!(rps))),
        cpu.map(|cpu| ("target_cpu", json!(cpu.fraction()))),
        memory.map(|memory| ("target_memory", json!(memory.fraction()))),
    ];
    all.into_iter().flatten().collect()
}

fn averages(scaling: &ScalingPolicy, usual: &ScalingPolicy) -> Written {
    let all = [
        said("target", scaling.target.fraction(), usual.target.fraction()),
        said("stable_window", time(scaling.stable_window), time(usual.stable_window)),
        said("surge_window", scaling.surge_window.fraction(), usual.surge_window.fraction()),
        said("surge_threshold", scaling.surge_threshold, usual.surge_threshold),
        said("max_up_rate", scaling.max_up_rate, usual.max_up_rate),
        said("max_down_rate", scaling.max_down_rate, usual.max_down_rate),
        said("scale_down_delay", time(scaling.scale_down_delay), time(usual.scale_down_delay)),
        said("idle", idle(scaling.idle), idle(usual.idle)),
        said("drain", time(scaling.drain), time(usual.drain)),
        said("hold", time(scaling.hold), time(usual.hold)),
        said("queue", scaling.queue, usual.queue),
    ];
    all.into_iter().flatten().collect()
}

fn said<T: PartialEq + serde::Serialize>(
    key: &'static str,
    value: T,
    usual: T,
) -> Option<(&'static str, Value)> {
    (value != usual).then(|| (key, json!(value)))
}

fn keep_warm(keep: &KeepWarm) -> Value {
    let KeepWarm { cron, zone: _, lasts, replicas } = keep;
    json!({ "cron": cron.as_str(), "lasts": time(*lasts), "replicas": replicas, "zone": keep.zone_name() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, parse};

    fn read(text: &str) -> ScalingPolicy {
        let file = format!("[services.a]\nimage = \"a\"\n[services.a.scaling]\n{text}");
        let model = parse(&file, Format::Toml).unwrap_or_else(|problems| panic!("{file}\n{problems}"));
        model.services.into_values().next().expect("one").scaling.clone()
    }

    fn lines(written: &Written) -> String {
        written.iter().map(|(key, value)| format!("{key} = {}\n", toml(value))).collect()
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        for text in [
            "",
            "policy = \"hpa\"\ntarget = 0.55\nidle = \"kpa\"\n",
            "policy = \"work\"\nwait_probability = 0.1\nidle = \"5m\"\n",
            "policy = \"work\"\ngoal = \"p99.9 wait < 1s 500ms\"\ncalm = \"1m 30s\"\n",
            "policy = \"work\"\nlate_worth = \"40s\"\nlate_after = \"2s\"\nconcurrency = 8\nmin = 1\nmax = 40\ninitial = 2\n\
             keep_warm = [{ cron = \"0 8 * * mon-fri\", lasts = \"10h\", replicas = 2, zone = \"Europe/Berlin\" }]\n\
             target_rps = 50\ntarget_cpu = 0.7\ntarget_memory = 0.8\n",
            "policy = \"kpa\"\nstable_window = \"30s\"\nsurge_window = 0.2\nsurge_threshold = 3\nmax_up_rate = 10\nmax_down_rate = 4\n\
             scale_down_delay = \"1m\"\ndrain = \"5s\"\nhold = \"2m\"\nqueue = 50\n",
        ] {
            let (first, written) = (read(text), lines(&written(&read(text))));
            assert_eq!(read(&written), first, "{text} became {written}");
        }
    }

    #[test]
    fn defaults_are_left_out() {
        assert_eq!(lines(&written(&ScalingPolicy::default())), "policy = \"work\"\nlate_worth = \"1m\"\n");
        let work = "policy = \"work\"\nlate_worth = \"1m\"\n";
        assert_eq!(lines(&written(&read("policy = \"work\""))), work, "but for what the law aims at");
    }

    #[test]
    fn keys_that_a_law_does_not_look_at() {
        const RATES: [&str; 4] = ["surge_window", "max_up_rate", "max_down_rate", "scale_down_delay"];
        for (text, more) in [
            ("", &["target", "stable_window", "surge_threshold"][..]),
            ("policy = \"work\"\nidle = \"kpa\"\n", &["target", "surge_threshold"]),
            ("policy = \"work\"\ntarget_cpu = 0.5\n", &["target", "surge_threshold"]),
            ("policy = \"work\"\ntarget_rps = 5\n", &["target"]),
            ("policy = \"hpa\"\n", &["surge_threshold"]),
            ("policy = \"hpa\"\ntarget_rps = 5\n", &[]),
        ] {
            let scaling = read(text);
            for key in KEYS {
                let ignored = more.contains(key) || RATES.contains(key);
                assert_eq!(has_effect(key, &scaling), !ignored, "{key} beside {text}");
            }
        }
        let kpa = read("policy = \"kpa\"\n");
        assert!(KEYS.iter().all(|key| has_effect(key, &kpa)));
    }

    #[test]
    fn keys_that_counts_leave_nothing_to() {
        let because = |text: &str, why| {
            let scaling = read(text);
            let keys = KEYS.iter().filter(|key| why_no_effect(key, &scaling) == Some(why));
            keys.copied().collect::<Vec<_>>()
        };
        assert_eq!(because("min = 1\n", Because::Min), ["idle"]);
        assert_eq!(because("policy = \"kpa\"\nmin = 1\n", Because::Min), ["idle"]);
        let signals = ["target_rps", "target_cpu", "target_memory"];
        let aims = ["goal", "wait_probability", "late_worth", "calm"];
        assert_eq!(because("min = 2\nmax = 2\n", Because::Fixed), [&signals[..], &aims].concat());
        assert_eq!(because("min = 1\nmax = 2\n", Because::Fixed), [""; 0]);
    }
}
