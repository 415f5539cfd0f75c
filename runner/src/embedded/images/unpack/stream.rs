//! The bytes of a tar, hashed and counted as they come; whoever reads them sees none that are over the limit.

use std::io::{ErrorKind, Read};

use sha2::{Digest as _, Sha256};
use tidegate_config::spec::Digest;

use super::Error;

/// How much is read at once.
const BUFFER: usize = 256 << 10;

/// How large a block of a tar is.
pub(super) const BLOCK: usize = 512;

/// A block of a tar.
pub(super) type Block = [u8; BLOCK];

/// The bytes of a tar.
pub(super) struct Stream<R> {
    reader: R,
    buffer: Box<[u8]>,
    /// What of the buffer was not taken yet.
    filled: std::ops::Range<usize>,
    hash: Sha256,
    read: u64,
    limit: u64,
}

impl<R: Read> Stream<R> {
    pub(super) fn new(reader: R, limit: u64) -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self { reader, buffer, filled: 0..0, hash: Sha256::new(), read: 0, limit }
    }

    /// What comes next, `most` bytes at most; empty at the end.
    pub(super) fn take(&mut self, most: u64) -> Result<&[u8], Error> {
        if self.filled.is_empty() {
            self.fill()?;
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.filled.len());
        let start = self.filled.start;
        self.filled.start += most;
        Ok(&self.buffer[start..start + most])
    }

    /// The next block; `None` at the end.
    pub(super) fn block(&mut self) -> Result<Option<Block>, Error> {
        let mut block = [0; BLOCK];
        let got = self.fill_up(&mut block)?;
        match got {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ => Err(truncated()),
        }
    }

    /// The next `length` bytes, added to `into`; the caller has bounded them.
    pub(super) fn append(&mut self, mut length: u64, into: &mut Vec<u8>) -> Result<(), Error> {
        while length > 0 {
            let piece = self.some(length)?;
            into.extend_from_slice(piece);
            length -= piece.len() as u64;
        }
        Ok(())
    }

    /// Passes over bytes.
    pub(super) fn skip(&mut self, mut length: u64) -> Result<(), Error> {
        while length > 0 {
            length -= self.some(length)?.len() as u64;
        }
        Ok(())
    }

    /// Like `take`, where the end must not be.
    pub(super) fn some(&mut self, most: u64) -> Result<&[u8], Error> {
        let piece = self.take(most)?;
        if piece.is_empty() { Err(truncated()) } else { Ok(piece) }
    }

    /// Reads to the end, which may be `most` bytes away; the digest of everything and its length.
    pub(super) fn finish(mut self, most: u64) -> Result<(Digest, u64), Error> {
        let mut rest = 0;
        loop {
            match self.take(u64::MAX)?.len() {
                0 => break,
                more => rest += more as u64,
            }
            if rest > most {
                let what = "bytes after the tar's end";
                return Err(Error::TooLarge { what, limit: most, entry: String::new() });
            }
        }
        Ok((Digest(format!("sha256:{:x}", self.hash.finalize())), self.read))
    }

    fn fill_up(&mut self, block: &mut Block) -> Result<usize, Error> {
        let mut got = 0;
        while got < BLOCK {
            let piece = self.take((BLOCK - got) as u64)?;
            if piece.is_empty() {
                break;
            }
            block[got..got + piece.len()].copy_from_slice(piece);
            got += piece.len();
        }
        Ok(got)
    }

    fn fill(&mut self) -> Result<(), Error> {
        let got = loop {
            match self.reader.read(&mut self.buffer) {
                Ok(got) => break got,
                Err(source) if source.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Read { source }),
            }
        };
        self.read += got as u64;
        if self.read > self.limit {
            return Err(Error::TooLarge { what: "bytes", limit: self.limit, entry: String::new() });
        }
        self.hash.update(&self.buffer[..got]);
        self.filled = 0..got;
        Ok(())
    }
}

fn truncated() -> Error {
    Error::Damaged { entry: String::new(), why: "it ends in the middle of an entry" }
}
