//! Where the files of a tar lie in it, for whoever wants some of them only: headers are read, contents passed over.
//! Of a tar that holds an image, which nobody trusts either.

use std::{collections::BTreeMap, fs::File, os::unix::fs::FileExt};

use super::{
    Error, Limits,
    header::{Header, Kind},
    name::Name,
    pax::Extended,
    stream::{BLOCK, Block},
};

/// More files than the tar of any image has.
const ENTRIES: usize = 100_000;
/// The longest extended header of one.
const EXTENDED: u64 = 64 << 10;

/// Where a file of a tar lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lies {
    /// Its contents: offset and length.
    At(u64, u64),
    /// Another file's contents, by a path from its folder.
    Symlink(String),
    /// Another file's contents.
    Link(String),
}

/// What was said of the next entry before its header.
#[derive(Default)]
struct Before {
    extended: Extended,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

/// The files of a plain tar by their names; of several with one name, the last. Blocks.
pub(crate) fn index(tar: &File) -> Result<BTreeMap<String, Lies>, Error> {
    let length = tar.metadata().map_err(|source| Error::Read { source })?.len();
    let (mut files, mut before, mut at, mut headers) = (BTreeMap::new(), Before::default(), 0, 0);
    while at + BLOCK as u64 <= length {
        let block = block(tar, at)?;
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        headers += 1;
        if headers > ENTRIES {
            let limit = ENTRIES as u64;
            return Err(Error::TooLarge { what: "files in an archive", limit, entry: String::new() });
        }
        let header = Header::read(&block).map_err(damaged)?;
        let size = match before.extended.size {
            Some(size) => size,
            None => header.size().map_err(damaged)?,
        };
        let size = if header.kind().has_contents() { size } else { 0 };
        let contents = at + BLOCK as u64;
        let next = contents.checked_add(size).filter(|end| *end <= length);
        at =
            next.ok_or_else(|| damaged("it is shorter than its entries say"))?.next_multiple_of(BLOCK as u64);
        match header.kind() {
            Kind::Extended | Kind::LongName | Kind::LongLink => {
                note(tar, &header, contents, size, &mut before)?
            }
            Kind::Global => {}
            _ => {
                let before = std::mem::take(&mut before);
                files.extend(file(&header, contents, size, before)?);
            }
        }
    }
    Ok(files)
}

fn note(tar: &File, header: &Header<'_>, at: u64, size: u64, before: &mut Before) -> Result<(), Error> {
    if size > EXTENDED {
        let what = "bytes of extended headers";
        return Err(Error::TooLarge { what, limit: EXTENDED, entry: String::new() });
    }
    let mut text = vec![0; usize::try_from(size).unwrap_or_default()];
    tar.read_exact_at(&mut text, at).map_err(|source| Error::Read { source })?;
    let name = |text: Vec<u8>| text.split(|byte| *byte == 0).next().map(<[u8]>::to_vec);
    match header.kind() {
        Kind::Extended => before.extended.add(&text).map_err(damaged)?,
        Kind::LongLink => before.link = name(text),
        _ => before.name = name(text),
    }
    Ok(())
}

/// A file, and where it lies; nothing of what is no file, or has no name that is text.
fn file(header: &Header<'_>, at: u64, size: u64, before: Before) -> Result<Option<(String, Lies)>, Error> {
    let mut own = Vec::new();
    header.name(&mut own);
    let name = before.name.or(before.extended.path).unwrap_or(own);
    let link = before.link.or(before.extended.link).unwrap_or_else(|| header.link().to_vec());
    let Some(name) = clean(&name) else { return Ok(None) };
    let link = || String::from_utf8(link.clone()).ok();
    let lies = match header.kind() {
        Kind::File if before.extended.sparse.present => return Err(damaged("it has a file with holes")),
        Kind::Sparse => return Err(damaged("it has a file with holes")),
        Kind::File => Some(Lies::At(at, size)),
        Kind::Symlink => link().map(Lies::Symlink),
        Kind::HardLink => link().and_then(|link| clean(link.as_bytes())).map(Lies::Link),
        _ => None,
    };
    Ok(lies.map(|lies| (name, lies)))
}

fn clean(text: &[u8]) -> Option<String> {
    let mut name = Name::default();
    name.read(text, &Limits::default()).ok()?;
    let (folder, last) = name.split();
    let slash: &[u8] = if folder.is_empty() { b"" } else { b"/" };
    String::from_utf8([folder, slash, last].concat()).ok().filter(|name| !name.is_empty())
}

fn block(tar: &File, at: u64) -> Result<Block, Error> {
    let mut block = [0; BLOCK];
    tar.read_exact_at(&mut block, at).map_err(|source| Error::Read { source })?;
    Ok(block)
}

fn damaged(why: &'static str) -> Error {
    Error::Damaged { entry: String::new(), why }
}
