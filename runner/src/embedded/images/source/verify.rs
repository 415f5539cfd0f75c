//! Bytes that have to have a digest: reading them fails at their end if they have another.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};
use tidegate_config::spec::Digest;

use super::super::places;

/// Bytes that have to have a digest.
pub(super) struct Verified<R> {
    reader: R,
    hash: Option<Sha256>,
    expected: Digest,
}

impl<R: Read> Verified<R> {
    pub(super) fn new(reader: R, expected: Digest) -> Self {
        Self { reader, hash: Some(Sha256::new()), expected }
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(into)?;
        if got > 0 || into.is_empty() {
            if let Some(hash) = &mut self.hash {
                hash.update(&into[..got]);
            }
            return Ok(got);
        }
        // Once: what was found wrong at the end is found wrong again.
        match self.hash.take().map(places::digest) {
            Some(found) if found == self.expected => Ok(0),
            Some(_) => {
                self.expected.0.clear();
                Err(self.wrong())
            }
            None if self.expected.0.is_empty() => Err(self.wrong()),
            None => Ok(0),
        }
    }
}

impl<R> Verified<R> {
    fn wrong(&self) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, "its bytes are not what its digest says")
    }
}
