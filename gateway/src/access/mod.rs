//! The access log: one line for each request, and for each connection of a TCP service, written by a thread of its own, so that neither
//! a slow nor a full disk ever keeps anybody waiting. [`record`](crate::request) and [`account`](crate::tcp) hand in what has ended;
//! [`line`](mod@line) and [`connection`] make it text, [`file`](mod@file) puts it away.
//! Holds: what waits to be written is bounded; what does not fit is dropped and counted.

mod connection;
mod file;
pub mod line;

use std::{cell::RefCell, path::PathBuf, sync::Arc, thread, time::Duration};

use metrics::{Counter, counter};
use parking_lot::{Condvar, Mutex};
use tidegate_config::model::{AccessLog, LogFormat, LogTo};

pub use connection::Connection;
pub use line::Entry;

use self::file::Output;
use crate::telemetry;

/// Bytes that may wait to be written: a second of twenty thousand requests.
const WAITING: usize = 6 << 20;

/// Lines are written so often at most, many at once.
const GATHER: Duration = Duration::from_millis(20);

/// How long lines that wait may take to be written when the log ends; a disk that hangs must not keep the gateway.
const FAREWELL: Duration = Duration::from_secs(1);

thread_local! {
    /// Where lines are made, so that none needs memory of its own.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// An access log. Dropping it lets its thread write what waits, without waiting for that.
#[derive(Debug)]
pub struct Log {
    settings: AccessLog,
    shared: Arc<Shared>,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    reopen: bool,
    ends: bool,
    ended: bool,
}

impl Log {
    /// A log with these settings.
    ///
    /// # Errors
    /// When its thread cannot be made.
    pub fn start(settings: AccessLog) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let output = match &settings.to {
            LogTo::Stdout => Output::stdout(),
            LogTo::Stderr => Output::stderr(),
            LogTo::File(path) => Output::file(PathBuf::clone(path)),
        };
        let of_thread = Arc::clone(&shared);
        thread::Builder::new().name("access-log".into()).spawn(move || of_thread.run(output))?;
        Ok(Self { settings, shared, dropped: counter!(telemetry::LOG_DROPPED) })
    }

    /// What the file says of it.
    #[must_use]
    pub fn settings(&self) -> &AccessLog {
        &self.settings
    }

    /// Notes a request. Never waits.
    pub fn note(&self, entry: &Entry<'_>) {
        self.put(|text| line::write(self.settings.format, entry, text));
    }

    /// Notes a connection of a TCP service, where the format has lines for these. Never waits.
    pub fn note_connection(&self, connection: &Connection<'_>) {
        if self.settings.format == LogFormat::Json {
            self.put(|text| connection::write(connection, text));
        }
    }

    fn put(&self, write: impl FnOnce(&mut Vec<u8>)) {
        LINE.with_borrow_mut(|text| {
            text.clear();
            write(text);
            let mut state = self.shared.state.lock();
            if state.waiting.len() + text.len() > WAITING {
                return self.dropped.increment(1);
            }
            let first = state.waiting.is_empty();
            state.waiting.extend_from_slice(text);
            drop(state);
            if first {
                self.shared.changed.notify_one();
            }
        });
    }

    /// No more requests come: waits until all lines are written, for a moment.
    pub fn finish(&self) {
        let mut state = self.shared.state.lock();
        state.ends = true;
        self.shared.changed.notify_one();
        while !state.ended {
            if self.shared.changed.wait_for(&mut state, FAREWELL).timed_out() {
                return tracing::warn!("the access log cannot be written; its last lines are lost");
            }
        }
    }

    /// The file is opened anew: somebody has moved it away.
    pub fn reopen(&self) {
        self.shared.state.lock().reopen = true;
        self.shared.changed.notify_one();
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // Whoever lets go last may be a request.
        self.shared.state.lock().ends = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    /// The thread: takes what waits, all at once, and writes it.
    fn run(&self, mut output: Output) {
        let mut taken = Vec::new();
        loop {
            let mut state = self.state.lock();
            while state.waiting.is_empty() && !state.ends && !state.reopen {
                self.changed.wait(&mut state);
            }
            if !state.ends && !state.reopen {
                // More are on their way: one write for all of them.
                self.changed.wait_for(&mut state, GATHER);
            }
            let (reopen, ends) = (std::mem::take(&mut state.reopen), state.ends);
            std::mem::swap(&mut state.waiting, &mut taken);
            drop(state);
            if reopen {
                output.reopen();
            }
            output.write(&taken);
            taken.clear();
            if ends {
                self.state.lock().ended = true;
                self.changed.notify_all();
                return;
            }
        }
    }
}
