//! Settings to be tried, as the command line has them: `policy=work,late_worth=60s` is what stands under `scaling` in the
//! file, read and checked as that. What a text says is taken apart by [`said`](super::said).

use serde_json::Value;
use tidegate_config::{
    Format, Place, Problem, Problems,
    model::{Law, ScalingPolicy},
    written::{has_effect, toml, written},
};

use super::said::Said;
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

/// How keys are told from those of a whole file, which nobody wrote.
const SECTION: &str = "services.tried.scaling";

/// Reads settings: those of `base`, but for what `text` says instead.
pub(in crate::cli) fn read(base: &ScalingPolicy, text: &str) -> Result<Setting, Misuse> {
    let said = Said::of(text)?;
    let mut left = left(base, &said.pairs);
    // What one law would look at is no part of settings for another.
    let first = said.over(&left)?;
    left.retain(|(key, _)| has_effect(key, &first));
    let mut scaling = said.over(&left)?;
    said.switch_off(&mut scaling)?;
    said.check_effect(&scaling)?;
    Ok(Setting { name: text.to_owned(), scaling })
}

impl Said<'_> {
    /// These settings and what is left of others, read and checked as a file.
    fn over(&self, left: &[(&'static str, Value)]) -> Result<ScalingPolicy, Misuse> {
        if self.pairs.iter().any(|(key, _)| MEASURED.contains(key)) {
            return Err(
                self.wrong("what replicas use is not simulated; leave target_cpu and target_memory out")
            );
        }
        let mut file = format!("[services.tried]\nimage = \"tried\"\n[{SECTION}]\n");
        for (key, value) in left {
            file += &format!("{key} = {}\n", toml(value));
        }
        for (key, value) in &self.pairs {
            let bare = value.parse::<f64>().is_ok() || value.starts_with(['[', '"', '\'']);
            let value = if bare { (*value).to_owned() } else { format!("{value:?}") };
            file += &format!("{key} = {value}\n");
        }
        let model =
            tidegate_config::parse(&file, Format::Toml).map_err(|problems| self.problems(&problems))?;
        let service = model.services.into_values().next().expect("one service is in the file");
        Ok(service.scaling.clone())
    }

    fn switch_off(&self, scaling: &mut ScalingPolicy) -> Result<(), Misuse> {
        if let (Some(_), law @ (Law::Kpa | Law::Hpa)) = (self.without.first(), scaling.law) {
            return Err(self.wrong(&format!(
                "{law} has no parts that could be switched off; leave `without` out, or try policy=work,without={}",
                self.without.join("+")
            )));
        }
        if self.without.contains(&"keep") && self.says("idle") {
            return Err(self.wrong(
                "`without=keep` and `idle` contradict each other: without `keep` the last replica goes after 60s; leave one of them out",
            ));
        }
        for part in &self.without {
            if !scaling.switch_off(part) {
                let all = ScalingPolicy::PARTS.join(", ");
                return Err(self.wrong(&format!("the law has no part {part:?}; it has {all}")));
            }
        }
        Ok(())
    }

    /// Nobody tries a setting in order to see nothing of it.
    fn check_effect(&self, scaling: &ScalingPolicy) -> Result<(), Misuse> {
        let ignored: Vec<_> = self.pairs.iter().filter(|(key, _)| !has_effect(key, scaling)).collect();
        if ignored.is_empty() {
            return Ok(());
        }
        let keys = ignored.iter().map(|(key, _)| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let same: String = ignored.iter().map(|(key, value)| format!(",{key}={value}")).collect();
        let (has, it) = if ignored.len() == 1 { ("has", "it") } else { ("have", "them") };
        Err(self.wrong(&format!(
            "{keys} {has} no effect under policy={}; leave {it} out, or try policy=kpa{same}",
            scaling.law
        )))
    }

    /// Problems of the file, as those of the words that it was made of.
    fn problems(&self, problems: &Problems) -> Misuse {
        let own = |problem: &Problem| {
            let place = Place::Whole { file: format!("--try '{}'", self.text) };
            let key =
                problem.key.strip_prefix(SECTION).unwrap_or(&problem.key).trim_start_matches('.').to_owned();
            let help = problem.help.clone().filter(|help| !help.contains("services.tried"));
            Problem { place, key, help, excerpt: None, also: Vec::new(), ..problem.clone() }
        };
        let all = problems.list().iter().map(own).map(|problem| problem.to_string());
        Misuse(all.collect::<Vec<_>>().join("\n").trim_end().to_owned())
    }
}

/// What is left of the base beside what is said: another law has other settings, another aim stands alone.
fn left(base: &ScalingPolicy, pairs: &[(&str, &str)]) -> Vec<(&'static str, Value)> {
    let said = |key: &str| pairs.iter().find(|(other, _)| *other == key).map(|(_, value)| *value);
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

/// Knative's law over the settings that are usually turned, and ours over what a late request is worth; both over how long the last
/// replica is kept.
pub(in crate::cli) fn sweep() -> Vec<String> {
    const IDLE: [&str; 3] = ["60s", "10s", "600s"];
    let mut all = Vec::new();
    for target in ["0.7", "0.5", "0.9"] {
        for window in ["60s", "15s", "120s"] {
            for idle in IDLE {
                all.push(format!("policy=kpa,target={target},stable_window={window},idle={idle}"));
            }
        }
    }
    for worth in ["1s", "3s", "10s", "20s", "40s", "80s", "160s", "320s", "640s", "1280s", "2560s", "5120s"] {
        all.push(format!("policy=work,late_worth={worth},idle=auto"));
    }
    for worth in ["1s", "10s", "80s"] {
        all.extend(IDLE.map(|idle| format!("policy=work,late_worth={worth},idle={idle}")));
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
        assert!(said("").starts_with("--try is empty; "));
        assert!(said(" , ").starts_with("--try is empty; "));
        assert!(said("kpa,without=calm+keep").ends_with("or try policy=work,without=calm+keep"));
        assert!(said("without=keep,idle=5m").contains("contradict each other"));
    }

    #[test]
    fn problems_cite_the_words_that_were_tried() {
        for text in
            ["policy=word", "min=20", "kpa,calm=1m", "goal=p95 wait < 1s,late_worth=5s", "min=[", "memory=5"]
        {
            let said = read(&ScalingPolicy::default(), text).expect_err("wrong").0;
            assert!(said.starts_with(&format!("--try '{text}': ")), "{said}");
            for other in ["tidegate.toml", "services.tried", "problem"] {
                assert!(!said.contains(other), "{said}");
            }
        }
    }

    #[test]
    fn what_would_have_no_effect_is_not_tried() {
        let said = |base, text| read(base, text).map_err(|wrong| wrong.0);
        let work = ScalingPolicy::default();
        assert_eq!(
            said(&work, "target=0.5").expect_err("for kpa"),
            "--try 'target=0.5': `target` has no effect under policy=work; leave it out, or try policy=kpa,target=0.5"
        );
        let both =
            said(&work, "policy=work,late_worth=5s,stable_window=30s,max_up_rate=9").expect_err("for kpa");
        assert!(both.contains("`stable_window`, `max_up_rate` have no effect"), "{both}");
        assert!(
            both.ends_with("leave them out, or try policy=kpa,stable_window=30s,max_up_rate=9"),
            "{both}"
        );
        for text in [
            "kpa,target=0.5",
            "hpa,target=0.5",
            "without=staffing,target=0.5",
            "stable_window=30s,target_rps=5",
            "stable_window=30s,idle=kpa",
        ] {
            said(&work, text).unwrap_or_else(|wrong| panic!("{wrong}"));
        }
        let kpa = said(&work, "kpa").expect("good").scaling;
        assert!(said(&kpa, "target=0.5").is_ok(), "the law of the file is the one that it is tried with");
    }

    #[test]
    fn everything_that_is_swept_can_be_used() {
        assert_eq!(sweep().len(), 48);
        for text in sweep() {
            read(&ScalingPolicy::default(), &text).expect("good");
        }
    }
}
