//! The process that stands by one replica: it makes the replica's surroundings, runs it, keeps what it prints and says how
//! it ended, whether or not a gateway is there. Started by [`process`](super::process). One thread, little memory.

use std::{ffi::OsString, process::ExitCode};

use serde::{Deserialize, Serialize};

/// What a shim says to who started it, on its standard output, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// `run.json` is there; if the replica's program could not be run, `exit.json` says so.
    Runs,
    /// Nothing runs.
    Failed {
        /// Whether it may go better another time.
        blame: Blame,
        /// What happened, for people.
        message: String,
    },
}

/// Whether it may go better another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Blame {
    /// Not until somebody changes something.
    Permanent,
    /// It may.
    Retryable,
}

/// The shim's whole life: `start FOLDER` or `exec FOLDER -- COMMAND...`. To be called before the program does anything
/// else: there must be one thread.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    eprintln!("shim: {args:?} not understood");
    ExitCode::from(2)
}
