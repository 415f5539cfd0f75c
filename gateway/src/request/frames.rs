//! Where the frames of a WebSocket begin and end (RFC 6455, section 5.2), seen from the bytes that pass. Pure, and never
//! copies: a header at a time is read, payloads are counted past. Called by the tunnel, which may put a close frame of
//! ours between two frames and nowhere else.

/// "Going away": the endpoint goes, as a server does that shuts down (section 7.4.1).
const GOING_AWAY: u16 = 1001;

/// The longest header: two bytes, eight of length, four of mask.
const LONGEST: usize = 14;

const CLOSE: u8 = 0x8;

/// One direction of a WebSocket.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frames {
    header: [u8; LONGEST],
    /// Bytes of the next header that have passed.
    read: usize,
    /// Bytes of the current frame's payload that have not passed.
    left: u64,
    /// The current frame, or the last one, is a close frame.
    closing: bool,
}

impl Frames {
    /// These bytes pass.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skip = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= skip as u64;
                bytes = &bytes[skip..];
                continue;
            }
            let (first, rest) = (bytes[0], &bytes[1..]);
            self.header[self.read] = first;
            self.read += 1;
            bytes = rest;
            if let Some(length) = self.payload() {
                (self.read, self.left) = (0, length);
                self.closing = self.header[0] & 0x0f == CLOSE;
            }
        }
    }

    /// Whether the last byte that passed was the last of its frame (or none has passed).
    pub(crate) fn at_boundary(&self) -> bool {
        self.read == 0 && self.left == 0
    }

    /// Whether a close frame has passed whole: nothing may follow it.
    pub(crate) fn is_closed(&self) -> bool {
        self.closing && self.at_boundary()
    }

    /// The payload's length, once the header is whole.
    fn payload(&self) -> Option<u64> {
        let second = *self.header[..self.read].get(1)?;
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        if self.read < 2 + extended + mask {
            return None;
        }
        let length = self.header[2..2 + extended].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        Some(if extended == 0 { u64::from(second & 0x7f) } else { length })
    }
}

/// A close frame with status 1001, as a server sends it.
pub(crate) fn close_from_server() -> [u8; 4] {
    let [high, low] = GOING_AWAY.to_be_bytes();
    [0x80 | CLOSE, 2, high, low]
}

/// The same as a client sends it. The mask hides nothing from anybody here; zero is as good as any.
pub(crate) fn close_from_client() -> [u8; 8] {
    let [high, low] = GOING_AWAY.to_be_bytes();
    [0x80 | CLOSE, 0x80 | 2, 0, 0, 0, 0, high, low]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, masked: bool, length: usize) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match u16::try_from(length) {
            Ok(short @ 0..=125) => frame.push(mask | u8::try_from(short).expect("below 126")),
            Ok(middle) => {
                frame.push(mask | 126);
                frame.extend(middle.to_be_bytes());
            }
            Err(_) => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(vec![7; if masked { 4 } else { 0 }]);
        frame.extend(vec![0x88; length]);
        frame
    }

    proptest! {
        #[test]
        fn every_boundary_is_found_however_the_bytes_come(
            frames in proptest::collection::vec((0_u8..8, any::<bool>(), 0_usize..70_000), 1..6),
            piece in 1_usize..5000,
        ) {
            let mut seen = Frames::default();
            for (opcode, masked, length) in frames {
                let bytes = frame(opcode, masked, length);
                for (index, part) in bytes.chunks(piece).enumerate() {
                    seen.pass(part);
                    let passed = (index * piece + part.len()).min(bytes.len());
                    prop_assert_eq!(seen.at_boundary(), passed == bytes.len());
                }
            }
            prop_assert!(!seen.is_closed());
            seen.pass(&frame(CLOSE, false, 2));
            prop_assert!(seen.is_closed());
        }
    }

    #[test]
    fn ours_are_close_frames() {
        for bytes in [&close_from_server()[..], &close_from_client()[..]] {
            let mut seen = Frames::default();
            seen.pass(&bytes[..bytes.len() - 1]);
            assert!(!seen.at_boundary());
            seen.pass(&bytes[bytes.len() - 1..]);
            assert!(seen.is_closed());
            assert!(bytes.ends_with(&[0x03, 0xe9]));
        }
    }
}
