//! What goes wrong with one entry, before the entry's name is put to it.

use std::{io, path::Path};

use nix::errno::Errno;

use super::{Error, member::shown, name::Fault};

/// What goes wrong with one entry.
#[derive(Debug)]
pub(super) enum Trouble {
    Refused(&'static str),
    TooLong,
    TooDeep,
    System(Errno),
    /// It has its words already.
    Layer(Error),
}

impl Trouble {
    /// The error, with the name of the entry and the folder of the layer.
    pub(super) fn at(self, name: &[u8], folder: &Path, limits: &super::Limits) -> Error {
        let entry = shown(name);
        let folder = folder.to_owned();
        match self {
            Self::Refused(why) => Error::Refused { entry, why },
            Self::TooLong => Error::TooLarge { what: "bytes in a name", limit: limits.path as u64, entry },
            Self::TooDeep => {
                Error::TooLarge { what: "folders below each other", limit: limits.depth as u64, entry }
            }
            Self::System(errno @ (Errno::ENOSPC | Errno::EDQUOT)) => {
                Error::Full { folder, source: errno.into() }
            }
            Self::System(errno) => Error::Write { entry, folder, source: errno.into() },
            Self::Layer(error) => error,
        }
    }
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::System(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Layer(error)
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(why) => Self::Refused(why),
            Fault::TooLong => Self::TooLong,
            Fault::TooDeep => Self::TooDeep,
        }
    }
}
