//! Settings to be tried, as the command line has them: `policy=work,late_worth=60s` is what stands under `scaling` in the
//! file, read and checked as that.

use serde_json::Value;
use tidegate_config::{
    Format,
    model::ScalingPolicy,
    written::{toml, without_effect, written},
};

use crate::cli::output::Misuse;

/// Settings with a name.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Setting {
    pub(in crate::cli) name: String,
    pub(in crate::cli) scaling: ScalingPolicy,
}

/// What a law aims at; one says it.
const AIMS: [&str; 3] = ["goal", "wait_probability", "late_worth"];
/// What only engines could tell.
const MEASURED: [&str; 2] = ["target_cpu", "target_memory"];

/// Reads settings: those of `base`, but for what `text` says instead.
pub(in crate::cli) fn read(base: &ScalingPolicy, text: &str) -> Result<Setting, Misuse> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut without = Vec::new();
    for part in parts(text).map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or(("policy", part));
        match key.trim() {
            "without" => without.extend(value.split('+').map(str::trim)),
            key => pairs.push((key.to_owned(), value.trim().to_owned())),
        }
    }
    let mut left = left(base, &pairs);
    // What one law would look at is no part of settings for another.
    let idle = without_effect(&check(text, &left, &pairs)?);
    left.retain(|(key, _)| !idle.contains(key));
    let mut scaling = check(text, &left, &pairs)?;
    if pairs.iter().any(|(key, _)| MEASURED.contains(&&**key)) {
        return Err(Misuse(format!(
            "{text:?}: what replicas use is not simulated; leave target_cpu and target_memory out"
        )));
    }
    for part in without {
        if !scaling.switch_off(part) {
            let all = ScalingPolicy::PARTS.join(", ");
            return Err(Misuse(format!("{text:?}: the law has no part {part:?}; it has {all}")));
        }
    }
    Ok(Setting { name: text.to_owned(), scaling })
}

/// What is left of the base beside what is said: another law has other settings, another aim stands alone.
fn left(base: &ScalingPolicy, pairs: &[(String, String)]) -> Vec<(&'static str, Value)> {
    let said = |key: &str| pairs.iter().find(|(other, _)| other == key).map(|(_, value)| &**value);
    let law = base.law.to_string();
    let other_law = said("policy").is_some_and(|policy| policy != law);
    let other_aim = AIMS.iter().any(|key| said(key).is_some());
    let is_left = |key: &str| match key {
        "calm" => !other_law,
        // The law that learns it does.
        "idle" => !(other_law && said("policy") == Some("work")),
        "late_after" => !other_law && (!other_aim || said("late_worth").is_some()),
        key if AIMS.contains(&key) => {
            !other_law && !other_aim && (said("late_after").is_none() || key == "late_worth")
        }
        _ => true,
    };
    written(base).into_iter().filter(|(key, _)| is_left(key) && said(key).is_none()).collect()
}

fn check(
    text: &str,
    base: &[(&'static str, Value)],
    pairs: &[(String, String)],
) -> Result<ScalingPolicy, Misuse> {
    let mut file = String::from("[services.tried]\nimage = \"tried\"\n[services.tried.scaling]\n");
    for (key, value) in base {
        file += &format!("{key} = {}\n", toml(value));
    }
    for (key, value) in pairs {
        let bare = value.parse::<f64>().is_ok() || value.starts_with(['[', '"', '\'']);
        let value = if bare { value.clone() } else { format!("{value:?}") };
        file += &format!("{key} = {value}\n");
    }
    let model = tidegate_config::parse(&file, Format::Toml)
        .map_err(|problems| Misuse(format!("the settings {text:?} cannot be used:\n{problems}")))?;
    let service = model.services.into_values().next().expect("one service is in the file");
    Ok(service.scaling.clone())
}

/// Cut at the commas that are in no list, table or string.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let (mut depth, mut quote) = (0_u32, None);
    text.split(move |c| {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') => return depth == 0,
            _ => {}
        }
        false
    })
}

/// Knative's law over the settings that are usually turned, and ours over what a late request is worth.
pub(in crate::cli) fn sweep() -> Vec<String> {
    let mut all = Vec::new();
    for target in ["0.7", "0.5", "0.9"] {
        for window in ["60s", "15s", "120s"] {
            for idle in ["60s", "10s", "600s"] {
                all.push(format!("policy=kpa,target={target},stable_window={window},idle={idle}"));
            }
        }
    }
    for worth in ["1s", "3s", "10s", "20s", "40s", "80s", "160s", "320s", "640s", "1280s", "2560s", "5120s"] {
        all.push(format!("policy=work,late_worth={worth}"));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_config::model::{Aim, Idle, Law};

    use super::*;

    #[test]
    fn settings_are_those_of_the_file() {
        let base = read(&ScalingPolicy::default(), "concurrency=4,max=50").expect("good").scaling;
        let tried =
            read(&base, "policy=work, goal=p95 wait < 50ms, max=9, without=forecast+keep").expect("good");
        assert_eq!((tried.scaling.law, tried.scaling.max), (Law::Work, 9));
        assert_eq!(tried.scaling.concurrency.map(|limit| limit.get()), Some(4));
        assert_eq!(tried.scaling.work.late_after, Duration::from_millis(50));
        assert!(matches!(tried.scaling.work.aim, Aim::Share(_)));
        let parts = tried.scaling.work.parts;
        assert!(!parts.forecast && parts.calm);
        assert_eq!(tried.scaling.idle, Idle::After(Idle::USUAL), "not learned");
        let quoted = read(&base, r#"policy=work,goal="p95 wait < 50ms""#).expect("good");
        assert_eq!(quoted.scaling.work, tried_aim(&base));
        assert_eq!(
            read(&ScalingPolicy::default(), "hpa").expect("good").scaling.law,
            Law::Hpa,
            "a word alone is a policy"
        );
    }

    fn tried_aim(base: &ScalingPolicy) -> tidegate_config::model::Work {
        read(base, "policy=work,goal=p95 wait < 50ms").expect("good").scaling.work
    }

    #[test]
    fn another_law_or_aim_stands_in_place_of_that_of_the_base() {
        let of = |base: &ScalingPolicy, text: &str| {
            let scaling = read(base, text).expect(text).scaling;
            written(&scaling)
                .iter()
                .map(|(key, value)| format!("{key}={}", value.to_string().replace('"', "")))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let kpa = read(&ScalingPolicy::default(), "kpa,min=1,target=0.5,idle=5m").expect("good").scaling;
        assert_eq!(of(&kpa, "stable_window=30s"), "policy=kpa min=1 target=0.5 stable_window=30s idle=5m");
        assert_eq!(of(&kpa, "work"), "policy=work late_worth=1m min=1", "nor what it does not look at");
        let goal = read(&kpa, "policy=work,goal=p95 wait < 50ms,calm=1m").expect("good").scaling;
        assert_eq!(of(&goal, "late_worth=5s"), "policy=work late_worth=5s calm=1m min=1");
        assert_eq!(of(&goal, "kpa"), "policy=kpa min=1");
        let fixed = read(&kpa, "policy=work,idle=5m").expect("good").scaling;
        assert_eq!(of(&fixed, "late_worth=5s"), "policy=work late_worth=5s min=1 idle=5m");
        assert_eq!(of(&fixed, "kpa"), "policy=kpa min=1 idle=5m");
        let worth = read(&kpa, "policy=work,late_worth=5s,late_after=2s").expect("good").scaling;
        assert_eq!(of(&worth, "late_worth=9s"), "policy=work late_worth=9s late_after=2s min=1");
        assert_eq!(of(&worth, "late_after=1s"), "policy=work late_worth=5s late_after=1s min=1");
        assert_eq!(of(&worth, "wait_probability=0.1"), "policy=work wait_probability=0.1 min=1");
    }

    #[test]
    fn lists_are_as_in_the_file() {
        let warm = r#"policy=work,keep_warm=[{ cron = "0 8,12 * * mon-fri", lasts = "1h" }, { cron = "0 22 * * *" }],max=9"#;
        let scaling = read(&ScalingPolicy::default(), warm).expect("good").scaling;
        assert_eq!((scaling.keep_warm.len(), scaling.max), (2, 9));
        assert_eq!(scaling.keep_warm[0].lasts, Duration::from_secs(3600));
    }

    #[test]
    fn what_is_wrong_is_said_as_the_file_would() {
        let said = |text| read(&ScalingPolicy::default(), text).expect_err("wrong").0;
        assert!(said("work,target_cpu=0.7").contains("not simulated"));
        assert!(said("policy=word").contains("did you mean \"work\"?"));
        assert!(said("targte=0.5").contains("did you mean `target`?"));
        assert!(said("policy=work,without=luck").contains("it has work, forecast"));
    }

    #[test]
    fn everything_that_is_swept_can_be_used() {
        assert_eq!(sweep().len(), 39);
        for text in sweep() {
            read(&ScalingPolicy::default(), &text).expect("good");
        }
    }
}
