//! A tar's header block: its fields and its checksum. Pure.

use super::stream::Block;

/// What an entry is, by its type flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Symlink,
    HardLink,
    Fifo,
    Character,
    BlockDevice,
    /// A file in GNU's old sparse format.
    Sparse,
    /// PAX headers for the next entry.
    Extended,
    /// PAX headers for all entries that follow. As in other engines, they change nothing.
    Global,
    LongName,
    LongLink,
    Unknown,
}

impl Kind {
    /// Whether contents follow the header.
    pub(super) fn has_contents(self) -> bool {
        match self {
            Self::Folder
            | Self::Symlink
            | Self::HardLink
            | Self::Fifo
            | Self::Character
            | Self::BlockDevice => false,
            Self::File
            | Self::Sparse
            | Self::Extended
            | Self::Global
            | Self::LongName
            | Self::LongLink
            | Self::Unknown => true,
        }
    }
}

/// A header block whose checksum is right.
pub(super) struct Header<'b>(&'b Block);

impl<'b> Header<'b> {
    pub(super) fn read(block: &'b Block) -> Result<Self, &'static str> {
        let stated = octal(&block[148..156]).ok_or("a header has no checksum")?;
        let blank = |at: usize| (148..156).contains(&at);
        let byte = |(at, byte): (usize, &u8)| if blank(at) { b' ' } else { *byte };
        let unsigned: u64 = block.iter().enumerate().map(|pair| u64::from(byte(pair))).sum();
        // Some old programs added the bytes as signed numbers.
        let signed: i64 = block.iter().enumerate().map(|pair| i64::from(byte(pair).cast_signed())).sum();
        if stated == unsigned || i64::try_from(stated) == Ok(signed) {
            Ok(Self(block))
        } else {
            Err("a header's checksum is wrong")
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self.0[156] {
            b'0' | b'7' | 0 => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Character,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Folder,
            b'6' => Kind::Fifo,
            b'S' => Kind::Sparse,
            b'x' | b'X' => Kind::Extended,
            b'g' => Kind::Global,
            b'L' => Kind::LongName,
            b'K' => Kind::LongLink,
            _ => Kind::Unknown,
        }
    }

    /// The name, with the prefix that only POSIX has.
    pub(super) fn name(&self, into: &mut Vec<u8>) {
        into.clear();
        if &self.0[257..263] == b"ustar\0" {
            into.extend_from_slice(text(&self.0[345..500]));
            if !into.is_empty() {
                into.push(b'/');
            }
        }
        into.extend_from_slice(text(&self.0[..100]));
    }

    pub(super) fn link(&self) -> &'b [u8] {
        text(&self.0[157..257])
    }

    pub(super) fn size(&self) -> Result<u64, &'static str> {
        number(&self.0[124..136], "its size is not a number")
    }

    pub(super) fn mode(&self) -> Result<u32, &'static str> {
        let mode = number(&self.0[100..108], "its mode is not a number")?;
        // The bits above are the entry's type, which some programs write here too.
        Ok(u32::try_from(mode & 0o7777).unwrap_or_default())
    }

    pub(super) fn user(&self) -> Result<u64, &'static str> {
        number(&self.0[108..116], "its user is not a number")
    }

    pub(super) fn group(&self) -> Result<u64, &'static str> {
        number(&self.0[116..124], "its group is not a number")
    }

    /// Seconds since 1970; what lies before counts as 1970.
    pub(super) fn modified(&self) -> Result<i64, &'static str> {
        if self.0[136] == 0xff {
            return Ok(0);
        }
        let seconds = number(&self.0[136..148], "its time is not a number")?;
        i64::try_from(seconds).map_err(|_| "its time is out of range")
    }

    /// Major and minor number of a device.
    pub(super) fn device(&self) -> Result<(u64, u64), &'static str> {
        let why = "its device is not a number";
        Ok((number(&self.0[329..337], why)?, number(&self.0[337..345], why)?))
    }

    /// The size with holes, of a file in GNU's old sparse format.
    pub(super) fn real_size(&self) -> Result<u64, &'static str> {
        number(&self.0[483..495], "its size is not a number")
    }

    /// The start of the map of such a file, and whether more blocks of it follow.
    pub(super) fn sparse(&self) -> (&'b [u8], bool) {
        (&self.0[386..482], self.0[482] != 0)
    }
}

/// A field of a header: octal digits, or GNU's binary form for what is too large.
pub(super) fn number(field: &[u8], why: &'static str) -> Result<u64, &'static str> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => {
            // 0x80 starts a positive number, 0xff a negative one.
            let mut digits = std::iter::once(first & 0x7f).chain(field[1..].iter().copied());
            digits
                .try_fold(0u64, |sum, digit| Some(sum.checked_mul(256)? + u64::from(digit)))
                .filter(|_| first & 0x40 == 0)
                .ok_or(why)
        }
        _ => octal(field).ok_or(why),
    }
}

/// Octal digits with blanks around them; nothing at all is zero.
fn octal(field: &[u8]) -> Option<u64> {
    let digits = text(field).trim_ascii();
    digits.iter().try_fold(0u64, |sum, digit| match digit {
        b'0'..=b'7' => Some(sum.checked_mul(8)? + u64::from(digit - b'0')),
        _ => None,
    })
}

/// A field up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

#[cfg(test)]
mod tests {
    use super::{Header, number};

    #[test]
    fn numbers() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   755 \0", Some(0o755)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"12 34\0\0\0", None),
            (b"-1\0\0\0\0\0\0", None),
            (b"0000008\0", None),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\x02", Some(258)),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", Some(u64::MAX)),
            (b"\x80\0\0\x01\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"777777777777", Some(0o777_777_777_777)),
            (b"", Some(0)),
        ] {
            assert_eq!(number(field, "no").ok(), expected, "{field:?}");
        }
    }

    #[test]
    fn checksums() {
        let mut header = tar::Header::new_ustar();
        header.set_path("a").expect("a name");
        header.set_cksum();
        let mut block = *header.as_bytes();
        assert!(Header::read(&block).is_ok());
        block[0] ^= 1;
        assert!(Header::read(&block).is_err());
    }
}
