//! What the engine knows of a replica, in the replica's folder: what it was started from, and what it is doing by the
//! look of the files there. A folder appears with its record in it and disappears at once, so there is no half of one.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use tidegate_config::{
    name::ReplicaId,
    spec::{Digest, Exit, ObservedState, Revision, StartSpec},
};

use super::{
    cgroup::Cgroup,
    process::{self, Running},
    task::{Ended, Folder, Run, Task, read, write},
};

/// What a replica was started from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Which replica.
    pub id: ReplicaId,
    /// Which version of its service.
    pub revision: Revision,
    /// Its image.
    pub digest: Digest,
    /// Where it listens.
    pub port: u16,
    /// When its folder was made.
    pub created: SystemTime,
    /// How its image says that its health is checked.
    pub healthcheck: Option<Vec<String>>,
    /// The number of the signal that asks it to end.
    pub stop_signal: i32,
}

impl Record {
    /// The record of a replica that is about to be made.
    pub(crate) fn new(spec: &StartSpec, image: &super::images::Config, created: SystemTime) -> Self {
        Self {
            id: spec.id.clone(),
            revision: spec.revision.clone(),
            digest: spec.digest.clone(),
            port: spec.port,
            created,
            healthcheck: image.healthcheck(),
            stop_signal: image.stop_signal(),
        }
    }
}

/// What a replica is doing.
pub(crate) enum Doing {
    /// Its shim has not said yet that it runs.
    Nothing,
    /// Its process runs or is frozen.
    Running(Running),
    /// Its process ended.
    Exited(Exit),
}

/// All replicas' folders.
#[derive(Debug, Clone)]
pub(crate) struct Folders(PathBuf);

/// What folders that are not replicas' begin with: no replica's id does.
const BEING_MADE: &str = ".new-";
const BEING_REMOVED: &str = ".gone-";

/// Tells folders of one process apart.
static COUNTER: AtomicU64 = AtomicU64::new(0);

impl Folders {
    /// The folders below the engine's own.
    pub(crate) fn below(engine: &Path) -> Self {
        Self(engine.join("replicas"))
    }

    /// Where they are.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A replica's folder, whether it is there or not.
    pub(crate) fn of(&self, id: &ReplicaId) -> Folder {
        Folder(self.0.join(id.to_string()))
    }

    /// What a replica was started from, if it is there.
    pub(crate) fn find(&self, id: &ReplicaId) -> io::Result<Option<Record>> {
        read(&self.of(id).record())
    }

    /// Every replica that is there, and those of which nobody can tell what they are.
    pub(crate) fn all(&self) -> io::Result<(Vec<Record>, Vec<ReplicaId>)> {
        let (mut found, mut broken) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(&self.0)? {
            let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse::<ReplicaId>().ok()) else {
                continue;
            };
            match self.find(&id) {
                Ok(Some(record)) => found.push(record),
                // It went in this moment.
                Ok(None) if !self.of(&id).path().exists() => {}
                Ok(None) => broken.push(id),
                Err(error) => {
                    tracing::warn!(%id, %error, "the record of a replica cannot be read");
                    broken.push(id);
                }
            }
        }
        Ok((found, broken))
    }

    /// Makes a replica's folder, with its record in it. An error of the kind `AlreadyExists` if it is there.
    pub(crate) fn make(&self, record: &Record) -> io::Result<Folder> {
        let new = Folder(self.aside(BEING_MADE, &record.id));
        std::fs::create_dir(new.path())?;
        let made = (|| {
            write(&new.record(), record)?;
            std::fs::create_dir(new.bundle())?;
            std::fs::create_dir(new.scratch())?;
            let folder = self.of(&record.id);
            std::fs::rename(new.path(), folder.path()).map(|()| folder)
        })();
        made.map_err(|error| {
            drop(std::fs::remove_dir_all(new.path()));
            match error.kind() {
                io::ErrorKind::DirectoryNotEmpty => io::ErrorKind::AlreadyExists.into(),
                _ => error,
            }
        })
    }

    /// Takes a replica's folder away from under its name; what is left to do is to delete the path that this gives.
    pub(crate) fn take_away(&self, id: &ReplicaId) -> io::Result<Option<PathBuf>> {
        let aside = self.aside(BEING_REMOVED, id);
        match std::fs::rename(self.of(id).path(), &aside) {
            Ok(()) => Ok(Some(aside)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Folders that were being made or removed when a gateway died. Those of a gateway that lives are younger than `age`.
    pub(crate) fn abandoned(&self, now: SystemTime, age: std::time::Duration) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let ours = name.starts_with(BEING_MADE) || name.starts_with(BEING_REMOVED);
            let changed = entry.metadata().and_then(|metadata| metadata.modified()).unwrap_or(now);
            if ours && now.duration_since(changed).is_ok_and(|old| old >= age) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    /// What a replica is doing. What cannot be read is no reason to know nothing of the others: nothing lives behind it, as
    /// after a crash of the machine.
    pub(crate) fn doing(&self, id: &ReplicaId) -> Doing {
        let folder = self.of(id);
        self.look(&folder).unwrap_or_else(|error| {
            tracing::warn!(folder = %folder.path().display(), %error, "run.json or exit.json cannot be read");
            Doing::Exited(lost())
        })
    }

    fn look(&self, folder: &Folder) -> io::Result<Doing> {
        if let Some(exit) = ended(folder)? {
            return Ok(Doing::Exited(exit));
        }
        let Some(run) = read::<Run>(&folder.run())? else { return Ok(Doing::Nothing) };
        match process::find(run)? {
            Some(running) => Ok(Doing::Running(running)),
            // It may have ended between the two looks.
            None => Ok(Doing::Exited(ended(folder)?.unwrap_or_else(lost))),
        }
    }

    /// Forgets how a replica's process ended, because it is started again.
    pub(crate) fn begin_again(&self, id: &ReplicaId, task: &Task) -> io::Result<Folder> {
        let folder = self.of(id);
        for file in [folder.run(), folder.exit()] {
            match std::fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        write(&folder.task(), task)?;
        Ok(folder)
    }

    fn aside(&self, prefix: &str, id: &ReplicaId) -> PathBuf {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        self.0.join(format!("{prefix}{}-{number}-{id}", std::process::id()))
    }
}

impl Folder {
    /// The [`Record`].
    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("record.json")
    }
}

/// What an engine's list calls it.
pub(crate) fn state(doing: &Doing, cgroup: &Cgroup) -> ObservedState {
    match doing {
        Doing::Nothing => ObservedState::Created,
        Doing::Running(_) if cgroup.is_frozen() => ObservedState::Frozen,
        Doing::Running(_) => ObservedState::Running,
        Doing::Exited(exit) => ObservedState::Exited(exit.clone()),
    }
}

/// How the replica in this folder ended, if its shim says so.
pub(crate) fn ended(folder: &Folder) -> io::Result<Option<Exit>> {
    Ok(read::<Ended>(&folder.exit())?.map(|ended| ended.exit))
}

/// The end of a replica whose shim was ended from outside, or whose machine was: nobody was there to see it.
pub(crate) fn lost() -> Exit {
    let message = "its shim was ended from outside, or the machine was restarted".to_owned();
    Exit { code: 137, out_of_memory: false, disrupted: false, message: Some(message) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::task::Pid;

    fn record(id: &str) -> Record {
        Record {
            id: id.parse().expect("valid"),
            revision: Revision("r1".into()),
            digest: Digest("sha256:ab".into()),
            port: 80,
            created: SystemTime::UNIX_EPOCH,
            healthcheck: None,
            stop_signal: 15,
        }
    }

    #[test]
    fn folders_come_and_go_whole() {
        let engine = tempfile::tempdir().expect("a folder");
        let folders = Folders::below(engine.path());
        std::fs::create_dir(folders.path()).expect("made");
        let record = record("api-1-2");
        assert_eq!(folders.find(&record.id).expect("read"), None);
        folders.make(&record).expect("made");
        let again = folders.make(&record).expect_err("it is there");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        let (all, broken) = folders.all().expect("read");
        assert_eq!((all.as_slice(), broken.as_slice()), (std::slice::from_ref(&record), &[][..]));
        assert!(matches!(folders.doing(&record.id), Doing::Nothing));

        let left = folders.take_away(&record.id).expect("taken").expect("it was there");
        assert_eq!(folders.all().expect("read"), (vec![], vec![]));
        assert!(folders.take_away(&record.id).expect("nothing").is_none());
        let (now, age) = (SystemTime::now(), std::time::Duration::from_secs(600));
        assert_eq!(folders.abandoned(now, age).expect("read"), Vec::<PathBuf>::new());
        assert_eq!(folders.abandoned(now + 2 * age, age).expect("read"), [left]);
    }

    #[test]
    fn what_a_replica_does_is_in_its_folder() {
        let engine = tempfile::tempdir().expect("a folder");
        let folders = Folders::below(engine.path());
        std::fs::create_dir(folders.path()).expect("made");
        let record = record("api-1-2");
        let folder = folders.make(&record).expect("made");
        // A process with this number there is, but it started at another time.
        let gone = Pid { pid: 1, started: u64::MAX };
        let run = Run { shim: gone, init: gone, at: SystemTime::UNIX_EPOCH };
        write(&folder.run(), &run).expect("written");
        let is_lost = || matches!(folders.doing(&record.id), Doing::Exited(exit) if exit == lost());
        assert!(is_lost(), "nobody lives there");
        let exit = Exit { code: 3, out_of_memory: false, disrupted: false, message: None };
        write(&folder.exit(), &Ended { exit: exit.clone(), at: SystemTime::UNIX_EPOCH }).expect("written");
        assert!(matches!(folders.doing(&record.id), Doing::Exited(found) if found == exit));
        // As a crash of the machine may leave them.
        std::fs::write(folder.exit(), "").expect("written");
        assert!(is_lost(), "what cannot be read is over");
        std::fs::write(folder.record(), "").expect("written");
        assert_eq!(folders.all().expect("read"), (vec![], vec![record.id.clone()]));
    }
}
