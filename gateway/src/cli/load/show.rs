//! How a run goes, for whoever watches: a [`screen`](super::screen) on a terminal, or one [line](super::line) if that is
//! preferred, or a line now and then where there is no terminal. All on standard error.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
    time::Duration,
};

use tidegate_loadtest::{Snapshot, overlay::Overlay};
use tokio::sync::Notify;

use super::{
    args::Asked,
    line::{Line, words},
    screen::Screen,
};

/// Between two lines where there is no terminal.
const NOW_AND_THEN: Duration = Duration::from_secs(10);

pub(super) enum Show {
    Screen(Box<Screen>),
    Line(Line),
    Lines { next: Duration },
}

impl Show {
    /// `stop` is rung when somebody at the screen wants to end the plan, `abort` when they do not want to wait for what is under way either.
    pub(super) fn new(asked: &Asked, plain: bool, stop: Arc<Notify>, abort: Arc<Notify>) -> Self {
        let terminal = io::stderr().is_terminal() && io::stdin().is_terminal();
        if !terminal {
            return Self::Lines { next: NOW_AND_THEN };
        }
        let line = || Self::Line(Line::new(asked.pattern.duration()));
        if plain {
            return line();
        }
        Screen::open(asked, stop, abort).map_or_else(|_| line(), |screen| Self::Screen(Box::new(screen)))
    }

    pub(super) fn show(&mut self, snapshot: &Snapshot, seen: Option<&Overlay>) {
        match self {
            Self::Screen(screen) => screen.show(snapshot, seen),
            Self::Line(line) => line.show(snapshot),
            Self::Lines { next } => {
                if snapshot.elapsed >= *next && !snapshot.finished {
                    *next = snapshot.elapsed + NOW_AND_THEN;
                    say(snapshot);
                }
            }
        }
    }

    /// Leaves the terminal as it was.
    pub(super) fn finish(self) {
        match self {
            Self::Screen(screen) => drop(screen),
            Self::Line(line) => line.finish(),
            Self::Lines { .. } => {}
        }
    }
}

#[expect(clippy::print_stderr, reason = "it is progress, not output")]
fn say(snapshot: &Snapshot) {
    eprintln!("{:>6.0}s  {}", snapshot.elapsed.as_secs_f64(), words(snapshot));
}
