//! How requests waited, whether that is what was asked for, and what the law has learned: the words of `tidegate explain` for them.

use tidegate_autoscaler::policy::work::DEAREST;

use crate::control::status::{LearnedStatus, WaitsStatus};

/// Who waited for too long.
pub(super) fn waits(waits: &WaitsStatus) -> String {
    let WaitsStatus { requests, late, cold, late_after, .. } = waits;
    let at_all = if *late_after > 0.0 {
        format!("waited longer than {}", seconds(*late_after))
    } else {
        "had to wait".into()
    };
    let of = format!("{requests} request{} in the last hour", if *requests == 1 { "" } else { "s" });
    let cold = match cold {
        0 => String::new(),
        cold => format!(" ({} came while no replica was ready)", percent(share(*cold, *requests))),
    };
    format!("{} of {of} {at_all}{cold}", percent(share(*late, *requests)))
}

/// Whether the goal is met, if there is one, and what it makes a late request worth.
pub(super) fn goal(waits: &WaitsStatus, learned: Option<&LearnedStatus>) -> Option<String> {
    let allowed = waits.allowed?;
    let late = share(waits.late, waits.requests);
    let met = if late <= allowed { "met" } else { "missed" };
    let worth = match learned.and_then(|learned| learned.worth) {
        None => String::new(),
        Some(worth) if worth < DEAREST => {
            format!("; a late request is worth {} of a replica now", seconds(worth))
        }
        Some(_) => "; a late request is worth an hour of a replica, the most that is paid".into(),
    };
    Some(format!("at most {}: {met} in the last hour{worth}", percent(allowed)))
}

/// What the law knows of the service, if it knows anything.
pub(super) fn learned(learned: &LearnedStatus) -> Option<String> {
    let LearnedStatus { request, start, peakedness, .. } = learned;
    let fluctuates = request.map(|_| match *peakedness {
        z if (0.9..1.1).contains(&z) => "what runs at once varies as by chance".to_owned(),
        z => format!("what runs at once varies {z:.1} times as much as by chance"),
    });
    let facts = [
        request.map(|time| format!("a request takes {}", seconds(time))),
        start.map(|time| format!("a start takes {}", seconds(time))),
        fluctuates,
    ];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    (!facts.is_empty()).then(|| facts.join("; "))
}

#[expect(clippy::cast_precision_loss, reason = "requests of an hour")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / (whole as f64).max(1.0)
}

/// Two digits that matter.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        0.0 | 100.0 | 10.0.. => format!("{percent:.0} %"),
        1.0.. => trimmed(format!("{percent:.1}"), " %"),
        0.005.. => trimmed(format!("{percent:.2}"), " %"),
        _ => "less than 0.01 %".into(),
    }
}

fn seconds(seconds: f64) -> String {
    match seconds {
        ..0.0001 => "less than 0.1 ms".into(),
        ..0.01 => trimmed(format!("{:.1}", seconds * 1e3), " ms"),
        ..1.0 => format!("{:.0} ms", seconds * 1e3),
        _ => trimmed(format!("{seconds:.1}"), " s"),
    }
}

fn trimmed(number: String, unit: &str) -> String {
    let number = number.trim_end_matches('0').trim_end_matches('.');
    format!("{number}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(requests: u64, late: u64, allowed: Option<f64>) -> WaitsStatus {
        WaitsStatus { requests, late, cold: 0, late_after: 0.0, allowed }
    }

    #[test]
    fn a_goal_is_met_or_missed() {
        let price = |worth| LearnedStatus { request: None, start: None, peakedness: 1.0, worth: Some(worth) };
        let rows = [
            (
                of(1000, 80, Some(0.1)),
                0.05,
                Some("at most 10 %: met in the last hour; a late request is worth 50 ms of a replica now"),
            ),
            (
                of(1000, 12, Some(0.01)),
                DEAREST,
                Some(
                    "at most 1 %: missed in the last hour; a late request is worth an hour of a replica, the most that is paid",
                ),
            ),
            (of(1000, 80, None), 0.1, None),
        ];
        for (waits, worth, words) in rows {
            assert_eq!(goal(&waits, Some(&price(worth))).as_deref(), words);
        }
        assert_eq!(
            goal(&of(1000, 80, Some(0.1)), None).as_deref(),
            Some("at most 10 %: met in the last hour")
        );
    }

    #[test]
    fn times_are_told_in_digits_that_matter() {
        for (time, words) in [
            (0.000_04, "less than 0.1 ms"),
            (0.000_4, "0.4 ms"),
            (0.008, "8 ms"),
            (0.048, "48 ms"),
            (2.13, "2.1 s"),
        ] {
            assert_eq!(seconds(time), words);
        }
    }

    #[test]
    fn waits_are_told_in_two_digits() {
        assert_eq!(waits(&of(1, 0, None)), "0 % of 1 request in the last hour had to wait");
        let few = WaitsStatus { late_after: 1.25, cold: 3, ..of(1_000_000, 123, None) };
        assert_eq!(
            waits(&few),
            "0.01 % of 1000000 requests in the last hour waited longer than 1.2 s (less than 0.01 % came while no replica was ready)"
        );
    }

    #[test]
    fn nothing_learned_is_not_told() {
        let none = LearnedStatus { request: None, start: None, peakedness: 1.0, worth: None };
        assert_eq!(learned(&none), None);
        let start = LearnedStatus { start: Some(2.04), ..none };
        assert_eq!(learned(&start).as_deref(), Some("a start takes 2 s"));
    }
}
