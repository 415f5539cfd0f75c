//! Bytes that a program prints, as the log's records: one for each line, or several if it is long. Pure.

use std::{fmt::Write, time::SystemTime};

/// What fits into one record.
const LONGEST: usize = 16 * 1024;

/// One stream's bytes that are not yet a line.
#[derive(Debug)]
pub(super) struct Lines {
    stream: char,
    rest: Vec<u8>,
}

impl Lines {
    /// `o` is standard output, `e` standard error.
    pub(super) fn of(stream: char) -> Self {
        Self { stream, rest: Vec::new() }
    }

    /// Adds the records of what was read at `now` to `out`.
    pub(super) fn push(&mut self, bytes: &[u8], now: SystemTime, out: &mut Vec<u8>) {
        let stamp = humantime::format_rfc3339_nanos(now).to_string();
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            self.extend(piece, &stamp, out);
            if pieces.peek().is_some() {
                record(out, &stamp, self.stream, 'F', &self.rest);
                self.rest.clear();
            }
        }
    }

    fn extend(&mut self, mut piece: &[u8], stamp: &str, out: &mut Vec<u8>) {
        while self.rest.len() + piece.len() > LONGEST {
            let (now, later) = piece.split_at(LONGEST - self.rest.len());
            self.rest.extend_from_slice(now);
            record(out, stamp, self.stream, 'P', &self.rest);
            self.rest.clear();
            piece = later;
        }
        self.rest.extend_from_slice(piece);
    }

    /// Adds what was printed last without an end of line.
    pub(super) fn finish(&mut self, now: SystemTime, out: &mut Vec<u8>) {
        if !self.rest.is_empty() {
            let stamp = humantime::format_rfc3339_nanos(now).to_string();
            record(out, &stamp, self.stream, 'F', &self.rest);
            self.rest = Vec::new();
        }
    }
}

/// A line of the shim's own.
pub(super) fn own(words: &str, now: SystemTime) -> Vec<u8> {
    let mut out = Vec::new();
    record(&mut out, &humantime::format_rfc3339_nanos(now).to_string(), 'e', 'F', words.as_bytes());
    out
}

fn record(out: &mut Vec<u8>, stamp: &str, stream: char, end: char, text: &[u8]) {
    let mut head = String::with_capacity(40);
    write!(head, "{stamp} {stream}{end} ").ok();
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(text);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: &str = "1970-01-01T00:00:00.000000000Z";

    fn check(pushes: &[&str], expected: &[(&str, &str)]) {
        let (mut lines, mut out) = (Lines::of('o'), Vec::new());
        for bytes in pushes {
            lines.push(bytes.as_bytes(), SystemTime::UNIX_EPOCH, &mut out);
        }
        lines.finish(SystemTime::UNIX_EPOCH, &mut out);
        let expected: String =
            expected.iter().map(|(end, text)| format!("{STAMP} o{end} {text}\n")).collect();
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn bytes_become_records() {
        let long = "x".repeat(LONGEST);
        check(&[], &[]);
        check(&["a\n"], &[("F", "a")]);
        check(&["a\nb"], &[("F", "a"), ("F", "b")]);
        check(&["a", "b\n", "\n"], &[("F", "ab"), ("F", "")]);
        check(&[&long, "\n"], &[("F", &long)]);
        check(&[&long, "y\n"], &[("P", &long), ("F", "y")]);
        check(&[&long, &long, "\n"], &[("P", &long), ("F", &long)]);
        check(&[&format!("{long}{long}z")], &[("P", &long), ("P", &long), ("F", "z")]);
    }
}
