//! What `tidegate doctor` knows: whether this machine has what the engine needs, and what crashes left behind.
//! [`judge`] and [`leftovers`] decide, on what [`machine`] and [`look`] have seen; [`remove`] does away
//! with it. Holds: whatever belongs to a replica with a record, or to another instance that lives, is left alone; safe
//! while a gateway runs. Absent: Docker's containers, the state directory's own files.

mod attempt;
mod judge;
mod leftovers;
mod look;
mod machine;
mod remove;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use judge::{Finding, Verdict};

use self::leftovers::{Found, Thing};
use super::{RUN, network};
use crate::{Error, InstanceId, Kind, Result};

/// The instance whose state directory is looked at.
#[derive(Debug, Clone)]
pub struct Installation {
    /// Its id.
    pub instance: InstanceId,
    /// Its engine's folder.
    pub folder: PathBuf,
    /// Whether a gateway runs on the state directory.
    pub gateway: bool,
}

/// Something that belongs to nobody any more.
#[derive(Debug, Clone, Serialize)]
pub struct Leftover {
    /// The first 8 digits (or 6, where names are short) of the id of the instance whose it was.
    pub instance: String,
    /// What it is, for people.
    pub what: String,
    #[serde(skip)]
    thing: Thing,
}

/// Whether this machine has what the engine needs. `state`: the state directory, where there is one.
///
/// # Errors
/// When the look is broken off.
pub async fn check(state: Option<PathBuf>) -> Result<Vec<Finding>> {
    let look = move || judge::judge(&machine::Machine::look(state.as_deref()));
    tokio::task::spawn_blocking(look).await.map_err(broken_off)
}

/// What the engine cannot do without and this machine lacks, a sentence each; none: it can run. Blocking.
#[must_use]
pub fn missing() -> Vec<String> {
    let found = judge::judge(&machine::Machine::look(None));
    let missing = found.into_iter().filter(|finding| finding.verdict == Verdict::Fail);
    missing
        .map(|Finding { what, found, advice, .. }| {
            let advice = advice.map(|advice| format!(" ({advice})")).unwrap_or_default();
            format!("{what}: {found}{advice}")
        })
        .collect()
}

/// What belongs to nobody any more, on the whole machine, in an order in which it can be removed.
///
/// # Errors
/// When this is not asked as root, or the network does not tell.
pub async fn leftovers(own: Option<&Installation>) -> Result<Vec<Leftover>> {
    look_below(Path::new(RUN), own).await
}

async fn look_below(run: &Path, own: Option<&Installation>) -> Result<Vec<Leftover>> {
    let (asked, owned, folder) = (run.to_owned(), own.cloned(), own.map(|own| own.folder.clone()));
    let mut seen = tokio::task::spawn_blocking(move || look::look(&asked, folder.as_deref()))
        .await
        .map_err(broken_off)?;
    seen.network = network::leftovers(run).await?;
    let own = owned.map(|own| look::own(own.instance.short(), &own.folder, own.gateway));
    Ok(self::leftovers::leftovers(&seen, own.as_ref()).into_iter().map(Leftover::from).collect())
}

impl Leftover {
    /// Removes it; fine if it is gone. What got an owner since it was found is left alone.
    ///
    /// # Errors
    /// When it cannot be removed, with what stands in the way.
    pub async fn remove(&self, own: Option<&Installation>) -> Result<()> {
        let found = Found { instance: self.instance.clone(), thing: self.thing.clone() };
        remove::remove(&found, own).await
    }
}

impl From<Found> for Leftover {
    fn from(found: Found) -> Self {
        let what = match &found.thing {
            Thing::Shim(shim) => format!("process {}, which watched over a replica", shim.pid.pid),
            Thing::Mount(path) => format!("mounted file system {}", path.display()),
            Thing::Group(group) => {
                let path = look::path(&group.instance, &group.name);
                match group.processes {
                    0 => format!("control group {path}"),
                    1 => format!("control group {path} with a process"),
                    many => format!("control group {path} with {many} processes"),
                }
            }
            Thing::Network(thing) => thing.what.clone(),
            Thing::Folder(path) => format!("folder {}", path.display()),
        };
        Self { instance: found.instance, what, thing: found.thing }
    }
}

/// Removes everything of an instance that the engine made, except images and named volumes: processes, mounts, control
/// groups, network, replicas' folders. No gateway may run on it.
///
/// # Errors
/// The first thing that could not be removed.
pub async fn purge(folder: &Path, instance: &InstanceId) -> Result<()> {
    remove::purge(folder, instance.short(), Path::new(RUN)).await
}

fn broken_off(error: tokio::task::JoinError) -> Error {
    Error::because(Kind::Retryable, "the look at this machine was broken off", error)
}
