//! What a label has to be for a service to run there. Asked of hosts here, and of nodes by their cluster. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a service asks of one label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// It is one of these.
    AnyOf(Vec<String>),
    /// It is none of these, or it is not there.
    NoneOf(Vec<String>),
}

/// Values of which some are excluded and others are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mixed;

impl Constraint {
    /// As the file has it: values, or values that begin with `!`.
    ///
    /// # Errors
    /// [`Mixed`].
    pub fn of(values: Vec<String>) -> Result<Self, Mixed> {
        let excluded: Vec<String> =
            values.iter().filter_map(|value| value.strip_prefix('!')).map(str::to_owned).collect();
        if excluded.is_empty() {
            Ok(Self::AnyOf(values))
        } else if excluded.len() == values.len() {
            Ok(Self::NoneOf(excluded))
        } else {
            Err(Mixed)
        }
    }

    /// What it compares with.
    #[must_use]
    pub fn values(&self) -> &[String] {
        match self {
            Self::AnyOf(values) | Self::NoneOf(values) => values,
        }
    }

    /// Whether it asks for one of several, which is more than one comparison.
    #[must_use]
    pub fn has_choice(&self) -> bool {
        matches!(self, Self::AnyOf(values) if values.len() > 1)
    }

    /// Whether a label may be this; `None`: it is not there.
    #[must_use]
    pub fn allows(&self, found: Option<&str>) -> bool {
        let is = |value: &String| found == Some(value.as_str());
        match self {
            Self::AnyOf(values) => values.iter().any(is),
            Self::NoneOf(values) => !values.iter().any(is),
        }
    }
}

/// One value that it has to be.
impl From<&str> for Constraint {
    fn from(value: &str) -> Self {
        Self::AnyOf(vec![value.to_owned()])
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyOf(values) => f.write_str(&values.join(" or ")),
            Self::NoneOf(values) => write!(f, "not {}", values.join(" or ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Result<Constraint, Mixed> {
        Constraint::of(values.iter().map(|value| (*value).to_owned()).collect())
    }

    #[test]
    fn labels_are_one_of_several_or_none_of_them() {
        for (values, words, allowed, refused) in [
            (&["ssd"] as &[_], "ssd", &[Some("ssd")] as &[_], &[Some("hdd"), Some(""), None] as &[_]),
            (&["a", "b"], "a or b", &[Some("a"), Some("b")], &[Some("c"), Some("a or b"), None]),
            (&["!hdd"], "not hdd", &[Some("ssd"), Some("!hdd"), None], &[Some("hdd")]),
            (&["!a", "!b"], "not a or b", &[Some("c"), None], &[Some("a"), Some("b")]),
        ] {
            let constraint = of(values).expect("not mixed");
            assert_eq!(constraint.to_string(), words);
            assert!(allowed.iter().all(|found| constraint.allows(*found)), "{values:?}");
            assert!(!refused.iter().any(|found| constraint.allows(*found)), "{values:?}");
        }
        assert_eq!(of(&["a", "!b"]), Err(Mixed));
    }
}
