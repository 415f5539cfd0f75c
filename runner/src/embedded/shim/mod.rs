//! The process that stands by one replica: it makes the replica's surroundings, runs it, keeps what it prints and says how
//! it ended, whether or not a gateway is there. Started by [`process`](super::process). One thread, little memory.
//! Its own mount namespace holds all that it mounts, so nothing is left when it ends, however it ends.

use std::{ffi::OsString, io::Write, path::PathBuf, process::ExitCode};

use serde::{Deserialize, Serialize};

use super::task::Folder;

mod copy;
mod errors;
mod exec;
mod failure;
mod files;
mod fill;
mod image;
mod init;
mod lines;
mod log;
mod overlay;
mod root;
mod run;
mod seccomp;
mod spec;
mod user;
mod watch;

pub(crate) use failure::Blame;
use failure::Failure;

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

/// The shim's whole life: `start FOLDER` or `exec FOLDER -- COMMAND...`. To be called before the program does anything
/// else: there must be one thread.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let words: Vec<_> = args.iter().map(|word| word.to_str()).collect();
    match words.as_slice() {
        [Some("start"), Some(folder)] => start(&Folder(PathBuf::from(folder))),
        [Some("exec"), Some(folder), Some("--"), Some(first), rest @ ..] => {
            let command = std::iter::once(Some(*first)).chain(rest.iter().copied());
            match command.map(|word| word.map(str::to_owned)).collect::<Option<Vec<_>>>() {
                Some(command) => exec::exec(&Folder(PathBuf::from(folder)), &command),
                None => usage(),
            }
        }
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: shim start FOLDER | shim exec FOLDER -- COMMAND...");
    ExitCode::from(2)
}

fn start(folder: &Folder) -> ExitCode {
    let answered = |answer: Answer| {
        let text = serde_json::to_string(&answer).unwrap_or_default();
        let mut out = std::io::stdout();
        // A gateway that has died meanwhile finds the same in the folder.
        drop(writeln!(out, "{text}").and_then(|()| out.flush()));
        // The gateway reads to the end.
        drop(root::close_output());
    };
    errors::keep();
    let replica = match run::start(folder) {
        Ok(replica) => replica,
        Err(Failure { blame, message }) => {
            answered(Answer::Failed { blame, message });
            return ExitCode::FAILURE;
        }
    };
    answered(Answer::Runs);
    match watch::to_the_end(folder, replica) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { message, .. }) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
