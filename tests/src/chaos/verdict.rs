//! What a mode says at its end: figures in order, and whatever was not as it should be.

use std::fmt::{self, Display};

use tokio::time::{Duration, Instant};

use super::load::Tally;

/// The result of one mode.
#[derive(Debug, Default)]
pub struct Verdict {
    figures: Vec<(String, String)>,
    problems: Vec<String>,
}

impl Verdict {
    /// Adds a figure.
    pub fn figure(&mut self, name: &str, value: impl Display) -> &mut Self {
        self.figures.push((name.to_owned(), value.to_string()));
        self
    }

    /// Adds a time in milliseconds.
    pub fn millis(&mut self, name: &str, time: Duration) -> &mut Self {
        self.figure(name, time.as_millis())
    }

    /// Adds the figures of a load; every error is a problem.
    pub fn load(&mut self, tally: &Tally, fault: Instant) -> &mut Self {
        self.figure("requests", tally.requests()).figure("errors", tally.errors());
        self.millis("recovered_ms", tally.recovered(fault));
        if tally.reconnects > 0 {
            self.figure("reconnects", tally.reconnects);
        }
        self.faultless(tally)
    }

    /// The same without figures.
    pub fn faultless(&mut self, tally: &Tally) -> &mut Self {
        self.require(tally.requests() > 0, "no request was sent");
        for (reason, count) in tally.reasons() {
            self.problem(format!("{count} x {reason}"));
        }
        self
    }

    /// Notes a problem unless this holds.
    pub fn require(&mut self, holds: bool, otherwise: impl Into<String>) -> &mut Self {
        if !holds {
            self.problems.push(otherwise.into());
        }
        self
    }

    /// Notes a problem.
    pub fn problem(&mut self, what: impl Into<String>) -> &mut Self {
        self.problems.push(what.into());
        self
    }

    /// Notes problems.
    pub fn problems(&mut self, what: impl IntoIterator<Item = String>) -> &mut Self {
        self.problems.extend(what);
        self
    }

    /// Whether there is none.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.figures {
            write!(f, "{name}={value} ")?;
        }
        match self.problems.as_slice() {
            [] => f.write_str("ok"),
            problems => write!(f, "FAILED: {}", problems.join("; ")),
        }
    }
}
