//! Names of entries. Pure.

use super::Limits;

/// What Linux allows for one part of a name.
const PART: usize = 255;
const WHITEOUT: &[u8] = b".wh.";

/// A name within a layer: no empty part, no `.`, no `..`, no NUL, no leading slash. Empty: the layer's own folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Name(Vec<u8>);

/// What an entry's name makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning<'n> {
    /// An entry like any other.
    Plain,
    /// `.wh.NAME`: hides what lower layers have by that name.
    Hides(&'n [u8]),
    /// `.wh..wh..opq`: hides all that lower layers have in its folder.
    Opaque,
    /// aufs's own files.
    Leftover,
}

/// Why a name is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Refused(&'static str),
    TooLong,
    TooDeep,
}

impl Name {
    /// Reads a name as a tar has it, into this one.
    pub(super) fn read(&mut self, text: &[u8], limits: &Limits) -> Result<(), Fault> {
        self.0.clear();
        if text.len() > limits.path {
            return Err(Fault::TooLong);
        }
        if text.contains(&0) {
            return Err(Fault::Refused("its name has a NUL"));
        }
        let mut depth = 0;
        for part in text.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err(Fault::Refused("its name has a ..")),
                part if part.len() > PART => return Err(Fault::TooLong),
                part => {
                    if depth > 0 {
                        self.0.push(b'/');
                    }
                    self.0.extend_from_slice(part);
                    depth += 1;
                }
            }
        }
        if depth > limits.depth + 1 { Err(Fault::TooDeep) } else { Ok(()) }
    }

    /// Whether it is the layer's own folder.
    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The folder that it is in, and its last part.
    pub(super) fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (b"", &self.0),
        }
    }

    /// What the name makes of its entry.
    pub(super) fn meaning(&self) -> Result<Meaning<'_>, &'static str> {
        let (parent, last) = self.split();
        match parent.split(|byte| *byte == b'/').find(|part| part.starts_with(WHITEOUT)) {
            Some(part) if part.starts_with(b".wh..wh.") => return Ok(Meaning::Leftover),
            Some(_) => return Err("a whiteout is no folder"),
            None => {}
        }
        match last.strip_prefix(WHITEOUT) {
            None => Ok(Meaning::Plain),
            Some(b".wh..opq") => Ok(Meaning::Opaque),
            Some(rest) if rest.starts_with(WHITEOUT) => Ok(Meaning::Leftover),
            Some(b"" | b"." | b"..") => Err("a whiteout of nothing"),
            Some(hidden) => Ok(Meaning::Hides(hidden)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long = "x".repeat(256);
        let deep = "d/".repeat(300);
        for (text, expected) in [
            ("a/b", Ok("a/b")),
            ("/etc/x", Ok("etc/x")),
            ("./a//b/./", Ok("a/b")),
            ("", Ok("")),
            ("./", Ok("")),
            ("/", Ok("")),
            ("...", Ok("...")),
            ("..", Err(Fault::Refused("its name has a .."))),
            ("a/../b", Err(Fault::Refused("its name has a .."))),
            ("a\0b", Err(Fault::Refused("its name has a NUL"))),
            (&long, Err(Fault::TooLong)),
            (&deep, Err(Fault::TooDeep)),
        ] {
            let mut name = Name::default();
            let read = name.read(text.as_bytes(), &Limits::default()).map(|()| name.0);
            assert_eq!(read, expected.map(|text| text.as_bytes().to_vec()), "{text}");
        }
    }

    #[test]
    fn whiteouts() {
        for (text, expected) in [
            ("a/.wh.b", Ok(Meaning::Hides(b"b"))),
            (".wh.b", Ok(Meaning::Hides(b"b"))),
            (".wh...", Err("a whiteout of nothing")),
            (".wh..", Err("a whiteout of nothing")),
            (".wh.", Err("a whiteout of nothing")),
            (".wh....", Ok(Meaning::Hides(b"..."))),
            ("a/.wh..wh..opq", Ok(Meaning::Opaque)),
            ("a/.wh..wh.plnk", Ok(Meaning::Leftover)),
            (".wh..wh.plnk/1.2", Ok(Meaning::Leftover)),
            (".wh.a/b", Err("a whiteout is no folder")),
            ("a.wh.b", Ok(Meaning::Plain)),
        ] {
            let mut name = Name::default();
            name.read(text.as_bytes(), &Limits::default()).expect("a valid name");
            assert_eq!(name.meaning(), expected, "{text}");
        }
    }
}
