//! How many requests of a service have waited for too long within the last hour, for `explain` and the metrics: whether a goal is met
//! is seen here. Fed at each look with what went through the gate. Absent: what to do about it (the law's).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tidegate_autoscaler::snapshot::Flow;
use tidegate_config::model::{Aim, ScalingPolicy};

use super::status::WaitsStatus;

/// So far back it is told.
const HOUR: Duration = Duration::from_secs(3600);
/// And as exactly as this.
const SLICE: Duration = Duration::from_secs(300);

/// The requests of the last hour, oldest first; empty for a service that nobody has called.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    slices: VecDeque<(Instant, Counts)>,
    /// Who waited longer than this was late.
    late_after: Duration,
}

/// Requests that came, those of them that waited too long, and those of these that came while no replica served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) late: u64,
    pub(crate) cold: u64,
}

impl Counts {
    /// Those of these seconds.
    pub(crate) fn of(flow: &[Flow]) -> Self {
        let mut all = Self::default();
        for second in flow {
            all.add(Self {
                requests: second.arrived.into(),
                late: second.late.into(),
                cold: second.cold.into(),
            });
        }
        all
    }

    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.late += other.late;
        self.cold += other.cold;
    }
}

impl Waits {
    /// These went through since the last call, under these settings.
    pub(crate) fn note(&mut self, now: Instant, counts: Counts, scaling: &ScalingPolicy) {
        if self.late_after != scaling.work.late_after {
            // What was counted before is of other requests.
            *self = Self { slices: VecDeque::new(), late_after: scaling.work.late_after };
        }
        while self.slices.front().is_some_and(|(begun, _)| *begun + HOUR <= now) {
            self.slices.pop_front();
        }
        if counts == Counts::default() {
            return;
        }
        match self.slices.back_mut() {
            Some((begun, slice)) if now < *begun + SLICE => slice.add(counts),
            _ => self.slices.push_back((now, counts)),
        }
    }

    /// What is told of the last hour; `None`: nobody called.
    pub(crate) fn status(&self, now: Instant, scaling: &ScalingPolicy) -> Option<WaitsStatus> {
        let mut sum = Counts::default();
        for (_, slice) in self.slices.iter().filter(|(begun, _)| now < *begun + HOUR) {
            sum.add(*slice);
        }
        let Counts { requests, late, cold } = sum;
        let allowed = match scaling.work.aim {
            Aim::Share(share) => Some(share),
            Aim::Worth(_) => None,
        };
        (requests > 0).then_some(WaitsStatus {
            requests,
            late,
            cold,
            late_after: self.late_after.as_secs_f64(),
            allowed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hour_is_told_and_nothing_older() {
        let (start, mut waits) = (crate::clock::now(), Waits::default());
        let scaling = ScalingPolicy::default();
        let minute = |nth: u64| start + Duration::from_secs(60 * nth);
        assert_eq!(waits.status(start, &scaling), None);
        for nth in 0..200 {
            waits.note(minute(nth), Counts { requests: 10, late: 2, cold: 1 }, &scaling);
        }
        let told = waits.status(minute(200), &scaling).expect("somebody called");
        assert!((550..=600).contains(&told.requests), "{told:?}");
        assert_eq!((told.late * 5, told.cold * 10), (told.requests, told.requests));
        assert!(waits.slices.len() <= 13, "{}", waits.slices.len());
        assert_eq!(waits.status(minute(300), &scaling), None, "silence is not told as success");
    }

    #[test]
    fn what_was_late_under_other_settings_is_not_told() {
        let (now, mut waits, mut scaling) = (crate::clock::now(), Waits::default(), ScalingPolicy::default());
        waits.note(now, Counts { requests: 10, late: 5, cold: 0 }, &scaling);
        scaling.work.late_after = Duration::from_secs(5);
        waits.note(now, Counts { requests: 1, late: 0, cold: 0 }, &scaling);
        let told = waits.status(now, &scaling).expect("somebody called");
        assert_eq!((told.requests, told.late, told.late_after), (1, 0, 5.0));
    }

    #[test]
    fn seconds_are_added_up() {
        let second = Flow { arrived: 3, late: 2, cold: 1, ..Flow::default() };
        assert_eq!(Counts::of(&[second, second]), Counts { requests: 6, late: 4, cold: 2 });
    }
}
