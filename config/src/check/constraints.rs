//! What a service asks of labels.

use std::collections::BTreeMap;

use super::{At, value};
use crate::{
    constraint::{Constraint, Mixed},
    decode::{Named, leaf::Wanted},
    problem::Draft,
};

pub(super) fn check(
    raw: Option<At<Named<At<Wanted>>>>,
    problems: &mut Vec<Draft>,
) -> BTreeMap<String, Constraint> {
    let named = value::of(raw, Named::default()).0;
    named.into_iter().filter_map(|(name, wanted)| Some((name.value, one(&wanted, problems)?))).collect()
}

fn one(wanted: &At<Wanted>, problems: &mut Vec<Draft>) -> Option<Constraint> {
    const ALLOWED: &str =
        "a value, [\"a\", \"b\"] for one of several, \"!a\" or [\"!a\", \"!b\"] for none of them";
    if wanted.value.0.is_empty() || wanted.value.0.iter().any(|value| value == "!") {
        problems.push(wanted.problem("asks for nothing").allowed(ALLOWED));
        return None;
    }
    match Constraint::of(wanted.value.0.clone()) {
        Ok(constraint) => Some(constraint),
        Err(Mixed) => {
            problems.push(wanted.problem("some values are excluded, and others are not").allowed(ALLOWED));
            None
        }
    }
}
