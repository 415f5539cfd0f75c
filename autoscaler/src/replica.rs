//! The life of a replica: its phases, and the one function that moves between them.
//! The control loop is the only caller. Holds: `Gone` and `Failed` are never left except for `Gone`; a draining
//! replica may come back until its stop has been sent; a lost one comes back as it is found.
//! Absent: time, except as data in causes.

use std::{fmt, time::Duration};

use tidegate_config::spec::Exit;

/// What a replica is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Recorded, being started (or started again) or not ready yet.
    Starting,
    /// Passed its probe; gets requests.
    Ready,
    /// Gets no new requests; finishes what it runs.
    Draining,
    /// Being frozen.
    Freezing,
    /// Asleep: its processes are stopped in place, its memory is kept.
    Frozen,
    /// Being thawed for requests that wait.
    Thawing,
    /// Its stop has been sent.
    Stopping,
    /// Asleep: its processes are gone, its container is kept.
    Stopped,
    /// Its host does not answer; it may still run there.
    Lost,
    /// Ended, unhealthy or never became ready; about to be removed.
    Failed(Cause),
    /// Does not exist any more.
    Gone,
}

/// Why a replica failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The engine did not start it.
    StartRefused {
        /// The engine's words.
        message: String,
        /// Whether trying again may help.
        retryable: bool,
    },
    /// Its engine, which places by itself, had no place for it in time, and this is why.
    NoPlace(String),
    /// Its process ended by itself.
    Exited(Exit),
    /// It ran but was not ready in time.
    NotReady {
        /// How long it was waited for.
        waited: Duration,
        /// What the last probe found.
        last: String,
    },
    /// It was ready and then failed its liveness probes.
    Unhealthy {
        /// What the last probe found.
        last: String,
    },
    /// Somebody removed it.
    Vanished,
    /// It had ended when its engine was back after a silence: the engine's doing, as far as anybody can say.
    EngineAway,
}

impl Cause {
    /// Whether it says nothing about the service: it counts neither for a crash loop nor against a version.
    #[must_use]
    pub fn is_no_fault(&self) -> bool {
        matches!(
            self,
            Self::NoPlace(_) | Self::Vanished | Self::EngineAway | Self::Exited(Exit { disrupted: true, .. })
        )
    }

    /// A word for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::StartRefused { .. } => "start_refused",
            Self::NoPlace(_) => "no_place",
            Self::Exited(Exit { out_of_memory: true, .. }) => "out_of_memory",
            Self::Exited(Exit { disrupted: true, .. }) => "disrupted",
            Self::Exited(_) => "exited",
            Self::NotReady { .. } => "not_ready",
            Self::Unhealthy { .. } => "unhealthy",
            Self::Vanished => "vanished",
            Self::EngineAway => "engine_away",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartRefused { message, .. } => write!(f, "the engine did not start it: {message}"),
            Self::NoPlace(why) => write!(f, "no place: {why}"),
            Self::Exited(exit) => write!(f, "its process ended: {exit}"),
            Self::NotReady { waited, last } => write!(f, "not ready after {waited:?}: {last}"),
            Self::Unhealthy { last } => write!(f, "unhealthy: {last}"),
            Self::Vanished => f.write_str("it was removed by somebody else"),
            Self::EngineAway => f.write_str("it had ended when its engine was back"),
        }
    }
}

/// Something that happens to a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its readiness probe passed.
    Passed,
    /// It broke.
    Broke(Cause),
    /// The plan wants it out of traffic.
    Drain,
    /// The plan wants it back.
    Undrain,
    /// The plan puts it to sleep with its memory; the engine was asked.
    Freeze,
    /// It is frozen.
    Frozen,
    /// The plan wakes it; the engine was asked.
    Thaw,
    /// It is thawed.
    Thawed,
    /// It is stopped and was kept.
    Stopped,
    /// The plan starts a stopped one again.
    Restart,
    /// Its host does not answer any more, and neither does it.
    Lost,
    /// Its stop has been sent.
    Stop,
    /// The engine has it no more.
    Removed,
}

/// The phase after `event`, or `None` where the event changes nothing.
#[must_use]
pub fn next(phase: &Phase, event: Event) -> Option<Phase> {
    match (phase, event) {
        (Phase::Gone, _) => None,
        (Phase::Starting | Phase::Ready | Phase::Thawing, Event::Removed) => {
            Some(Phase::Failed(Cause::Vanished))
        }
        (_, Event::Removed) => Some(Phase::Gone),
        (Phase::Failed(_), _) => None,
        // A replica that was told to stop ends; how is of no interest, only that it is gone.
        (Phase::Stopping, Event::Broke(_)) => None,
        // Nothing runs that could break: its process has ended, as it was told to.
        (Phase::Stopped, Event::Broke(_)) => None,
        (_, Event::Broke(cause)) => Some(Phase::Failed(cause)),
        (Phase::Starting | Phase::Lost, Event::Passed) => Some(Phase::Ready),
        (Phase::Ready, Event::Drain) => Some(Phase::Draining),
        (Phase::Draining, Event::Undrain) => Some(Phase::Ready),
        (Phase::Draining, Event::Freeze) => Some(Phase::Freezing),
        (Phase::Freezing | Phase::Lost, Event::Frozen) => Some(Phase::Frozen),
        (Phase::Frozen, Event::Thaw) => Some(Phase::Thawing),
        (Phase::Thawing, Event::Thawed) => Some(Phase::Ready),
        (Phase::Stopping, Event::Stopped) => Some(Phase::Stopped),
        (Phase::Stopped, Event::Restart) => Some(Phase::Starting),
        (Phase::Stopping | Phase::Lost, Event::Lost) => None,
        (_, Event::Lost) => Some(Phase::Lost),
        (Phase::Stopping, Event::Stop) => None,
        (_, Event::Stop) => Some(Phase::Stopping),
        (
            _,
            Event::Passed
            | Event::Drain
            | Event::Undrain
            | Event::Freeze
            | Event::Frozen
            | Event::Thaw
            | Event::Thawed
            | Event::Stopped
            | Event::Restart,
        ) => None,
    }
}

impl Phase {
    /// A word for people and metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Freezing => "freezing",
            Self::Frozen => "frozen",
            Self::Thawing => "thawing",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Lost => "lost",
            Self::Failed(_) => "failed",
            Self::Gone => "gone",
        }
    }

    /// Whether it serves requests or is on the way there.
    #[must_use]
    pub fn is_live(&self) -> bool {
        match self {
            Self::Starting | Self::Ready | Self::Thawing => true,
            Self::Draining
            | Self::Freezing
            | Self::Frozen
            | Self::Stopping
            | Self::Stopped
            | Self::Lost
            | Self::Failed(_)
            | Self::Gone => false,
        }
    }

    /// Whether it sleeps and can be woken, which is quicker than a start.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        matches!(self, Self::Frozen | Self::Stopped)
    }

    /// Whether it takes up room on its host: a frozen one keeps its memory, a stopped one keeps nothing but its files, and
    /// one on a lost host may still run there.
    #[must_use]
    pub fn holds_room(&self) -> bool {
        !matches!(self, Self::Stopped | Self::Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause() -> Cause {
        Cause::Unhealthy { last: "connection refused".into() }
    }

    fn phases() -> [Phase; 11] {
        use Phase::{
            Draining, Failed, Freezing, Frozen, Gone, Lost, Ready, Starting, Stopped, Stopping, Thawing,
        };
        let failed = Failed(cause());
        [Starting, Ready, Draining, Freezing, Frozen, Thawing, Stopping, Stopped, Lost, failed, Gone]
    }

    fn events() -> [Event; 13] {
        use Event::{
            Broke, Drain, Freeze, Frozen, Lost, Passed, Removed, Restart, Stop, Stopped, Thaw, Thawed,
            Undrain,
        };
        [
            Passed,
            Broke(cause()),
            Drain,
            Undrain,
            Freeze,
            Frozen,
            Thaw,
            Thawed,
            Stop,
            Stopped,
            Restart,
            Lost,
            Removed,
        ]
    }

    #[test]
    #[rustfmt::skip]
    fn every_pair() {
        const SAME: &str = "-";
        for (phase, row) in phases().iter().zip([
            // passed, broke, drain, undrain, freeze, frozen, thaw, thawed, stop, stopped, restart, lost, removed
            /* starting */ ["ready", "failed", SAME, SAME, SAME, SAME, SAME, SAME, "stopping", SAME, SAME, "lost", "failed"],
            /* ready    */ [SAME, "failed", "draining", SAME, SAME, SAME, SAME, SAME, "stopping", SAME, SAME, "lost", "failed"],
            /* draining */ [SAME, "failed", SAME, "ready", "freezing", SAME, SAME, SAME, "stopping", SAME, SAME, "lost", "gone"],
            /* freezing */ [SAME, "failed", SAME, SAME, SAME, "frozen", SAME, SAME, "stopping", SAME, SAME, "lost", "gone"],
            /* frozen   */ [SAME, "failed", SAME, SAME, SAME, SAME, "thawing", SAME, "stopping", SAME, SAME, "lost", "gone"],
            /* thawing  */ [SAME, "failed", SAME, SAME, SAME, SAME, SAME, "ready", "stopping", SAME, SAME, "lost", "failed"],
            /* stopping */ [SAME, SAME, SAME, SAME, SAME, SAME, SAME, SAME, SAME, "stopped", SAME, SAME, "gone"],
            /* stopped  */ [SAME, SAME, SAME, SAME, SAME, SAME, SAME, SAME, "stopping", SAME, "starting", "lost", "gone"],
            /* lost     */ ["ready", "failed", SAME, SAME, SAME, "frozen", SAME, SAME, "stopping", SAME, SAME, SAME, "gone"],
            /* failed   */ [SAME, SAME, SAME, SAME, SAME, SAME, SAME, SAME, SAME, SAME, SAME, SAME, "gone"],
            /* gone     */ [SAME; 13],
        ]) {
            for (event, label) in events().into_iter().zip(row) {
                let shown = format!("{phase:?} + {event:?}");
                assert_eq!(next(phase, event).map_or(SAME, |p| p.label()), label, "{shown}");
            }
        }
    }

    #[test]
    fn whoever_vanishes_unasked_has_failed() {
        assert_eq!(next(&Phase::Ready, Event::Removed), Some(Phase::Failed(Cause::Vanished)));
    }

    proptest::proptest! {
        #[test]
        fn the_end_is_never_left(picks in proptest::collection::vec(0_usize..13, 0..60)) {
            let mut phase = Phase::Starting;
            for pick in picks {
                let after = next(&phase, events()[pick].clone()).unwrap_or(phase.clone());
                let legal = match phase {
                    Phase::Gone => after == Phase::Gone,
                    Phase::Failed(_) => matches!(after, Phase::Failed(_) | Phase::Gone),
                    Phase::Stopping => matches!(after, Phase::Stopping | Phase::Stopped | Phase::Gone),
                    _ => true,
                };
                proptest::prop_assert!(legal, "{phase:?} became {after:?}");
                phase = after;
            }
        }
    }
}
