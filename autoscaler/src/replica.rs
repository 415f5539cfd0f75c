//! The life of a replica: its phases, and the one function that moves between them.
//! The control loop is the only caller. Holds: `Gone` and `Failed` are never left except for `Gone`; a draining
//! replica may come back until its stop has been sent. Absent: time, except as data in causes.

use std::{fmt, time::Duration};

use tidegate_config::spec::Exit;

/// What a replica is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Recorded, being started or not ready yet.
    Starting,
    /// Passed its probe; gets requests.
    Ready,
    /// Gets no new requests; finishes what it runs.
    Draining,
    /// Its stop has been sent.
    Stopping,
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
}

impl Cause {
    /// A word for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::StartRefused { .. } => "start_refused",
            Self::Exited(Exit { out_of_memory: true, .. }) => "out_of_memory",
            Self::Exited(_) => "exited",
            Self::NotReady { .. } => "not_ready",
            Self::Unhealthy { .. } => "unhealthy",
            Self::Vanished => "vanished",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartRefused { message, .. } => write!(f, "the engine did not start it: {message}"),
            Self::Exited(exit) => write!(f, "its process ended: {exit}"),
            Self::NotReady { waited, last } => write!(f, "not ready after {waited:?}: {last}"),
            Self::Unhealthy { last } => write!(f, "unhealthy: {last}"),
            Self::Vanished => f.write_str("it was removed by somebody else"),
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
        (Phase::Starting | Phase::Ready, Event::Removed) => Some(Phase::Failed(Cause::Vanished)),
        (_, Event::Removed) => Some(Phase::Gone),
        (Phase::Failed(_), _) => None,
        // A replica that was told to stop ends; how is of no interest, only that it is gone.
        (Phase::Stopping, Event::Broke(_)) => None,
        (_, Event::Broke(cause)) => Some(Phase::Failed(cause)),
        (Phase::Starting, Event::Passed) => Some(Phase::Ready),
        (Phase::Ready, Event::Drain) => Some(Phase::Draining),
        (Phase::Draining, Event::Undrain) => Some(Phase::Ready),
        (Phase::Starting | Phase::Ready | Phase::Draining, Event::Stop) => Some(Phase::Stopping),
        (Phase::Ready | Phase::Draining | Phase::Stopping, Event::Passed)
        | (Phase::Starting | Phase::Draining | Phase::Stopping, Event::Drain)
        | (Phase::Starting | Phase::Ready | Phase::Stopping, Event::Undrain)
        | (Phase::Stopping, Event::Stop) => None,
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
            Self::Stopping => "stopping",
            Self::Failed(_) => "failed",
            Self::Gone => "gone",
        }
    }

    /// Whether it serves requests or is on the way there.
    #[must_use]
    pub fn is_live(&self) -> bool {
        match self {
            Self::Starting | Self::Ready => true,
            Self::Draining | Self::Stopping | Self::Failed(_) | Self::Gone => false,
        }
    }

    /// Whether it takes up room on its host.
    #[must_use]
    pub fn holds_room(&self) -> bool {
        !matches!(self, Self::Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause() -> Cause {
        Cause::Unhealthy { last: "connection refused".into() }
    }

    fn phases() -> [Phase; 6] {
        use Phase::{Draining, Failed, Gone, Ready, Starting, Stopping};
        [Starting, Ready, Draining, Stopping, Failed(cause()), Gone]
    }

    fn events() -> [Event; 6] {
        use Event::{Broke, Drain, Passed, Removed, Stop, Undrain};
        [Passed, Broke(cause()), Drain, Undrain, Stop, Removed]
    }

    #[test]
    fn every_pair() {
        const SAME: &str = "-";
        for (phase, row) in phases().iter().zip([
            // passed, broke,  drain,      undrain, stop,       removed
            ["ready", "failed", SAME, SAME, "stopping", "failed"], // starting
            [SAME, "failed", "draining", SAME, "stopping", "failed"], // ready
            [SAME, "failed", SAME, "ready", "stopping", "gone"],   // draining
            [SAME, SAME, SAME, SAME, SAME, "gone"],                // stopping
            [SAME, SAME, SAME, SAME, SAME, "gone"],                // failed
            [SAME, SAME, SAME, SAME, SAME, SAME],                  // gone
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
        fn the_end_is_never_left(picks in proptest::collection::vec(0_usize..6, 0..40)) {
            let mut phase = Phase::Starting;
            for pick in picks {
                let after = next(&phase, events()[pick].clone()).unwrap_or(phase.clone());
                let legal = match phase {
                    Phase::Gone => after == Phase::Gone,
                    Phase::Failed(_) => matches!(after, Phase::Failed(_) | Phase::Gone),
                    Phase::Stopping => matches!(after, Phase::Stopping | Phase::Gone),
                    Phase::Starting | Phase::Ready | Phase::Draining => true,
                };
                proptest::prop_assert!(legal, "{phase:?} became {after:?}");
                phase = after;
            }
        }
    }
}
