//! Which law says how many replicas a service gets, and what it aims at: one aim, and only for the law that has one.

use std::time::Duration;

use super::value;
use crate::{
    decode::{At, leaf::Span},
    model::{Aim, Goal, Law, NotAGoal, Work},
    problem::Draft,
    raw,
    tree::Origin,
};

/// The law and its aim.
pub(super) fn check(raw: &raw::Scaling, default: &Work, problems: &mut Vec<Draft>) -> (Law, Work) {
    let law = raw.policy.as_ref().map_or(Law::default(), |law| law.value);
    if law != Law::Work {
        problems.extend(idle_keys(raw));
        return (law, default.clone());
    }
    let calm = value::span(raw.calm.clone(), default.calm);
    let (late_after, aim) = aim(raw, default, problems);
    (law, Work { late_after, aim, calm, parts: default.parts })
}

/// Keys that the law does not look at.
fn idle_keys(raw: &raw::Scaling) -> impl Iterator<Item = Draft> {
    const MESSAGE: &str = "has no effect";
    let found = [
        raw.goal.as_ref().map(|goal| goal.problem(MESSAGE)),
        raw.wait_probability.as_ref().map(|share| share.problem(MESSAGE)),
        raw.late_worth.as_ref().map(|worth| worth.problem(MESSAGE)),
        raw.late_after.as_ref().map(|after| after.problem(MESSAGE)),
        raw.calm.as_ref().map(|calm| calm.problem(MESSAGE)),
    ];
    let help = || "write `policy = \"work\"`, or leave `policy` out".to_owned();
    found.into_iter().flatten().map(move |draft| draft.allowed("with policy = \"work\" only").help(help()))
}

/// When a request is late, and how many may be.
fn aim(raw: &raw::Scaling, default: &Work, problems: &mut Vec<Draft>) -> (Duration, Aim) {
    if let Some(goal) = &raw.goal {
        let others = [other(&raw.wait_probability), other(&raw.late_worth), bound(&raw.late_after)];
        problems.extend(besides("goal", &goal.at, others));
        return match goal.value.parse::<Goal>() {
            Ok(goal) => (goal.wait, Aim::Share(goal.share)),
            Err(why) => {
                problems
                    .push(goal.problem(why.to_string()).allowed(Goal::FORM).help(meant(&goal.value, why)));
                (default.late_after, default.aim)
            }
        };
    }
    if let Some(share) = &raw.wait_probability {
        let others = [other(&raw.late_worth), bound(&raw.late_after), None];
        problems.extend(besides("wait_probability", &share.at, others));
        if !(0.0001..=0.5).contains(&share.value) {
            problems.push(share.problem("out of range").allowed("0.0001 to 0.5"));
        }
        return (Duration::ZERO, Aim::Share(share.value));
    }
    let late_after = value::span(raw.late_after.clone(), default.late_after);
    let worth = raw.late_worth.clone().map(|worth| value::lasting(Some(worth), Duration::ZERO, problems));
    (late_after, worth.map_or(default.aim, Aim::Worth))
}

fn other<T>(setting: &Option<At<T>>) -> Option<Draft> {
    setting.as_ref().map(|setting| setting.problem("a second aim"))
}

fn bound(late_after: &Option<At<Span>>) -> Option<Draft> {
    late_after.as_ref().map(|setting| setting.problem("a second bound: the aim says already who is late"))
}

/// What the author of something that is no goal probably wanted.
fn meant(text: &str, why: NotAGoal) -> Option<String> {
    match Goal::meant(text) {
        Some(goal) => Some(format!("did you mean \"{goal}\"?")),
        None if why == NotAGoal::Nothing => {
            Some("write `wait_probability = 0.05` if 5 % may wait at all".to_owned())
        }
        None => None,
    }
}

/// One aim is enough.
fn besides(aim: &'static str, at: &Origin, others: [Option<Draft>; 3]) -> impl Iterator<Item = Draft> {
    let said = others.into_iter().flatten();
    said.map(move |draft| draft.also(at, aim).allowed(format!("either this or {aim}")))
}
