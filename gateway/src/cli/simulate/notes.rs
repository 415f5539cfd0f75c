//! What the figures alone do not tell of a setting: whether its goal is met, and what of it did not show in this traffic.

use std::time::Duration;

use jiff::Timestamp;
use tidegate_config::model::{Aim, KeepWarm, Law, ScalingPolicy, Work};

use super::{settings::Setting, table};
use crate::simulate::replay::Outcome;

/// Sentences; `lasts`: when each part of the traffic begins, and for how long it lasts.
pub(super) fn of(
    setting: &Setting,
    outcome: &Outcome,
    late_after: Duration,
    lasts: &[(Timestamp, Duration)],
) -> Vec<String> {
    let late = judged(setting, outcome, late_after).or_else(|| other_bound(setting, late_after));
    late.into_iter().chain(never_by_clock(setting, lasts)).collect()
}

/// Where replicas are weighed against other waits than those that count as late.
fn other_bound(setting: &Setting, late_after: Duration) -> Option<String> {
    let ScalingPolicy { law: Law::Work, work: Work { aim: Aim::Worth(_), late_after: own, .. }, .. } =
        setting.scaling
    else {
        return None;
    };
    let (name, wait) = (&setting.name, humantime::format_duration(own));
    (own != late_after).then(|| {
        format!("{name} spares waits of more than {wait}: what that does is told by --late-after {wait}")
    })
}

/// Whether a goal is met, by its own bound; where `late` in the table tells that, only one that is not.
fn judged(setting: &Setting, outcome: &Outcome, late_after: Duration) -> Option<String> {
    let goal = setting.goal()?;
    let own = setting.scaling.work.late_after;
    let (share, later) = (outcome.beyond_share(), outcome.halves[1].share());
    let is_met = share <= goal;
    if is_met && own == late_after {
        return None;
    }
    let [share, later, goal] = [share, later, goal].map(table::percent);
    let (verdict, own) = (if is_met { "met" } else { "missed" }, humantime::format_duration(own));
    Some(format!(
        "{} is {verdict}: {share} waited more than {own}, {goal} may; {later} of those in the second half did, when more was learned",
        setting.name
    ))
}

/// Replicas by the clock of which nothing is seen, as none of the traffic (when it begins, and how long it lasts) shows their times.
fn never_by_clock(setting: &Setting, lasts: &[(Timestamp, Duration)]) -> Option<String> {
    let keep_warm = &setting.scaling.keep_warm;
    let holds = |keep: &KeepWarm| lasts.iter().any(|(begins, length)| keep.holds_within(*begins, *length));
    let never: Vec<_> = keep_warm
        .iter()
        .filter(|keep| !holds(keep))
        .map(|keep| format!("'{}'", keep.cron.as_str()))
        .collect();
    let which = match never.len() {
        0 => return None,
        all if all == keep_warm.len() => "`keep_warm`".to_owned(),
        _ => format!("`keep_warm` at {}", never.join(" and at ")),
    };
    let name = &setting.name;
    Some(format!("{which} of {name} does not hold while this traffic lasts; --begins says when it begins"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::simulate::settings, simulate::replay::outcome::Half};

    fn of(text: &str) -> Setting {
        settings::read(&ScalingPolicy::default(), text).expect("good")
    }

    #[test]
    fn replicas_that_the_clock_never_asks_for_are_told() {
        let told = |warm: &str, begins: &str| {
            let lasts = [(begins.parse().expect("a time"), Duration::from_secs(300))];
            never_by_clock(&of(&format!("work,keep_warm=[{warm}]")), &lasts)
        };
        let (morning, noon) = ("{ cron = '0 8 * * *' }", "{ cron = '0 12 * * *' }");
        assert_eq!(told(morning, "2026-11-29T07:58:00Z"), None);
        let never = " does not hold while this traffic lasts; --begins says when it begins";
        let said = told(morning, "2026-11-29T08:01:00Z").expect("it is over");
        assert!(said.starts_with("`keep_warm` of ") && said.ends_with(never), "{said}");
        let said = told(&format!("{morning}, {noon}"), "2026-11-29T07:58:00Z").expect("noon never comes");
        assert!(said.starts_with("`keep_warm` at '0 12 * * *' of "), "{said}");
    }

    #[test]
    fn a_goal_is_judged_by_its_own_bound() {
        let told = |beyond, late_after| {
            let setting = of("work,goal=p95 wait < 50ms");
            let halves = [Half { requests: 50, beyond }, Half { requests: 50, beyond: 1 }];
            let outcome = Outcome { requests: 100, late: 90, halves, ..Outcome::default() };
            judged(&setting, &outcome, Duration::from_millis(late_after))
        };
        let missed = "work,goal=p95 wait < 50ms is missed: 6.000% waited more than 50ms, 5.000% may; 2.000% of those in the second \
                      half did, when more was learned";
        assert_eq!(told(5, 50).as_deref(), Some(missed));
        assert_eq!(told(5, 500).as_deref(), Some(missed));
        assert_eq!(told(4, 50), None, "the table tells it");
        assert!(told(4, 500).expect("the table tells of other waits").contains(" is met: 5.000%"));
    }
}
