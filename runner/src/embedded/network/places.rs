//! Who has which place, as files, so that two gateways agree and a crash forgets nothing:
//! `claims/K` for as long as anything of place K exists, locked while someone works on it; a second name of the same
//! file says what K is for: `free/K` (`open/K` with access to metadata), `used/REPLICA`, `gone/..`. Its content is K.
//! Holds: each step is one atomic rename or link; the claim is the last to go.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use tidegate_config::name::ReplicaId;

use super::names::Names;

const CLAIMS: &str = "claims";
const USED: &str = "used";
const GONE: &str = "gone";
const NEW: &str = "new";
const FREE: [&str; 2] = ["free", "open"];
/// The place that was claimed last: addresses go round before one is used again.
const CURSOR: &str = "cursor";

/// Which place is whose.
#[derive(Debug)]
pub(super) struct Places {
    root: PathBuf,
    ready: &'static str,
    other: &'static str,
    /// Tells the names that this gives apart from those of others: process ids are not unique across containers.
    token: u64,
    counter: AtomicU64,
}

/// The right to work on a place: nobody else makes or removes it meanwhile. Ends with the process at the latest.
#[derive(Debug)]
pub(super) struct Claim {
    /// Which place.
    pub k: u32,
    /// Whether nobody had claimed it before.
    pub fresh: bool,
    path: PathBuf,
    _locked: File,
}

/// What became of a wish to take a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// This one is the replica's.
    Place(u32),
    /// None is ready.
    NoneReady,
}

impl Places {
    /// Whether nobody has removed them.
    pub(super) fn exist(&self) -> bool {
        self.root.join("claims").exists()
    }

    /// Works on this folder, which is made if it is absent.
    pub(super) fn open(root: PathBuf, allow_metadata: bool) -> io::Result<Self> {
        for folder in [CLAIMS, USED, GONE, NEW].into_iter().chain(FREE) {
            fs::create_dir_all(root.join(folder))?;
        }
        let (ready, other) = if allow_metadata { ("open", "free") } else { ("free", "open") };
        Ok(Self { root, ready, other, token: rand::random(), counter: AtomicU64::new(0) })
    }

    fn path(&self, folder: &str, name: impl ToString) -> PathBuf {
        self.root.join(folder).join(name.to_string())
    }

    /// Gives the replica a place that is ready; the one that it has already, if it has one.
    pub(super) fn take(&self, id: &ReplicaId) -> io::Result<Taken> {
        let used = self.path(USED, id);
        if let Some(k) = number(&used)? {
            return Ok(Taken::Place(k));
        }
        for k in self.ready()? {
            match rename(&self.path(self.ready, k), &used) {
                Ok(()) => return Ok(Taken::Place(k)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => break,
                Err(error) => return Err(error),
            }
        }
        Ok(number(&used)?.map_or(Taken::NoneReady, Taken::Place))
    }

    /// The place that a replica holds.
    pub(super) fn of(&self, id: &ReplicaId) -> io::Result<Option<u32>> {
        number(&self.path(USED, id))
    }

    /// The replicas that hold a place.
    pub(super) fn held(&self) -> io::Result<Vec<ReplicaId>> {
        Ok(list(&self.root.join(USED))?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The places that are ready to be taken.
    pub(super) fn ready(&self) -> io::Result<BTreeSet<u32>> {
        self.numbers(self.ready)
    }

    /// The places that are claimed, whatever for.
    pub(super) fn claimed(&self) -> io::Result<BTreeSet<u32>> {
        self.numbers(CLAIMS)
    }

    /// The places that replicas hold. Look for free ones before this: they turn into these.
    pub(super) fn used(&self) -> io::Result<BTreeSet<u32>> {
        Ok(self.contents(USED)?.into_iter().map(|(_, k)| k).collect())
    }

    fn numbers(&self, folder: &str) -> io::Result<BTreeSet<u32>> {
        Ok(list(&self.root.join(folder))?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Gives back what a replica holds: from now on its place is gone. False if it held none.
    pub(super) fn release(&self, id: &ReplicaId) -> io::Result<bool> {
        found(fs::rename(self.path(USED, id), self.path(GONE, self.fresh(id))))
    }

    /// A name that nobody else gives: a replica may give back two places, one after the other.
    fn fresh(&self, what: impl ToString) -> String {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        format!("{}.{:x}.{number}", what.to_string(), self.token)
    }

    /// The same for a place that is used but broken, so that nobody knows by whom.
    pub(super) fn abandon(&self, k: u32) -> io::Result<()> {
        for (name, used) in self.contents(USED)? {
            if used == k {
                found(fs::rename(self.path(USED, &name), self.path(GONE, self.fresh(&name))))?;
            }
        }
        Ok(())
    }

    /// Takes back a place that is ready, unless it has been taken.
    pub(super) fn withdraw(&self, k: u32) -> io::Result<()> {
        self.withdraw_from(self.ready, k)
    }

    /// Takes back all places that are ready for a gateway with the other rule about metadata.
    pub(super) fn withdraw_others(&self) -> io::Result<()> {
        self.numbers(self.other)?.into_iter().try_for_each(|k| self.withdraw_from(self.other, k))
    }

    /// Takes back all places that are ready.
    pub(super) fn withdraw_ready(&self) -> io::Result<()> {
        self.ready()?.into_iter().try_for_each(|k| self.withdraw(k))
    }

    fn withdraw_from(&self, from: &str, k: u32) -> io::Result<()> {
        found(fs::rename(self.path(from, k), self.path(GONE, self.fresh(k)))).map(drop)
    }

    /// The places that are to be removed, by the name of what says so.
    pub(super) fn gone(&self) -> io::Result<Vec<(String, u32)>> {
        self.contents(GONE)
    }

    /// Whether this is still to be removed.
    pub(super) fn is_gone(&self, name: &str) -> bool {
        self.path(GONE, name).exists()
    }

    /// The claim of a place that is gone, unless someone works on it.
    pub(super) fn seize(&self, k: u32) -> io::Result<Option<Claim>> {
        let path = self.path(CLAIMS, k);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return self.claim(k),
            opened => opened?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Whoever held the lock before may have finished with the place, and someone may have begun anew.
        let same =
            fs::metadata(&path).is_ok_and(|there| file.metadata().is_ok_and(|f| f.ino() == there.ino()));
        Ok(same.then_some(Claim { k, fresh: false, path, _locked: file }))
    }

    /// A claim on a place that nobody has claimed. It is locked before it can be seen.
    pub(super) fn claim(&self, k: u32) -> io::Result<Option<Claim>> {
        let draft = self.path(NEW, self.fresh(k));
        let mut file = OpenOptions::new().write(true).create_new(true).open(&draft)?;
        file.lock()?;
        file.write_all(k.to_string().as_bytes())?;
        let path = self.path(CLAIMS, k);
        let linked = fs::hard_link(&draft, &path);
        found(fs::remove_file(&draft))?;
        match linked {
            Ok(()) => Ok(Some(Claim { k, fresh: true, path, _locked: file })),
            // Claimed by someone else, or the draft was swept away in the moment before it was locked.
            Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A claim on the next place; `None` if there is no room.
    pub(super) fn claim_next(&self, names: &Names) -> io::Result<Option<Claim>> {
        let claimed = self.claimed()?;
        if claimed.len() >= names.room() {
            return Ok(None);
        }
        let (first, last) = names.places().into_inner();
        let cursor = self.root.join(CURSOR);
        let from = number(&cursor)?.filter(|k| names.places().contains(k)).map_or(first, |k| k + 1);
        for k in (from..=last).chain(first..from).filter(|k| !claimed.contains(k)) {
            if let Some(claim) = self.claim(k)? {
                fs::write(&cursor, k.to_string())?;
                return Ok(Some(claim));
            }
        }
        Ok(None)
    }

    /// Makes a finished place ready to be taken.
    pub(super) fn offer(&self, claim: &Claim) -> io::Result<()> {
        fs::hard_link(&claim.path, self.path(self.ready, claim.k))
    }

    /// Gives a finished place to the replica; to anybody, if the replica has got one meanwhile.
    pub(super) fn assign(&self, claim: &Claim, id: &ReplicaId) -> io::Result<()> {
        match fs::hard_link(&claim.path, self.path(USED, id)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.offer(claim),
            linked => linked,
        }
    }

    /// Has a place removed that is nobody's.
    pub(super) fn condemn(&self, claim: &Claim) -> io::Result<()> {
        fs::hard_link(&claim.path, self.path(GONE, self.fresh(claim.k)))
    }

    /// Forgets a place of which nothing exists any more; `gone` is what said that it is to be removed.
    pub(super) fn forget(&self, claim: Claim, gone: Option<&str>) -> io::Result<()> {
        if let Some(name) = gone {
            found(fs::remove_file(self.path(GONE, name)))?;
        }
        found(fs::remove_file(&claim.path)).map(drop)
    }

    /// Removes files that say nothing: drafts of claims that were never made, and what a loss of power emptied.
    pub(super) fn sweep(&self) -> io::Result<()> {
        for name in list(&self.root.join(NEW))? {
            let path = self.path(NEW, name);
            if File::open(&path).is_ok_and(|draft| draft.try_lock().is_ok()) {
                found(fs::remove_file(path))?;
            }
        }
        for folder in [USED, GONE].into_iter().chain(FREE) {
            for path in list(&self.root.join(folder))?.into_iter().map(|name| self.path(folder, name)) {
                if path.exists() && number(&path)?.is_none() {
                    found(fs::remove_file(path))?;
                }
            }
        }
        Ok(())
    }

    fn contents(&self, folder: &str) -> io::Result<Vec<(String, u32)>> {
        let mut found = Vec::new();
        for name in list(&self.root.join(folder))? {
            if let Some(k) = number(&self.path(folder, &name))? {
                found.push((name, k));
            }
        }
        Ok(found)
    }
}

/// The number in a file; `None` if there is no such file, or no number in it.
fn number(path: &Path) -> io::Result<Option<u32>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.parse().ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Like a rename, but never in place of another file.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    Ok(renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE)?)
}

fn found(outcome: io::Result<()>) -> io::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The names in a folder; none if there is no such folder.
pub(super) fn list(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two gateways in two containers may have one process id.
    #[test]
    fn two_gateways_give_different_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Places::open(folder.path().to_owned(), false).expect("places");
        let (one, other) = (open(), open());
        assert_ne!(one.fresh(7), other.fresh(7));
        assert_ne!(one.fresh(7), one.fresh(7));
    }
}
