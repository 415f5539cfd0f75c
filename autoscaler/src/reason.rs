//! Why a decision is as it is, also when it changes nothing: one variant per branch of [`decide`](crate::decide), with
//! the figures that it looked at. Shown by `explain`, counted by label. Absent: moments; what is left of a time is a
//! duration, so that a reason reads the same later.

use std::{fmt, time::Duration};

use tidegate_config::units::Count;

use crate::refuse::RefuseReason;

/// Why a service should have as many replicas as it should.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// The demand of the stable window.
    Demand(Figures),
    /// The work that is to be expected.
    Work(WorkFigures),
    /// Less would do; what was needed a moment ago is let go slowly.
    Calm {
        /// What stays for now.
        held: Count,
        /// What is to be expected.
        figures: WorkFigures,
    },
    /// Less would do, but surges come back that need so many.
    Returns {
        /// What is to be there.
        held: Count,
        /// What is to be expected without them.
        figures: WorkFigures,
    },
    /// The demand of the surge window, far above the stable one.
    Surge(Figures),
    /// A surge is not over, and nothing is taken away during one.
    SurgeHeld {
        /// What it reached.
        held: Count,
        /// Until it is over, if demand stays low.
        left: Duration,
    },
    /// Demand needs more than one decision may add.
    UpRate {
        /// What demand asks for.
        figures: Figures,
        /// What is allowed now.
        allowed: Count,
    },
    /// Demand needs less than one decision may leave.
    DownRate {
        /// What demand asks for.
        figures: Figures,
        /// What has to stay for now.
        kept: Count,
    },
    /// A lower want waits for the scale-down delay.
    ScaleDownDelay {
        /// The highest want within the delay.
        held: Count,
        /// What would do now.
        needs: Count,
        /// The delay.
        delay: Duration,
    },
    /// Requests wait and nothing could serve them.
    Wake {
        /// Waiting requests.
        queued: u32,
    },
    /// A wake starts several replicas and they are not all ready yet.
    Waking {
        /// What a wake starts.
        initial: Count,
    },
    /// Somebody asked for a wake.
    AskedWake {
        /// Until that counts as idle.
        left: Duration,
    },
    /// Requests per second, CPU or memory ask for more than the law.
    Signal {
        /// What is kept for now.
        held: Count,
        /// What it says now.
        signal: Signal,
    },
    /// The file asks for them at this time (`keep_warm`).
    ByClock {
        /// How many.
        replicas: Count,
    },
    /// Somebody asked for sleep.
    AskedSleep,
    /// Its host is short of memory, and it was the idlest service there.
    Squeezed,
    /// Requests run or wait: the last replica stays.
    Busy {
        /// Running requests.
        in_flight: u32,
        /// Waiting requests.
        queued: u32,
    },
    /// Idle, but not for long enough.
    KeptWarm {
        /// What is long enough.
        idle: Duration,
        /// Until then.
        left: Duration,
    },
    /// Ready again before the next request comes, as earlier ones came after so long.
    Expected {
        /// By which time of idleness it usually has come.
        idle: Duration,
        /// Until then.
        left: Duration,
    },
    /// No demand for a stable window; the last replica stays for the grace period (`idle = "kpa"`).
    Grace {
        /// Until it goes.
        left: Duration,
    },
    /// Idle for long enough.
    Idle {
        /// How long it was idle.
        idle_for: Duration,
    },
    /// Nothing runs, nothing waits.
    Asleep,
    /// The gateway has just started and leaves alone what it found.
    Adopted {
        /// How many it found.
        replicas: Count,
        /// For how long.
        left: Duration,
    },
    /// The service has a minimum.
    HeldAtMin {
        /// The minimum.
        min: Count,
        /// What would do.
        needs: Count,
    },
    /// The service has a maximum.
    HeldAtMax {
        /// The maximum.
        max: Count,
        /// What would be needed.
        needs: Count,
    },
    /// Replicas are needed and cannot be started yet; requests wait.
    Waiting {
        /// The word that clients get if it takes too long.
        why: RefuseReason,
        /// The cause in words.
        cause: String,
    },
    /// Replicas are needed and cannot be had now.
    Refused {
        /// The word that clients get.
        why: RefuseReason,
        /// The cause in words.
        cause: String,
    },
}

/// What is used, over what each replica is to use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Signal {
    /// Of what.
    pub what: &'static str,
    /// By all of them.
    pub used: f64,
    /// By each.
    pub each: f64,
    /// So many replicas.
    pub needs: Count,
}

/// How demand becomes replicas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Average demand.
    pub demand: f64,
    /// Over how long.
    pub over: Duration,
    /// What one replica is meant to carry.
    pub target: f64,
    /// So many replicas carry it.
    pub needs: Count,
}

/// How work becomes replicas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WorkFigures {
    /// Requests per second.
    pub rate: f64,
    /// Seconds that one takes.
    pub service: f64,
    /// Requests that are to be expected to run at once when a replica that is started now is ready.
    pub load: f64,
    /// So many replicas are worth it.
    pub needs: Count,
}

impl fmt::Display for WorkFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, service, load, needs } = self;
        if load.max(*rate) < 0.005 {
            return write!(f, "no load: {needs}");
        }
        if *rate < 0.005 {
            return write!(
                f,
                "no more requests; {load:.2} at once still run when a start would be over: {needs}"
            );
        }
        write!(f, "{rate:.2} requests/s of {:.0} ms are {load:.2} at once: {needs}", service * 1000.0)
    }
}

impl Reason {
    /// Every label there is.
    pub const LABELS: [&'static str; 27] = [
        "demand",
        "work",
        "calm",
        "returns",
        "surge",
        "surge_held",
        "up_rate",
        "down_rate",
        "scale_down_delay",
        "wake",
        "waking",
        "asked_wake",
        "signal",
        "by_clock",
        "asked_sleep",
        "squeezed",
        "busy",
        "kept_warm",
        "expected",
        "grace",
        "idle",
        "asleep",
        "adopted",
        "held_at_min",
        "held_at_max",
        "waiting",
        "refused",
    ];

    /// A word for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Demand(_) => "demand",
            Self::Work(_) => "work",
            Self::Calm { .. } => "calm",
            Self::Returns { .. } => "returns",
            Self::Surge(_) => "surge",
            Self::SurgeHeld { .. } => "surge_held",
            Self::UpRate { .. } => "up_rate",
            Self::DownRate { .. } => "down_rate",
            Self::ScaleDownDelay { .. } => "scale_down_delay",
            Self::Wake { .. } => "wake",
            Self::Waking { .. } => "waking",
            Self::AskedWake { .. } => "asked_wake",
            Self::Signal { .. } => "signal",
            Self::ByClock { .. } => "by_clock",
            Self::AskedSleep => "asked_sleep",
            Self::Squeezed => "squeezed",
            Self::Busy { .. } => "busy",
            Self::KeptWarm { .. } => "kept_warm",
            Self::Expected { .. } => "expected",
            Self::Grace { .. } => "grace",
            Self::Idle { .. } => "idle",
            Self::Asleep => "asleep",
            Self::Adopted { .. } => "adopted",
            Self::HeldAtMin { .. } => "held_at_min",
            Self::HeldAtMax { .. } => "held_at_max",
            Self::Waiting { .. } => "waiting",
            Self::Refused { .. } => "refused",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Demand(figures) => figures.fmt(f),
            Self::Work(figures) => {
                write!(f, "{figures} {}", if figures.needs == 1 { "replica" } else { "replicas" })
            }
            Self::Calm { held, figures } => write!(f, "{figures} would do; {held} are let go slowly"),
            Self::Returns { held, figures } => {
                write!(f, "{figures} would do; {held} are there for a surge that comes back")
            }
            Self::Surge(figures) => write!(f, "surge: {figures}"),
            Self::SurgeHeld { held, left } => {
                write!(f, "held at {} for the rest of a surge ({} s left)", replicas(*held), secs(*left))
            }
            Self::UpRate { figures, allowed } => write!(f, "{figures}; one step may grow to {allowed}"),
            Self::DownRate { figures, kept } => write!(f, "{figures}; one step may shrink to {kept}"),
            Self::ScaleDownDelay { held, needs, delay } => {
                write!(f, "{needs} would do; held at {held} for a scale-down delay of {} s", secs(*delay))
            }
            Self::Wake { queued: 1 } => f.write_str("1 request waits and nothing is live"),
            Self::Wake { queued } => write!(f, "{queued} requests wait and nothing is live"),
            Self::Waking { initial } => {
                write!(f, "a wake starts {}, not all are ready yet", replicas(*initial))
            }
            Self::AskedWake { left } => write!(f, "asked to wake ({} s left)", secs(*left)),
            Self::Signal { held, signal: Signal { what, used, each, needs } } => {
                write!(f, "{} {what} need {} at {} each", short(*used), replicas(*needs), short(*each))?;
                if held > needs { write!(f, "; held at {held} for a stable window") } else { Ok(()) }
            }
            Self::ByClock { replicas: kept } => {
                write!(f, "keep_warm asks for {} at this time", replicas(*kept))
            }
            Self::AskedSleep => f.write_str("asked to sleep"),
            Self::Squeezed => f.write_str("put to sleep: its host is short of memory"),
            Self::Busy { in_flight, queued } => write!(f, "{in_flight} in flight and {queued} waiting"),
            Self::KeptWarm { idle, left } => {
                write!(f, "kept warm until idle {} s passes ({} s left)", secs(*idle), secs(*left))
            }
            Self::Expected { idle, left } => write!(
                f,
                "ready ahead of a request that usually comes before {} s of quiet have passed ({} s left)",
                secs(*idle),
                secs(*left)
            ),
            Self::Grace { left } => {
                write!(
                    f,
                    "no demand for a stable window; the last replica stays for its grace ({} s left)",
                    secs(*left)
                )
            }
            Self::Idle { idle_for } => write!(f, "idle for {} s", idle_for.as_secs()),
            Self::Asleep => f.write_str("nothing runs and nothing waits"),
            Self::Adopted { replicas: found, left } => {
                write!(f, "adopted at the gateway's start: {} ({} s left)", replicas(*found), secs(*left))
            }
            Self::HeldAtMin { min, needs } => write!(f, "held at min {min} ({needs} would do)"),
            Self::HeldAtMax { max, needs } => write!(f, "held at max {max} ({needs} needed)"),
            Self::Waiting { why, cause } => write!(f, "waits ({}): {cause}", why.label()),
            Self::Refused { why, cause } => write!(f, "{}: {cause}", why.label()),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { demand, over, target, needs } = self;
        write!(
            f,
            "demand {demand:.1} over {} s needs {} at {} each",
            secs(*over),
            replicas(*needs),
            short(*target)
        )
    }
}

fn replicas(count: Count) -> String {
    if count == 1 { "1 replica".to_owned() } else { format!("{count} replicas") }
}

/// Whole seconds, rounded up: "0 s left" would read as over.
fn secs(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

/// At most two digits, and none that say nothing.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_reads_well_and_has_its_label() {
        let figures = Figures { demand: 123.42, over: Duration::from_secs(6), target: 70.0, needs: 2 };
        let work = WorkFigures { rate: 12.5, service: 0.2, load: 2.5, needs: 5 };
        let s = Duration::from_secs;
        let rows = [
            (Reason::Demand(figures), "demand 123.4 over 6 s needs 2 replicas at 70 each"),
            (Reason::Work(work), "12.50 requests/s of 200 ms are 2.50 at once: 5 replicas"),
            (
                Reason::Calm { held: 8, figures: work },
                "12.50 requests/s of 200 ms are 2.50 at once: 5 would do; 8 are let go slowly",
            ),
            (
                Reason::Returns { held: 8, figures: work },
                "12.50 requests/s of 200 ms are 2.50 at once: 5 would do; 8 are there for a surge that comes back",
            ),
            (Reason::Surge(figures), "surge: demand 123.4 over 6 s needs 2 replicas at 70 each"),
            (
                Reason::SurgeHeld { held: 5, left: s(3) },
                "held at 5 replicas for the rest of a surge (3 s left)",
            ),
            (
                Reason::UpRate { figures: Figures { target: 0.7, needs: 1, ..figures }, allowed: 4 },
                "demand 123.4 over 6 s needs 1 replica at 0.7 each; one step may grow to 4",
            ),
            (
                Reason::DownRate { figures, kept: 4 },
                "demand 123.4 over 6 s needs 2 replicas at 70 each; one step may shrink to 4",
            ),
            (
                Reason::ScaleDownDelay { held: 4, needs: 1, delay: s(30) },
                "1 would do; held at 4 for a scale-down delay of 30 s",
            ),
            (Reason::Wake { queued: 2 }, "2 requests wait and nothing is live"),
            (Reason::Waking { initial: 3 }, "a wake starts 3 replicas, not all are ready yet"),
            (Reason::AskedWake { left: s(9) }, "asked to wake (9 s left)"),
            (
                Reason::Signal { held: 4, signal: Signal { what: "cores", used: 2.5, each: 1.0, needs: 3 } },
                "2.5 cores need 3 replicas at 1 each; held at 4 for a stable window",
            ),
            (Reason::ByClock { replicas: 2 }, "keep_warm asks for 2 replicas at this time"),
            (Reason::AskedSleep, "asked to sleep"),
            (Reason::Squeezed, "put to sleep: its host is short of memory"),
            (Reason::Busy { in_flight: 1, queued: 0 }, "1 in flight and 0 waiting"),
            (
                Reason::KeptWarm { idle: s(60), left: Duration::from_millis(41_001) },
                "kept warm until idle 60 s passes (42 s left)",
            ),
            (
                Reason::Expected { idle: s(320), left: s(40) },
                "ready ahead of a request that usually comes before 320 s of quiet have passed (40 s left)",
            ),
            (
                Reason::Grace { left: s(30) },
                "no demand for a stable window; the last replica stays for its grace (30 s left)",
            ),
            (Reason::Idle { idle_for: s(60) }, "idle for 60 s"),
            (Reason::Asleep, "nothing runs and nothing waits"),
            (
                Reason::Adopted { replicas: 1, left: s(8) },
                "adopted at the gateway's start: 1 replica (8 s left)",
            ),
            (Reason::HeldAtMin { min: 2, needs: 1 }, "held at min 2 (1 would do)"),
            (Reason::HeldAtMax { max: 10, needs: 12 }, "held at max 10 (12 needed)"),
            (
                Reason::Waiting { why: RefuseReason::Pulling, cause: "b: the image is not there yet".into() },
                "waits (pulling): b: the image is not there yet",
            ),
            (
                Reason::Refused { why: RefuseReason::CrashLooping, cause: "exit code 1".into() },
                "crash_looping: exit code 1",
            ),
        ];
        for ((reason, text), label) in rows.iter().zip(Reason::LABELS) {
            assert_eq!(reason.to_string(), *text);
            assert_eq!(reason.label(), label);
        }
    }

    #[test]
    fn where_nothing_comes_no_time_of_a_request_is_told() {
        let work = WorkFigures { rate: 0.0, service: 1.0, load: 0.0, needs: 0 };
        assert_eq!(Reason::Work(work).to_string(), "no load: 0 replicas");
        let last = WorkFigures { load: 0.324, needs: 1, ..work };
        assert_eq!(
            Reason::Work(last).to_string(),
            "no more requests; 0.32 at once still run when a start would be over: 1 replica"
        );
    }
}
