//! Files with holes, in GNU's four formats (old, 0.0, 0.1, 1.0): where their contents go. Pure.
//! Holds: pieces are in order, do not overlap, lie within the file, and add up to what the tar holds of it.

use super::{header::number, pax::decimal};

/// A piece of contents: where it goes, and how long it is.
pub(super) type Piece = (u64, u64);

/// What extended headers say about holes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stated {
    /// The file's name, if its own is not.
    pub name: Option<Vec<u8>>,
    /// Its size with holes.
    pub size: Option<u64>,
    /// Formats 0.0 and 0.1: offset, length, offset, length, ...
    pub numbers: Vec<u64>,
    /// Format 1.0: the map is at the start of the contents.
    pub map_in_contents: bool,
    /// Whether there was anything.
    pub present: bool,
}

impl Stated {
    pub(super) fn note(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        self.present = true;
        match key {
            b"name" => self.name = Some(value.to_vec()).filter(|name| !name.is_empty()),
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            b"offset" | b"numbytes" => self.numbers.push(decimal(value)?),
            b"map" => {
                let parts = value.split(|byte| *byte == b',').filter(|part| !part.is_empty());
                self.numbers = parts.map(decimal).collect::<Result<_, _>>()?;
            }
            b"major" => self.map_in_contents = value == b"1",
            b"minor" | b"numblocks" => {}
            _ => return Err("its sparse format is not known"),
        }
        Ok(())
    }
}

/// Adds the pieces of a block of GNU's old format; those after an empty one do not count.
pub(super) fn old(fields: &[u8], pieces: &mut Vec<Piece>) -> Result<(), &'static str> {
    let wrong = "its map of holes is not valid";
    for field in fields.as_chunks::<24>().0 {
        if field[0] == 0 {
            break;
        }
        pieces.push((number(&field[..12], wrong)?, number(&field[12..], wrong)?));
    }
    Ok(())
}

/// The pieces of pairs of numbers.
pub(super) fn pairs(numbers: &[u64]) -> Result<Vec<Piece>, &'static str> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().map(|[offset, length]| (*offset, *length)).collect())
    } else {
        Err("its map of holes is not valid")
    }
}

/// Whether pieces make a file of `size` bytes out of `stored` ones.
pub(super) fn check(pieces: &[Piece], size: u64, stored: u64) -> Result<(), &'static str> {
    let (mut end, mut sum) = (0, 0u64);
    for (offset, length) in pieces {
        let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= size);
        end = next.ok_or("its map of holes is not valid")?;
        sum += length;
    }
    if sum == stored { Ok(()) } else { Err("its map of holes does not fit its contents") }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn pieces_have_to_make_sense() {
        for (pieces, size, stored, fine) in [
            (&[][..], 0, 0, true),
            (&[], 1 << 40, 0, true),
            (&[(0, 5), (10, 5)], 15, 10, true),
            (&[(0, 5), (10, 5)], 14, 10, false),
            (&[(0, 5), (4, 5)], 15, 10, false),
            (&[(10, 5), (0, 5)], 15, 10, false),
            (&[(0, 5)], 15, 6, false),
            (&[(u64::MAX, 2)], u64::MAX, 2, false),
            (&[(0, u64::MAX), (u64::MAX, 0)], u64::MAX, u64::MAX, true),
        ] {
            assert_eq!(check(pieces, size, stored).is_ok(), fine, "{pieces:?}");
        }
    }
}
