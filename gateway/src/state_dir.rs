//! The state directory: who we are (the instance's id), which start this is (the generation), which engine was chosen.
//! Held by a file lock for as long as the gateway runs. Files are replaced whole and fsynced, so a torn write cannot be.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::fcntl::{Flock, FlockArg};
use tidegate_runner::InstanceId;

use crate::control::keep::{Keeper, Kept};

/// The file of what the control loop keeps.
const KEPT: &str = "kept.json";

/// A state directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another gateway holds it.
    #[error("the state directory {path} is held by another gateway (process {pid}); stop it, replace it without a gap with `tidegate up --take-over`, or use another directory with --state", path = .path.display())]
    Held {
        /// Which.
        path: PathBuf,
        /// Who holds it.
        pid: String,
    },
    /// A file in it cannot be read or written.
    #[error("cannot {act} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file in it does not hold what it should.
    #[error("{path} holds {found:?}, which is not {expected}; restore it, or start with an empty state directory (replicas of the old one are then strangers)", path = .path.display())]
    Broken {
        /// Which file.
        path: PathBuf,
        /// What it holds.
        found: String,
        /// What it should hold.
        expected: &'static str,
    },
}

/// A state directory that is ours until this is dropped.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: Flock<File>,
    /// Which installation this is, for ever.
    pub instance: InstanceId,
    /// Which start of the gateway this is; larger than any before.
    pub generation: u64,
}

impl StateDir {
    /// Takes a state directory, making it if it is not there, and counts this start.
    ///
    /// # Errors
    /// When another gateway holds it, or it cannot be read or written.
    pub fn take(path: &Path) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(io_error("create", path))?;
        let lock = lock(path)?;
        let instance = instance(path)?;
        let generation = count_start(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock, instance, generation })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The admin API's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket(&self.path)
    }

    /// What was remembered under this name, such as a host's engine.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn recall(&self, name: &str) -> Result<Option<String>, Error> {
        read(&self.path.join(name))
    }

    /// Remembers this for the next start.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn remember(&self, name: &str, value: &str) -> Result<(), Error> {
        replace(&self.path, name, value)
    }
}

impl StateDir {
    /// What the control loop kept, and how it keeps more; see [`keep`](crate::control::keep).
    ///
    /// # Errors
    /// When the file cannot be read, or does not hold what it should.
    pub fn keeper(&self) -> Result<Keeper, Error> {
        let broken = |found: String| Error::Broken {
            path: self.path.join(KEPT),
            found: found.chars().take(40).collect(),
            expected: "the JSON that a gateway of this version or an earlier one wrote",
        };
        let kept = match self.recall(KEPT)? {
            Some(text) => serde_json::from_str(&text).map_err(|_| broken(text))?,
            None => Kept::default(),
        };
        let path = self.path.clone();
        let save = move |text: &str| replace(&path, KEPT, text).map_err(io::Error::other);
        Ok(Keeper { kept, save: Arc::new(save) })
    }
}

/// The admin API's socket in a state directory.
#[must_use]
pub fn socket(state: &Path) -> PathBuf {
    state.join("admin.sock")
}

/// The state directory when none is named: /var/lib/tidegate as root, else below the XDG state home.
#[must_use]
pub fn default_path(root: bool, env: impl Fn(&str) -> Option<String>) -> PathBuf {
    if root {
        return PathBuf::from("/var/lib/tidegate");
    }
    let home = env("XDG_STATE_HOME").map(PathBuf::from);
    let home = home.or_else(|| env("HOME").map(|home| Path::new(&home).join(".local/state")));
    home.unwrap_or_else(std::env::temp_dir).join("tidegate")
}

fn lock(path: &Path) -> Result<Flock<File>, Error> {
    let file_path = path.join("lock");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&file_path)
        .map_err(io_error("open", &file_path))?;
    let mut lock =
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(mut file, errno)| match errno {
            nix::errno::Errno::EWOULDBLOCK => {
                let mut pid = String::new();
                // Who it is helps, and is not needed to say that somebody is there.
                drop(file.read_to_string(&mut pid));
                Error::Held { path: path.to_owned(), pid: pid.trim().to_owned() }
            }
            other => Error::Io { act: "lock", path: file_path.clone(), source: other.into() },
        })?;
    let write =
        lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id()));
    write.map_err(io_error("write", &file_path))?;
    Ok(lock)
}

fn instance(path: &Path) -> Result<InstanceId, Error> {
    let file = path.join("instance");
    match read(&file)? {
        Some(text) => {
            text.parse().map_err(|_| Error::Broken { path: file, found: text, expected: "32 hex digits" })
        }
        None => {
            let id = InstanceId::from_bits(rand::random());
            replace(path, "instance", &id.to_string())?;
            Ok(id)
        }
    }
}

fn count_start(path: &Path) -> Result<u64, Error> {
    let file = path.join("generation");
    let before = match read(&file)? {
        None => 0,
        Some(text) => text.parse::<u64>().map_err(|_| Error::Broken {
            path: file,
            found: text,
            expected: "a number",
        })?,
    };
    let generation = before + 1;
    replace(path, "generation", &generation.to_string())?;
    Ok(generation)
}

fn read(file: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", file)(error)),
    }
}

/// Writes beside, fsyncs, renames, fsyncs the directory: the file is the old one or the new one, never half of either.
fn replace(path: &Path, name: &str, value: &str) -> Result<(), Error> {
    let (file, beside) = (path.join(name), path.join(format!("{name}.new")));
    let write = || {
        let mut new = File::create(&beside)?;
        writeln!(new, "{value}")?;
        new.sync_all()?;
        fs::rename(&beside, &file)?;
        File::open(path)?.sync_all()
    };
    write().map_err(io_error("write", &file))
}

fn io_error<'p>(act: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> Error + 'p {
    move |source| Error::Io { act, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instance_stays_and_the_generation_grows() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = StateDir::take(dir.path()).expect("a free directory");
        let (instance, generation) = (first.instance.to_string(), first.generation);
        drop(first);
        let second = StateDir::take(dir.path()).expect("free again");
        assert_eq!((second.instance.to_string(), second.generation), (instance, generation + 1));
    }

    #[test]
    fn a_second_gateway_is_told_who_holds_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let _first = StateDir::take(dir.path()).expect("a free directory");
        let error = StateDir::take(dir.path()).expect_err("it is held").to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    }

    #[test]
    fn a_torn_write_leaves_the_old_value() {
        let dir = tempfile::tempdir().expect("a folder");
        drop(StateDir::take(dir.path()).expect("a free directory"));
        std::fs::write(dir.path().join("generation.new"), "garb").expect("a torn file");
        assert_eq!(StateDir::take(dir.path()).expect("free").generation, 2);
    }

    #[test]
    fn what_is_broken_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("generation"), "seven").expect("a file");
        let error = StateDir::take(dir.path()).expect_err("not a number").to_string();
        assert!(error.contains("generation") && error.contains("seven"), "{error}");
    }

    #[test]
    fn the_default_follows_the_user() {
        let env = |name: &str| (name == "HOME").then(|| "/home/a".to_owned());
        assert_eq!(default_path(true, env), Path::new("/var/lib/tidegate"));
        assert_eq!(default_path(false, env), Path::new("/home/a/.local/state/tidegate"));
    }
}
