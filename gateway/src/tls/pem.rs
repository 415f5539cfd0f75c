//! PEM as it stands in a file: its blocks, and on which line each begins, so that whoever made a mistake is told where.
//! Pure. Absent: what is in a block.

use base64::{
    DecodeError, Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, general_purpose::PAD},
};

/// As forgiving as OpenSSL: what a last character says beyond the end counts for nothing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    PAD.with_decode_allow_trailing_bits(true).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One block.
#[derive(Debug)]
pub(super) struct Block<'t> {
    /// What it says that it holds, as in `CERTIFICATE`.
    pub(super) label: &'t str,
    /// The line on which it begins, from 1.
    pub(super) line: usize,
    lines: Vec<(usize, &'t [u8])>,
}

/// What is wrong with a file as PEM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// It has no block.
    #[error("is not PEM: no line says -----BEGIN ...-----{}", if *.der { "; it looks like DER, which `openssl x509 -inform der` or `openssl pkey -inform der` turns into PEM" } else { "" })]
    NotPem {
        /// It looks like the same thing in binary form.
        der: bool,
    },
    /// A block begins as none does.
    #[error("this line begins with -----BEGIN and does not end with -----")]
    Begin,
    /// The file ends, or the next block begins, first.
    #[error("the block that begins here has no -----END {0}-----; is the file cut short?")]
    Unended(String),
    /// An end, and of no block that has begun.
    #[error("this ends a block that has not begun")]
    Stray,
    /// The end of something else.
    #[error("this ends something else than the {0} that has begun")]
    OtherEnd(String),
    /// What is in it cannot be read.
    #[error("this line is not base64")]
    NotBase64,
    /// It needs a password.
    #[error("this key is encrypted, and nobody can be asked for its password; `openssl pkey` takes it off")]
    Encrypted,
}

/// With the line on which it is.
pub(super) type At<T> = (usize, T);

/// The blocks of a file.
pub(super) fn blocks(text: &[u8]) -> Result<Vec<Block<'_>>, At<Bad>> {
    let (mut done, mut open) = (Vec::new(), None);
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let (number, line) = (index + 1, line.trim_ascii());
        if line.starts_with(b"-----BEGIN ") {
            if let Some(open) = open.replace(Block::begin(number, line)?) {
                return Err(open.unended());
            }
        } else if line.starts_with(b"-----END ") {
            let block = open.take().ok_or((number, Bad::Stray))?;
            done.push(block.end(number, line)?);
        } else if let Some(open) = &mut open {
            open.lines.push((number, line));
        }
    }
    match open {
        Some(open) => Err(open.unended()),
        None if done.is_empty() => Err((1, Bad::NotPem { der: text.starts_with(&[0x30]) })),
        None => Ok(done),
    }
}

impl<'t> Block<'t> {
    fn begin(number: usize, line: &'t [u8]) -> Result<Self, At<Bad>> {
        let label = label(line, "-----BEGIN ").ok_or((number, Bad::Begin))?;
        Ok(Self { label, line: number, lines: Vec::new() })
    }

    fn end(self, number: usize, line: &[u8]) -> Result<Self, At<Bad>> {
        if label(line, "-----END ") == Some(self.label) {
            Ok(self)
        } else {
            Err((number, Bad::OtherEnd(self.label.to_owned())))
        }
    }

    fn unended(&self) -> At<Bad> {
        (self.line, Bad::Unended(self.label.to_owned()))
    }

    /// Whether it says that it holds a private key.
    pub(super) fn is_key(&self) -> bool {
        self.label == "PRIVATE KEY" || self.label.ends_with(" PRIVATE KEY")
    }

    /// What it holds.
    pub(super) fn der(&self) -> Result<Vec<u8>, At<Bad>> {
        let is_field = |line: &[u8]| line.contains(&b':');
        let fields = || self.lines.iter().filter(|(_, line)| is_field(line));
        let locked = fields().any(|(_, line)| memchr::memmem::find(line, b"ENCRYPTED").is_some());
        if locked || self.label.starts_with("ENCRYPTED ") {
            return Err((self.line, Bad::Encrypted));
        }
        let lines: Vec<_> = self.lines.iter().filter(|(_, line)| !is_field(line)).collect();
        let text: Vec<u8> = lines.iter().flat_map(|(_, line)| line.iter().copied()).collect();
        BASE64.decode(text).map_err(|error| {
            let mut at = match error {
                DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
                DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => usize::MAX,
            };
            let holds = lines.iter().find(|(_, line)| {
                let here = at < line.len();
                at = at.saturating_sub(line.len());
                here
            });
            let last = lines.last().map_or(self.line, |(number, _)| *number);
            (holds.map_or(last, |(number, _)| *number), Bad::NotBase64)
        })
    }
}

fn label<'t>(line: &'t [u8], begins: &str) -> Option<&'t str> {
    let label = line.strip_prefix(begins.as_bytes())?.strip_suffix(b"-----")?;
    str::from_utf8(label).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = (String, usize, Vec<u8>);

    fn read(text: &str) -> Result<Vec<Found>, At<Bad>> {
        blocks(text.as_bytes())?
            .iter()
            .map(|block| Ok((block.label.to_owned(), block.line, block.der()?)))
            .collect()
    }

    #[test]
    fn blocks_are_found_between_other_lines() {
        let text = "\u{feff}a comment\n\n-----BEGIN A-----\r\naGVs\r\nbG8=\r\n-----END A-----\r\n\n-----BEGIN B C-----\nx: y\n\naGV\n-----END B C-----";
        let want = vec![("A".to_owned(), 3, b"hello".to_vec()), ("B C".to_owned(), 8, b"he".to_vec())];
        assert_eq!(read(text), Ok(want));
    }

    #[test]
    fn what_is_wrong_is_wrong_somewhere() {
        for (text, line, want) in [
            ("", 1, Bad::NotPem { der: false }),
            ("0\u{82}\n", 1, Bad::NotPem { der: true }),
            ("x\n-----BEGIN A---\n", 2, Bad::Begin),
            ("\n-----BEGIN A-----\naGVs\n", 2, Bad::Unended("A".into())),
            ("-----BEGIN A-----\naGVs\n-----BEGIN B-----\n", 1, Bad::Unended("A".into())),
            ("aGVs\n-----END A-----\n", 2, Bad::Stray),
            ("-----BEGIN A-----\naGVs\n-----END B-----\n", 3, Bad::OtherEnd("A".into())),
            ("-----BEGIN A-----\naGVs\naG!s\naGVs\n-----END A-----\n", 3, Bad::NotBase64),
            ("-----BEGIN A-----\naGVs\naGVsb\n-----END A-----\n", 3, Bad::NotBase64),
            (
                "\n-----BEGIN ENCRYPTED PRIVATE KEY-----\naGVs\n-----END ENCRYPTED PRIVATE KEY-----\n",
                2,
                Bad::Encrypted,
            ),
            ("-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\n\naGVs\n-----END A-----\n", 1, Bad::Encrypted),
        ] {
            assert_eq!(read(text), Err((line, want)), "{text}");
        }
    }
}
