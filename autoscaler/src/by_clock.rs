//! How many replicas the clock asks for (`keep_warm`), and when that changes. Asked by [`decide`](crate::decide).

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tidegate_config::{model::KeepWarm, units::Count};

use crate::snapshot::Snapshot;

/// People's clocks jump: a change that is far off is looked up again.
const LONGEST: Duration = Duration::from_secs(600);

/// What the clock asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Asks {
    /// So many replicas at the least.
    pub(crate) replicas: Count,
    /// When it may be otherwise, or is worth another look; `None` where the clock never asks.
    pub(crate) again: Option<Instant>,
}

/// What it asks for now.
pub(crate) fn asks(seen: &Snapshot) -> Asks {
    let list = &seen.service.scaling.keep_warm;
    let all = list.iter().map(|keep| at(keep, seen.wall));
    all.fold(Asks::default(), |asks, (holds, change)| {
        let again = seen.now + change.unwrap_or(LONGEST).min(LONGEST);
        Asks {
            replicas: asks.replicas.max(holds),
            again: Some(asks.again.map_or(again, |before| before.min(again))),
        }
    })
}

/// How many of `keep` are to be there at this time, and how long it is until that may change.
fn at(keep: &KeepWarm, time: Timestamp) -> (Count, Option<Duration>) {
    let here = time.to_zoned(keep.zone.clone());
    let until = |end: Timestamp| Duration::try_from(end.duration_since(time)).ok();
    let begun = keep.cron.find_previous_occurrence(&here, true).ok();
    let ends = begun.and_then(|begun| begun.timestamp().checked_add(keep.lasts).ok());
    let ends = ends.filter(|ends| *ends > time).and_then(until);
    let begins = keep.cron.find_next_occurrence(&here, false).ok().and_then(|next| until(next.timestamp()));
    let change = [ends, begins].into_iter().flatten().min();
    (if ends.is_some() { keep.replicas } else { 0 }, change)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use tidegate_config::model::ScalingPolicy;

    use super::*;
    use crate::fixture;

    fn keep(cron: &str, zone: &str, minutes: u64, replicas: Count) -> KeepWarm {
        KeepWarm {
            cron: cron.parse().expect("a cron expression"),
            zone: TimeZone::get(zone).expect("a zone"),
            lasts: Duration::from_secs(60 * minutes),
            replicas,
        }
    }

    /// How many at this time, and in how many minutes that may change.
    fn check(keep: &KeepWarm, rows: &[(&str, Count, u64)]) {
        for (time, replicas, minutes) in rows {
            let change = Duration::from_secs(60 * minutes);
            let time: Timestamp = time.parse().expect("a time");
            assert_eq!(at(keep, time), (*replicas, Some(change)), "{time} of {}", keep.cron);
        }
    }

    #[test]
    fn from_an_instant_on_for_as_long_as_it_lasts() {
        check(
            &keep("0 8 * * mon-fri", "UTC", 600, 2),
            &[
                // A Thursday.
                ("2026-11-26T07:30:00Z", 0, 30),
                ("2026-11-26T08:00:00Z", 2, 600),
                ("2026-11-26T17:59:00Z", 2, 1),
                ("2026-11-26T18:00:00Z", 0, 14 * 60),
                ("2026-11-27T18:00:00Z", 0, 62 * 60),
            ],
        );
    }

    #[test]
    fn an_expression_may_name_all_its_minutes() {
        check(
            &keep("* 8-17 * * *", "UTC", 1, 3),
            &[
                ("2026-11-26T08:00:00Z", 3, 1),
                ("2026-11-26T17:59:00Z", 3, 1),
                ("2026-11-26T18:00:00Z", 0, 840),
            ],
        );
    }

    #[test]
    fn a_zones_clocks_count_also_when_they_are_set_forward() {
        let morning = keep("0 8 * * *", "Europe/Berlin", 60, 1);
        check(
            &morning,
            &[
                ("2026-03-28T07:00:00Z", 1, 60),
                // That night has an hour less.
                ("2026-03-28T08:00:00Z", 0, 22 * 60),
                ("2026-03-29T06:00:00Z", 1, 60),
            ],
        );
    }

    #[test]
    fn of_several_the_most_counts_and_the_next_change() {
        let mut seen = fixture::snapshot(ScalingPolicy {
            keep_warm: vec![keep("0 8 * * *", "UTC", 60, 1), keep("58 7 * * *", "UTC", 3, 4)],
            ..ScalingPolicy::default()
        });
        seen.wall = "2026-11-26T08:00:00Z".parse().expect("a time");
        let one_minute = seen.now + Duration::from_secs(60);
        assert_eq!(asks(&seen), Asks { replicas: 4, again: Some(one_minute) });
        seen.wall = "2026-11-26T12:00:00Z".parse().expect("a time");
        assert_eq!(asks(&seen), Asks { replicas: 0, again: Some(seen.now + LONGEST) });
    }
}
