//! What a screen draws: a bounded number of points over the whole run.

use std::time::Duration;

use tidegate_loadtest::{Snapshot, overlay::Overlay};

/// Points that are kept; then every other one is left out.
const KEPT: usize = 1200;

/// How it went at an instant, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    at: f64,
    rate: f64,
    planned: f64,
    p50: Option<f64>,
    p99: Option<f64>,
    in_flight: f64,
    replicas: Option<Replicas>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Replicas {
    ready: f64,
    all: f64,
    want: f64,
    queued: f64,
}

/// The points of a run.
#[derive(Debug, Default)]
pub(super) struct History {
    points: Vec<Point>,
}

/// Something that can be drawn over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    Rate,
    Planned,
    P50,
    P99,
    InFlight,
    Ready,
    Replicas,
    Want,
    Queued,
}

impl History {
    pub(super) fn note(&mut self, snapshot: &Snapshot, planned: f64, seen: Option<&Overlay>) {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let look = seen.and_then(|seen| seen.looks.last());
        #[expect(clippy::cast_precision_loss, reason = "connections")]
        let in_flight = snapshot.in_flight as f64;
        if self.points.len() >= KEPT {
            let mut index = 0;
            self.points.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
        self.points.push(Point {
            at: snapshot.elapsed.as_secs_f64(),
            rate: snapshot.rate,
            planned,
            p50: seconds(snapshot.p50),
            p99: seconds(snapshot.p99),
            in_flight,
            replicas: look.map(|look| Replicas {
                ready: f64::from(look.ready),
                all: f64::from(look.replicas()),
                want: f64::from(look.want),
                queued: f64::from(look.queued),
            }),
        });
    }

    /// One curve, as far as it is known.
    pub(super) fn curve(&self, curve: Curve) -> Vec<(f64, f64)> {
        self.points.iter().filter_map(|point| Some((point.at, point.value(curve)?))).collect()
    }
}

impl Point {
    fn value(&self, curve: Curve) -> Option<f64> {
        match curve {
            Curve::Rate => Some(self.rate),
            Curve::Planned => Some(self.planned),
            Curve::P50 => self.p50,
            Curve::P99 => self.p99,
            Curve::InFlight => Some(self.in_flight),
            Curve::Ready => self.replicas.map(|replicas| replicas.ready),
            Curve::Replicas => self.replicas.map(|replicas| replicas.all),
            Curve::Want => self.replicas.map(|replicas| replicas.want),
            Curve::Queued => self.replicas.map(|replicas| replicas.queued),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tidegate_loadtest::overlay::Look;

    use super::*;

    pub(in crate::cli::load) fn snapshot(second: u64) -> Snapshot {
        Snapshot {
            elapsed: Duration::from_secs(second),
            expected: 400,
            sent: 200,
            done: 190,
            errors: 1,
            in_flight: 10,
            behind: Duration::ZERO,
            rate: 190.4,
            p50: Some(Duration::from_millis(12 + second)),
            p90: None,
            p99: None,
            finished: false,
        }
    }

    #[test]
    fn curves_are_bounded_and_leave_out_what_is_not_known() {
        let mut history = History::default();
        (0..3 * KEPT as u64).for_each(|second| history.note(&snapshot(second), 200.0, None));
        let rates = history.curve(Curve::Rate);
        assert!(rates.len() <= KEPT && rates.is_sorted_by_key(|(at, _)| *at), "{}", rates.len());
        assert_eq!((history.curve(Curve::P99).len(), history.curve(Curve::Ready).len()), (0, 0));
        let mut seen = Overlay::new("api");
        seen.look(Look { ready: 2, starting: 1, want: 3, ..Look::default() });
        history.note(&snapshot(9000), 200.0, Some(&seen));
        assert_eq!(history.curve(Curve::Replicas), [(9000.0, 3.0)]);
    }
}
