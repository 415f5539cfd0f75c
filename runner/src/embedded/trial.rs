//! The shim and what the gateway does with it, on their own, for the tests of this crate.

use std::{io, path::Path, time::Duration};

use tidegate_config::spec::Exit;

use super::{
    ShimProgram,
    cgroup::Cgroup,
    process::{Running, Shims, find},
    task::{self, Ended, Folder},
};
use crate::{Executed, Result, Stats};

/// What starts shims.
#[derive(Debug)]
pub struct Trial(Shims);

/// A replica that runs.
#[derive(Debug)]
pub struct Replica(Running);

/// A replica's control group.
#[derive(Debug)]
pub struct Group(Cgroup);

impl Trial {
    /// With the program that is a shim.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn new(program: &Path) -> Result<Self> {
        Shims::new(&ShimProgram { path: program.into(), args: Vec::new() }).map(Self)
    }

    /// Starts what `task.json` in the folder says.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn start(&self, folder: &Path) -> Result<Replica> {
        self.0.start(&Folder(folder.into())).await.map(Replica)
    }

    /// Runs a command beside it.
    ///
    /// # Errors
    /// If it cannot be run.
    pub async fn exec(&self, folder: &Path, command: &[&str], timeout: Duration) -> Result<Executed> {
        let command: Vec<_> = command.iter().map(|word| (*word).to_owned()).collect();
        self.0.exec(&Folder(folder.into()), &command, timeout).await
    }
}

impl Replica {
    /// The one that an earlier gateway has started.
    ///
    /// # Errors
    /// If its folder cannot be read.
    pub fn find(folder: &Path) -> io::Result<Option<Self>> {
        let run = task::read(&Folder(folder.into()).run())?;
        Ok(run.map(find).transpose()?.flatten().map(Self))
    }

    /// Ends with its shim.
    ///
    /// # Errors
    /// If it cannot be watched.
    pub async fn ended(&self) -> io::Result<()> {
        self.0.ended().await
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        self.0.signal(signal)
    }

    /// Ends its shim, hard.
    ///
    /// # Errors
    /// If the signal cannot be sent.
    pub fn kill_shim(&self) -> io::Result<()> {
        self.0.kill()
    }

    /// Its first process and its shim.
    #[must_use]
    pub fn pids(&self) -> (i32, i32) {
        (self.0.pid(), self.0.run.shim.pid)
    }
}

/// How the replica in a folder ended.
///
/// # Errors
/// If it did not, or the file cannot be read.
pub fn exit(folder: &Path) -> io::Result<Exit> {
    let ended: Ended = serde_json::from_slice(&std::fs::read(Folder(folder.into()).exit())?)?;
    Ok(ended.exit)
}

impl Group {
    /// By its path below the controllers' roots.
    #[must_use]
    pub fn of(path: &str) -> Self {
        Self(Cgroup::of(path))
    }

    /// Stops everything in it.
    ///
    /// # Errors
    /// If that cannot be done in time.
    pub async fn freeze(&self) -> io::Result<()> {
        self.0.freeze().await
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn thaw(&self) -> io::Result<()> {
        self.0.thaw()
    }

    /// Whether everything in it is stopped.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.0.is_frozen()
    }

    /// Ends everything in it.
    ///
    /// # Errors
    /// If that cannot be done in time.
    pub async fn kill(&self) -> io::Result<()> {
        self.0.kill().await
    }

    /// What it uses.
    ///
    /// # Errors
    /// If it is not there.
    pub fn stats(&self) -> io::Result<Stats> {
        self.0.stats()
    }

    /// Removes it.
    ///
    /// # Errors
    /// If it stays in use.
    pub async fn remove(&self) -> io::Result<()> {
        self.0.remove().await
    }

    /// Whether any of it is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.0.folders().iter().any(|folder| folder.exists())
    }
}
