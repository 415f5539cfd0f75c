//! Settings to be tried, as the command line has them: `policy=work,late_worth=60s` is what stands under `scaling` in the
//! file, read and checked as that. What a text says is taken apart by [`said`](super::said).

use serde_json::Value;
use tidegate_config::{
    Format, Place, Problem, Problems,
    model::{Aim, Law, ScalingPolicy, Work},
    written::{Because, KEYS, has_effect, toml, why_no_effect, written},
};

use super::said::Said;
use crate::cli::output::Misuse;

/// Settings with a name.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Setting {
    pub(in crate::cli) name: String,
    pub(in crate::cli) scaling: ScalingPolicy,
    /// `late_after` is said, and not only left as it is.
    says_late_after: bool,
}

impl Setting {
    /// What the file says, or the defaults.
    pub(in crate::cli) fn own(name: String, scaling: ScalingPolicy) -> Self {
        let says_late_after = scaling.work.late_after != Work::default().late_after;
        Self { name, scaling, says_late_after }
    }

    /// Whether it comes to the same, whatever it is called.
    pub(in crate::cli) fn is_same(&self, other: &Self) -> bool {
        (&self.scaling, self.says_late_after) == (&other.scaling, other.says_late_after)
    }

    /// The share of requests that may wait longer than `late_after`, where that is the aim.
    pub(in crate::cli) fn goal(&self) -> Option<f64> {
        match self.scaling.work.aim {
            Aim::Share(goal) if self.scaling.law == Law::Work => Some(goal),
            _ => None,
        }
    }

    /// Whether it has to be told what is late: where a goal says it that is known, and other laws do not ask.
    pub(in crate::cli) fn asks_what_is_late(&self) -> bool {
        self.scaling.law == Law::Work && matches!(self.scaling.work.aim, Aim::Worth(_))
    }

    /// Whether it says what is late, by itself or with a goal.
    pub(in crate::cli) fn says_what_is_late(&self) -> bool {
        self.scaling.law == Law::Work && (self.says_late_after || !self.asks_what_is_late())
    }
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
    let own = Setting::own(text.to_owned(), scaling);
    Ok(Setting { says_late_after: own.says_late_after || said.says("late_after"), ..own })
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
        for why in [Because::Law, Because::Min, Because::Fixed] {
            let none = |(key, _): &&(&str, &str)| why_no_effect(key, scaling) == Some(why);
            let none: Vec<_> = self.pairs.iter().filter(none).copied().collect();
            if !none.is_empty() {
                return Err(self.wrong(&no_effect(&none, why, scaling)));
            }
        }
        let ScalingPolicy { min, keep_warm, .. } = scaling;
        let is_there = !keep_warm.is_empty() && keep_warm.iter().all(|keep| keep.replicas <= *min);
        if self.says("keep_warm") && is_there {
            return Err(self.wrong(&format!(
                "`keep_warm` has no effect beside min={min}, which always keeps as many; leave it out, or ask for more replicas"
            )));
        }
        if self.without.contains(&"keep") && *min > 0 {
            return Err(self.wrong(&format!(
                "`without=keep` has no effect beside min={min}, as the last replica never goes; leave it out, or try it with min=0"
            )));
        }
        Ok(())
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
        let all: Vec<_> = problems.list().iter().map(own).collect();
        // What is left of the base is wrong only because of what was said.
        let (left, said): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|problem| KEYS.contains(&problem.key.as_str()) && !self.says(&problem.key));
        let shown = if said.is_empty() { left } else { said };
        let all = shown.iter().map(ToString::to_string);
        Misuse(all.collect::<Vec<_>>().join("\n").trim_end().to_owned())
    }
}

/// Settings without effect, why they have none, and what to do.
fn no_effect(none: &[(&str, &str)], why: Because, scaling: &ScalingPolicy) -> String {
    let ScalingPolicy { law, min, max, .. } = scaling;
    let keys = none.iter().map(|(key, _)| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    let same: String = none.iter().map(|(key, value)| format!(",{key}={value}")).collect();
    let (has, it) = if none.len() == 1 { ("has", "it") } else { ("have", "them") };
    let (why, instead) = match why {
        Because::Law => (format!("under policy={law}"), format!("policy=kpa{same}")),
        Because::Min => (format!("beside min={min}, as the last replica never goes"), format!("min=0{same}")),
        Because::Fixed => (
            format!("beside min={min} and max={max}, which leave nothing to decide"),
            "a larger max".to_owned(),
        ),
    };
    format!("{keys} {has} no effect {why}; leave {it} out, or try {instead}")
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
/// replica is kept, if it ever goes.
pub(in crate::cli) fn sweep(base: &ScalingPolicy) -> Result<Vec<String>, Misuse> {
    if base.is_fixed() {
        let both = base.max;
        return Err(Misuse(format!(
            "`min` and `max` of the service are both {both}, which leaves nothing to decide: say a larger `max`"
        )));
    }
    let goes = base.min == 0;
    let idle: &[&str] = if goes { &[",idle=60s", ",idle=10s", ",idle=600s"] } else { &[""] };
    let mut all = Vec::new();
    for target in ["0.7", "0.5", "0.9"] {
        for window in ["60s", "15s", "120s"] {
            for idle in idle {
                all.push(format!("policy=kpa,target={target},stable_window={window}{idle}"));
            }
        }
    }
    let learned = if goes { ",idle=auto" } else { "" };
    for worth in ["1s", "3s", "10s", "20s", "40s", "80s", "160s", "320s", "640s", "1280s", "2560s", "5120s"] {
        all.push(format!("policy=work,late_worth={worth}{learned}"));
    }
    for worth in ["1s", "10s", "80s"].into_iter().filter(|_| goes) {
        all.extend(idle.iter().map(|idle| format!("policy=work,late_worth={worth}{idle}")));
    }
    Ok(all)
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
        let kpa = read(&ScalingPolicy::default(), "kpa,initial=2,target=0.5,idle=5m").expect("good").scaling;
        assert_eq!(
            of(&kpa, "stable_window=30s"),
            "policy=kpa initial=2 target=0.5 stable_window=30s idle=5m"
        );
        assert_eq!(of(&kpa, "work"), "policy=work late_worth=1m initial=2", "nor what it does not look at");
        let goal = read(&kpa, "policy=work,goal=p95 wait < 50ms,calm=1m").expect("good").scaling;
        assert_eq!(of(&goal, "late_worth=5s"), "policy=work late_worth=5s calm=1m initial=2");
        assert_eq!(of(&goal, "kpa"), "policy=kpa initial=2");
        let fixed = read(&kpa, "policy=work,idle=5m").expect("good").scaling;
        assert_eq!(of(&fixed, "late_worth=5s"), "policy=work late_worth=5s initial=2 idle=5m");
        assert_eq!(of(&fixed, "kpa"), "policy=kpa initial=2 idle=5m");
        let worth = read(&kpa, "policy=work,late_worth=5s,late_after=2s").expect("good").scaling;
        assert_eq!(of(&worth, "late_worth=9s"), "policy=work late_worth=9s late_after=2s initial=2");
        assert_eq!(of(&worth, "late_after=1s"), "policy=work late_worth=5s late_after=1s initial=2");
        assert_eq!(of(&worth, "wait_probability=0.1"), "policy=work wait_probability=0.1 initial=2");
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
        let gaol = said("work,gaol=p95 wait < 50ms");
        assert!(gaol.contains("did you mean `goal`?") && !gaol.contains("a second aim"), "{gaol}");
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
        assert_eq!(
            said(&work, "min=2,idle=5m").expect_err("never idle"),
            "--try 'min=2,idle=5m': `idle` has no effect beside min=2, as the last replica never goes; leave it out, or try \
             min=0,idle=5m"
        );
        assert_eq!(
            said(&work, "min=2,max=2,late_worth=5s,calm=1m").expect_err("nothing to decide"),
            "--try 'min=2,max=2,late_worth=5s,calm=1m': `late_worth`, `calm` have no effect beside min=2 and max=2, which leave \
             nothing to decide; leave them out, or try a larger max"
        );
        let warm = "min=2,keep_warm=[{ cron = '0 8 * * *' }]";
        assert_eq!(
            said(&work, warm).expect_err("there anyway"),
            format!(
                "--try '{warm}': `keep_warm` has no effect beside min=2, which always keeps as many; leave it out, or ask for more \
                 replicas"
            )
        );
        assert!(
            said(&work, "min=2,without=calm+keep")
                .expect_err("never idle")
                .contains("`without=keep` has no effect beside min=2")
        );
        let warm = "min=2,keep_warm=[{ cron = '0 8 * * *', replicas = 3 }]";
        for text in [
            warm,
            "keep_warm=[]",
            "min=2,max=2",
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
        let idle = said(&work, "idle=5m").expect("good").scaling;
        assert!(said(&idle, "min=1").is_ok(), "the file says it, and nobody tries it");
    }

    #[test]
    fn everything_that_is_swept_can_be_used() {
        let base = |text| read(&ScalingPolicy::default(), text).expect("good").scaling;
        for (base, count) in [(base("kpa"), 48), (base("min=1"), 21)] {
            let all = sweep(&base).expect("there is something to decide");
            assert_eq!(all.len(), count);
            for text in all {
                read(&base, &text).expect("good");
            }
        }
        assert_eq!(
            sweep(&base("min=2,max=2")).expect_err("there is not").0,
            "`min` and `max` of the service are both 2, which leaves nothing to decide: say a larger `max`"
        );
    }
}
