//! Unpacks one layer of an image, which nobody trusts, into a fresh folder that becomes a lower layer of an overlayfs.
//! The store calls it, one blocking call for each layer.
//! Holds: whatever the tar says, nothing outside the folder is written, linked or changed; what a layer may take is
//! bounded. Absent: the digests that are expected, fsync, what becomes of the folder after an error.

use std::{io::Read, path::Path};

use tidegate_config::spec::Digest;

mod attributes;
mod decompress;
mod error;
mod header;
#[cfg(test)]
mod hostile;
mod index;
mod limits;
mod make;
mod member;
mod name;
mod pax;
mod place;
mod remove;
mod sparse;
mod stream;
mod trouble;

use make::Maker;
use member::Members;
use place::Root;
use trouble::Trouble;

pub(crate) use decompress::{decompress, is_compressed};
pub(crate) use error::Error;
pub(crate) use index::{Lies, index};
pub(crate) use limits::Limits;

/// What a layer turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// sha256 of the uncompressed tar, all of its bytes.
    pub diff_id: Digest,
    /// How many those are.
    pub bytes: u64,
    /// Entries, extension headers not counted.
    pub entries: u64,
    /// Device nodes that were left out: a replica gets its own /dev and no rights to make or use others.
    pub devices: u64,
}

/// Unpacks a tar into `into`, an empty folder. Blocks. After an error the folder holds a part of the layer.
pub(crate) fn unpack(tar: impl Read, into: &Path, limits: &Limits) -> Result<Unpacked, Error> {
    let wrong = |trouble: Trouble, name: &[u8]| trouble.at(name, into, limits);
    let root = Root::open(into, limits.depth).map_err(|errno| wrong(errno.into(), b"."))?;
    let (mut members, mut maker, mut entries) = (Members::new(tar, limits), Maker::new(root, limits), 0);
    while let Some(member) = members.next()? {
        maker.make(&member, &mut members).map_err(|trouble| wrong(trouble, &member.name))?;
        entries += 1;
    }
    let devices = maker.devices;
    let (diff_id, bytes) = members.finish()?;
    Ok(Unpacked { diff_id, bytes, entries, devices })
}
