//! The entries of a tar, each with what its extended headers say about it: POSIX and GNU formats.
//! Holds: what is kept in memory of an entry is bounded by [`Limits::extended`]. Absent: what names mean, files.

use std::io::Read;

use super::{
    Error, Limits,
    header::{Header, Kind},
    pax::{self, Extended},
    sparse::{self, Piece},
    stream::{BLOCK, Block, Stream},
};

/// An entry, as its headers say.
#[derive(Debug)]
pub(super) struct Member {
    pub kind: Kind,
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: u32,
    pub user: u64,
    pub group: u64,
    /// Seconds and nanoseconds.
    pub modified: (i64, i64),
    /// With holes.
    pub size: u64,
    /// Major and minor number.
    pub device: (u64, u64),
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the contents go, in a file with holes.
    pub pieces: Option<Vec<Piece>>,
}

/// Reads entries, one after the other.
pub(super) struct Members<R> {
    stream: Stream<R>,
    limits: Limits,
    /// Contents of the current entry that were not read yet, and the padding after them.
    left: u64,
    padding: u64,
    headers: u64,
    /// Sizes of files with holes: the tar's own size says nothing about them.
    expanded: u64,
}

/// What was read of an entry before its own header.
#[derive(Default)]
struct Before {
    extended: Extended,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    bytes: usize,
    any: bool,
}

impl<R: Read> Members<R> {
    pub(super) fn new(tar: R, limits: &Limits) -> Self {
        let stream = Stream::new(tar, limits.bytes);
        Self { stream, limits: *limits, left: 0, padding: 0, headers: 0, expanded: 0 }
    }

    /// The next entry; what is left of the one before is passed over. `None`: the tar's end.
    pub(super) fn next(&mut self) -> Result<Option<Member>, Error> {
        let mut before = Before::default();
        loop {
            self.stream.skip(self.left)?;
            self.stream.skip(self.padding)?;
            (self.left, self.padding) = (0, 0);
            let Some(block) = self.header()? else {
                return if before.any {
                    Err(damaged(&[], "headers of no entry at its end"))
                } else {
                    Ok(None)
                };
            };
            let header = Header::read(&block).map_err(|why| damaged(&[], why))?;
            let kind = header.kind();
            match kind {
                Kind::Extended | Kind::LongName | Kind::LongLink => self.before(&header, &mut before)?,
                Kind::Global => self.enter(size(&header)?),
                _ => return self.member(&header, before).map(Some),
            }
        }
    }

    /// The next bytes of the current entry's contents, `most` at most; empty at their end.
    pub(super) fn contents(&mut self, most: u64) -> Result<&[u8], Error> {
        let most = most.min(self.left);
        if most == 0 {
            return Ok(&[]);
        }
        let piece = self.stream.some(most)?;
        self.left -= piece.len() as u64;
        Ok(piece)
    }

    /// How much of them is left.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// The tar's bytes, for their digest; reads what comes after its end.
    pub(super) fn finish(self) -> Result<(tidegate_config::spec::Digest, u64), Error> {
        self.stream.finish(self.limits.trailing)
    }

    /// The next header block, unless the tar ends: by two blocks of zeros, or where its bytes end.
    fn header(&mut self) -> Result<Option<Block>, Error> {
        let empty = |block: &Block| block.iter().all(|byte| *byte == 0);
        match self.stream.block()? {
            None => return Ok(None),
            Some(block) if empty(&block) => {}
            Some(block) => {
                self.headers += 1;
                if self.headers > self.limits.entries {
                    return Err(too_large("entries", self.limits.entries, &[]));
                }
                return Ok(Some(block));
            }
        }
        match self.stream.block()? {
            Some(block) if !empty(&block) => Err(damaged(&[], "zeros between its entries")),
            _ => Ok(None),
        }
    }

    fn enter(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// A header that belongs to the next entry.
    fn before(&mut self, header: &Header<'_>, before: &mut Before) -> Result<(), Error> {
        let size = size(header)?;
        self.enter(size);
        self.budget(before, size)?;
        let mut contents = Vec::new();
        self.stream.append(size, &mut contents)?;
        self.left = 0;
        before.any = true;
        match header.kind() {
            Kind::Extended => before.extended.add(&contents).map_err(|why| damaged(&[], why))?,
            Kind::LongLink => before.link = Some(until_nul(contents)),
            _ => before.name = Some(until_nul(contents)),
        }
        Ok(())
    }

    fn budget(&self, before: &mut Before, more: u64) -> Result<(), Error> {
        let limit = self.limits.extended;
        let sum = usize::try_from(more).ok().and_then(|more| before.bytes.checked_add(more));
        before.bytes = sum
            .filter(|sum| *sum <= limit)
            .ok_or_else(|| too_large("bytes of extended headers", limit as u64, &[]))?;
        Ok(())
    }

    /// The entry itself.
    fn member(&mut self, header: &Header<'_>, mut before: Before) -> Result<Member, Error> {
        let (name, link) = names(header, &mut before);
        let extended = &mut before.extended;
        let kind = header.kind();
        let wrong = |why| damaged(&name, why);
        let size = match extended.size {
            Some(size) => size,
            None => header.size().map_err(wrong)?,
        };
        self.enter(if kind.has_contents() { size } else { 0 });
        let mut member = Member {
            kind,
            link,
            mode: header.mode().map_err(wrong)?,
            user: extended.user.map_or_else(|| header.user(), Ok).map_err(wrong)?,
            group: extended.group.map_or_else(|| header.group(), Ok).map_err(wrong)?,
            modified: match extended.modified {
                Some(modified) => modified,
                None => (header.modified().map_err(wrong)?, 0),
            },
            size: self.left,
            device: if matches!(kind, Kind::Character | Kind::BlockDevice) {
                header.device().map_err(wrong)?
            } else {
                (0, 0)
            },
            attributes: std::mem::take(&mut extended.attributes),
            pieces: None,
            name,
        };
        match kind {
            Kind::Sparse => self.old_sparse(header, &mut member, &mut before)?,
            Kind::File if extended.sparse.present => self.pax_sparse(&mut member, &mut before)?,
            // What old programs wrote for a folder.
            Kind::File if member.name.ends_with(b"/") => member.kind = Kind::Folder,
            _ => {}
        }
        Ok(member)
    }

    /// The map of GNU's old format: in the header and in blocks of its own after it.
    fn old_sparse(
        &mut self,
        header: &Header<'_>,
        member: &mut Member,
        before: &mut Before,
    ) -> Result<(), Error> {
        let wrong = |why| damaged(&member.name, why);
        member.kind = Kind::File;
        member.size = header.real_size().map_err(wrong)?;
        let (fields, mut more) = header.sparse();
        let mut pieces = Vec::new();
        sparse::old(fields, &mut pieces).map_err(wrong)?;
        while more {
            self.budget(before, BLOCK as u64)?;
            let block =
                self.stream.block()?.ok_or_else(|| damaged(&member.name, "it ends in a map of holes"))?;
            sparse::old(&block[..504], &mut pieces).map_err(wrong)?;
            more = block[504] != 0;
        }
        self.holes(member, pieces)
    }

    /// The map of the PAX formats: in extended headers, or at the start of the contents.
    fn pax_sparse(&mut self, member: &mut Member, before: &mut Before) -> Result<(), Error> {
        let stated = std::mem::take(&mut before.extended.sparse);
        let wrong = |why| damaged(&member.name, why);
        let numbers = if stated.map_in_contents { self.numbers(member, before)? } else { stated.numbers };
        let pieces = sparse::pairs(&numbers).map_err(wrong)?;
        member.size = stated.size.ok_or_else(|| wrong("a file with holes has no size"))?;
        self.holes(member, pieces)
    }

    /// Lines of decimal numbers at the start of the contents, filled up to whole blocks: first, how many pairs follow.
    fn numbers(&mut self, member: &Member, before: &mut Before) -> Result<Vec<u64>, Error> {
        let wrong = |why| damaged(&member.name, why);
        let (mut numbers, mut text, mut wanted) = (Vec::new(), Vec::new(), None);
        loop {
            self.budget(before, BLOCK as u64)?;
            self.left =
                self.left.checked_sub(BLOCK as u64).ok_or_else(|| wrong("its map of holes does not end"))?;
            self.stream.append(BLOCK as u64, &mut text)?;
            let lines = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            for line in text[..lines].split_inclusive(|byte| *byte == b'\n') {
                let number = pax::decimal(&line[..line.len() - 1]).map_err(wrong)?;
                match wanted {
                    None => wanted = Some(number.checked_mul(2).ok_or_else(|| wrong("its map is too long"))?),
                    Some(_) => numbers.push(number),
                }
                if wanted == Some(numbers.len() as u64) {
                    return Ok(numbers);
                }
            }
            text.drain(..lines);
        }
    }

    fn holes(&mut self, member: &mut Member, pieces: Vec<Piece>) -> Result<(), Error> {
        sparse::check(&pieces, member.size, self.left).map_err(|why| damaged(&member.name, why))?;
        self.expanded = self.expanded.saturating_add(member.size);
        if self.expanded > self.limits.bytes {
            return Err(too_large("bytes", self.limits.bytes, &member.name));
        }
        member.pieces = Some(pieces);
        Ok(())
    }
}

/// An entry's name, and where it leads: GNU's way of saying it before PAX's, and that before the header.
fn names(header: &Header<'_>, before: &mut Before) -> (Vec<u8>, Vec<u8>) {
    let extended = &mut before.extended;
    let stated = extended.sparse.name.take().or_else(|| extended.path.take());
    let name = before.name.take().or(stated).unwrap_or_else(|| {
        let mut name = Vec::new();
        header.name(&mut name);
        name
    });
    let link = before.link.take().or_else(|| extended.link.take());
    (name, link.unwrap_or_else(|| header.link().to_vec()))
}

/// A name for people.
pub(super) fn shown(name: &[u8]) -> String {
    // Of a very long one, its start says enough.
    let end = name.len().min(200);
    String::from_utf8_lossy(&name[..end]).into_owned()
}

fn size(header: &Header<'_>) -> Result<u64, Error> {
    header.size().map_err(|why| damaged(&[], why))
}

fn damaged(name: &[u8], why: &'static str) -> Error {
    Error::Damaged { entry: shown(name), why }
}

fn too_large(what: &'static str, limit: u64, name: &[u8]) -> Error {
    Error::TooLarge { what, limit, entry: shown(name) }
}

fn until_nul(mut text: Vec<u8>) -> Vec<u8> {
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    text.truncate(end);
    text
}
