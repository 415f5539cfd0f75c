//! Makes what an entry says, in the layer's folder.

use std::{
    fs::File,
    io::{Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{Mode, SFlag, fstat, mknodat},
    unistd::{UnlinkatFlags, linkat, mkfifoat, symlinkat, unlinkat},
};

use super::{
    Limits, attributes,
    header::Kind,
    member::{Member, Members},
    name::{Meaning, Name},
    place::{self, Root, is, is_whiteout, look},
    trouble::Trouble,
};

/// Makes entries in a layer's folder.
pub(super) struct Maker {
    root: Root,
    limits: Limits,
    /// Device nodes that were left out.
    pub devices: u64,
}

impl Maker {
    pub(super) fn new(root: Root, limits: &Limits) -> Self {
        Self { root, limits: *limits, devices: 0 }
    }

    pub(super) fn make<R: Read>(
        &mut self,
        member: &Member,
        contents: &mut Members<R>,
    ) -> Result<(), Trouble> {
        let name = self.named(&member.name)?;
        let (folder, last) = name.split();
        match name.meaning().map_err(Trouble::Refused)? {
            Meaning::Plain if name.is_root() => self.top(member),
            Meaning::Plain => self.plain(folder, last, member, contents),
            Meaning::Hides(hidden) => self.hide(folder, hidden),
            Meaning::Opaque => self.opaque(folder),
            Meaning::Leftover => Ok(()),
        }
    }

    fn named(&self, text: &[u8]) -> Result<Name, Trouble> {
        let mut name = Name::default();
        let path = self.limits.path.min(self.root.longest());
        name.read(text, &Limits { path, ..self.limits })?;
        Ok(name)
    }

    /// An entry of the layer's own folder.
    fn top(&mut self, member: &Member) -> Result<(), Trouble> {
        if member.kind != Kind::Folder {
            return Err(Trouble::Refused("it has no name"));
        }
        self.root.forget();
        attributes::set(self.root.folder(), member)
    }

    fn plain<R: Read>(
        &mut self,
        folder: &[u8],
        last: &[u8],
        member: &Member,
        contents: &mut Members<R>,
    ) -> Result<(), Trouble> {
        match member.kind {
            Kind::Folder => self.folder(folder, last, member),
            Kind::HardLink => self.link(folder, last, member),
            Kind::Symlink => self.symlink(folder, last, member),
            Kind::File | Kind::Sparse => {
                let file = self.fresh(folder, last, create)?;
                let file = write(File::from(file), member, contents)?;
                attributes::set(&file.into(), member)
            }
            Kind::Fifo => {
                let fifo = self.fresh(folder, last, fifo)?;
                attributes::set(&fifo, member)
            }
            Kind::Character if member.device == (0, 0) => {
                Err(Trouble::Refused("it would be a whiteout of overlayfs"))
            }
            Kind::Character | Kind::BlockDevice => {
                self.devices += 1;
                Ok(())
            }
            Kind::Extended | Kind::Global | Kind::LongName | Kind::LongLink | Kind::Unknown => {
                Err(Trouble::Refused("its type is not known"))
            }
        }
    }

    fn folder(&mut self, folder: &[u8], last: &[u8], member: &Member) -> Result<(), Trouble> {
        let parent = self.root.parent(folder)?;
        let mut replaced = false;
        let made = match look(parent, last)? {
            None => place::new_folder(parent, last)?,
            Some(found) if is(&found, SFlag::S_IFDIR) => place::open_folder(parent, last)?,
            Some(found) => {
                unlinkat(parent, last, UnlinkatFlags::NoRemoveDir)?;
                replaced = true;
                let made = place::new_folder(parent, last)?;
                if is_whiteout(&found) {
                    // What lower layers have there stays hidden.
                    attributes::make_opaque(&made)?;
                }
                made
            }
        };
        attributes::set(&made, member)?;
        if replaced {
            self.root.forget();
        }
        Ok(())
    }

    fn symlink(&mut self, folder: &[u8], last: &[u8], member: &Member) -> Result<(), Trouble> {
        let target = member.link.as_slice();
        if target.is_empty() || target.contains(&0) {
            return Err(Trouble::Refused("it is a symlink to nothing"));
        }
        if target.len() > self.limits.path {
            return Err(Trouble::TooLong);
        }
        self.fresh(folder, last, |parent, last| symlinkat(target, parent, last))?;
        attributes::set_on_link(self.root.parent(folder)?, last, member)
    }

    /// A hard link: to a file of this layer, and of no other. Not followed, if it is a symlink.
    fn link(&mut self, folder: &[u8], last: &[u8], member: &Member) -> Result<(), Trouble> {
        let absent = || Trouble::Refused("what it links to is not in the layer");
        let target = self.named(&member.link)?;
        let (from, linked) = target.split();
        if target.is_root() {
            return Err(absent());
        }
        let from = self.root.resolve(from).map_err(|trouble| match trouble {
            Trouble::System(Errno::ENOENT | Errno::ENOTDIR) => absent(),
            other => other,
        })?;
        let found = look(&from, linked)?.ok_or_else(absent)?;
        if is(&found, SFlag::S_IFDIR) || is_whiteout(&found) {
            return Err(Trouble::Refused("it is a hard link to what is no file"));
        }
        let there = look(self.root.parent(folder)?, last)?;
        if there.is_some_and(|there| (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino)) {
            return Ok(());
        }
        self.fresh(folder, last, |parent, last| {
            match linkat(&from, linked, parent, last, AtFlags::empty()) {
                // It was in what it was to replace.
                Err(Errno::ENOENT) => Err(Errno::ESTALE),
                done => done,
            }
        })
        .map_err(|trouble| match trouble {
            Trouble::System(Errno::ESTALE) => absent(),
            other => other,
        })
    }

    /// Hides all that lower layers have in a folder.
    fn opaque(&mut self, folder: &[u8]) -> Result<(), Trouble> {
        let top = fstat(self.root.folder())?;
        let folder = self.root.parent(folder)?;
        if fstat(folder)?.st_ino == top.st_ino {
            // The folders at the top of all layers are always one.
            return Err(Trouble::Refused("it hides all other layers, which overlayfs cannot do"));
        }
        Ok(attributes::make_opaque(folder)?)
    }

    /// A whiteout. What this layer itself has by that name stays: it hides only what lies below.
    fn hide(&mut self, folder: &[u8], hidden: &[u8]) -> Result<(), Trouble> {
        let parent = self.root.parent(folder)?;
        match look(parent, hidden)? {
            None => mknodat(parent, hidden, SFlag::S_IFCHR, Mode::empty(), 0)?,
            Some(found) if is(&found, SFlag::S_IFDIR) => {
                attributes::make_opaque(&place::open_folder(parent, hidden)?)?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Makes what must not be there yet; what is there goes first.
    fn fresh<T>(
        &mut self,
        folder: &[u8],
        last: &[u8],
        make: impl Fn(&OwnedFd, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, Trouble> {
        let parent = self.root.parent(folder)?;
        match make(parent, last) {
            Err(Errno::EEXIST) => {}
            made => return Ok(made?),
        }
        if let Some(found) = look(parent, last)? {
            place::clear(parent, last, &found)?;
        }
        let made = make(parent, last);
        self.root.forget();
        Ok(made?)
    }
}

fn create(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::from_bits_truncate(0o600))
}

fn fifo(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    mkfifoat(parent, name, Mode::from_bits_truncate(0o600))?;
    // To read, and without waiting for somebody who writes.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent.as_fd(), name, flags, Mode::empty())
}

/// Writes an entry's contents.
fn write<R: Read>(mut file: File, member: &Member, contents: &mut Members<R>) -> Result<File, Trouble> {
    let Some(pieces) = &member.pieces else {
        while contents.left() > 0 {
            file.write_all(contents.contents(u64::MAX)?)?;
        }
        return Ok(file);
    };
    file.set_len(member.size)?;
    for (offset, length) in pieces {
        let (mut at, end) = (*offset, offset + length);
        while at < end {
            let piece = contents.contents(end - at)?;
            file.write_all_at(piece, at)?;
            at += piece.len() as u64;
        }
    }
    Ok(file)
}
