//! Settings of the command line taken apart: `work,late_worth=60s` as keys and values. Called by
//! [`settings`](super::settings), which reads those as a file. Holds: every key is there once and has a value.
//! Absent: what keys and values mean. Pure.

use tidegate_config::{model::Law, written::KEYS};

use crate::cli::output::Misuse;

const POLICY: &str = "policy";
const WITHOUT: &str = "without";

/// What a text says.
pub(super) struct Said<'t> {
    pub(super) text: &'t str,
    pub(super) pairs: Vec<(&'t str, &'t str)>,
    /// Parts of the law to be switched off.
    pub(super) without: Vec<&'t str>,
}

impl<'t> Said<'t> {
    pub(super) fn of(text: &'t str) -> Result<Self, Misuse> {
        let mut said = Self { text, pairs: Vec::new(), without: Vec::new() };
        if text.trim_matches(|c: char| c == ',' || c.is_whitespace()).is_empty() {
            return Err(Misuse(
                "--try is empty; say what to try, as in --try policy=work,late_worth=30s".to_owned(),
            ));
        }
        for part in parts(text).map(str::trim) {
            if part.is_empty() {
                return Err(
                    said.wrong("a setting is missing beside a comma; write one there, or take the comma out")
                );
            }
            match said.pair(part)? {
                (WITHOUT, value) => said.without.extend(value.split('+').map(str::trim)),
                (key, _) if said.says(key) => {
                    return Err(said.wrong(&format!("`{key}` is said twice; leave one of them out")));
                }
                pair => said.pairs.push(pair),
            }
        }
        Ok(said)
    }

    /// Whether it has a value for that key.
    pub(super) fn says(&self, key: &str) -> bool {
        self.pairs.iter().any(|(other, _)| *other == key)
    }

    pub(super) fn wrong(&self, what: &str) -> Misuse {
        Misuse(format!("--try '{}': {what}", self.text))
    }

    /// A key and its value; a word alone is a policy, if it can be one.
    fn pair(&self, part: &'t str) -> Result<(&'t str, &'t str), Misuse> {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key.trim(), value.trim()),
            None if is_key(part) || self.says(POLICY) && !is_policy(part) => (part, ""),
            None => (POLICY, part),
        };
        let is_several = |text: &str| text.contains(is_gap);
        if is_several(key) || key == POLICY && is_several(value) || runs_on(value) {
            return Err(self.wrong("separate settings with commas, as in kpa,target=0.5"));
        }
        if value.is_empty() {
            return Err(self.wrong(&format!("`{key}` has no value: write {key}=...")));
        }
        Ok((key, value))
    }
}

fn is_key(word: &str) -> bool {
    word == WITHOUT || KEYS.contains(&word)
}

fn is_policy(word: &str) -> bool {
    Law::ALL.iter().any(|law| law.to_string() == word)
}

/// What others separate settings with.
fn is_gap(c: char) -> bool {
    c.is_whitespace() || c == ';'
}

/// Whether a further key stands in a value.
fn runs_on(value: &str) -> bool {
    let before = value.match_indices('=').map(|(at, _)| value[..at].trim_end());
    before.filter_map(|before| before.rsplit(is_gap).next()).any(is_key)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        Said::of(text).map(|said| said.pairs.len()).expect_err("wrong").0
    }

    #[test]
    fn a_key_is_there_once() {
        let twice = "without=keep,idle=5m, idle = 6m";
        assert_eq!(wrong(twice), format!("--try '{twice}': `idle` is said twice; leave one of them out"));
        assert!(wrong("work,,max=3").contains("a setting is missing beside a comma"));
        assert!(wrong("kpa,work").ends_with("`policy` is said twice; leave one of them out"));
        assert_eq!(Said::of("without=calm,without=keep").expect("good").without, ["calm", "keep"]);
    }

    #[test]
    fn a_key_has_a_value() {
        for (text, key) in [
            ("work,late_worth", "late_worth"),
            ("late_worth=", "late_worth"),
            ("without", "without"),
            ("work,targte", "targte"),
        ] {
            assert!(wrong(text).ends_with(&format!(": `{key}` has no value: write {key}=...")), "{text}");
        }
        assert_eq!(
            Said::of("word").expect("good").pairs,
            [("policy", "word")],
            "what that is, the file says"
        );
    }

    #[test]
    fn settings_are_separated_with_commas() {
        for text in [
            "kpa target=0.5",
            "kpa;target = 0.5",
            "policy=kpa target = 0.5",
            "goal=p95 wait < 50ms idle=5m",
            "kpa idle",
        ] {
            assert!(wrong(text).ends_with(": separate settings with commas, as in kpa,target=0.5"), "{text}");
        }
        let warm = r#"goal=p95 wait < 50ms,keep_warm=[{ cron = "0 8,12 * * *", lasts = "1h" }],idle=1h 30m"#;
        assert_eq!(Said::of(warm).expect("good").pairs.len(), 3);
    }
}
