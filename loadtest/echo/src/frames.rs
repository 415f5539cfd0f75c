//! Frames of WebSockets on their way back: without the client's mask, else as they came (RFC 6455, section 5.2).

/// The most that stands before a payload: two bytes, eight of length, four of mask.
const LONGEST_HEAD: usize = 14;

/// What has to be known from one piece to the next.
#[derive(Debug, Default)]
pub(crate) struct Unmask {
    /// The begin of a frame, as far as it has come.
    head: Vec<u8>,
    /// The mask of the frame that is under way, and which of its bytes is next.
    mask: [u8; 4],
    at: usize,
    /// Bytes of its payload that have not come.
    left: u64,
}

impl Unmask {
    /// The next bytes from a client, as a server sends them.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if self.left > 0 {
                out.push(byte ^ self.mask[self.at % 4]);
                self.at += 1;
                self.left -= 1;
            } else {
                self.head.push(*byte);
                self.begin(&mut out);
            }
        }
        out
    }

    /// Passes on the head of a frame once it is whole.
    fn begin(&mut self, out: &mut Vec<u8>) {
        let [first, second, rest @ ..] = self.head.as_slice() else { return };
        let (wide, short) = match second & 0x7f {
            126 => (2, 0),
            127 => (8, 0),
            short => (0, u64::from(short)),
        };
        let masked = second & 0x80 != 0;
        if rest.len() < wide + if masked { 4 } else { 0 } {
            debug_assert!(self.head.len() < LONGEST_HEAD);
            return;
        }
        let (length, mask) = rest.split_at(wide);
        self.left = length.iter().fold(short, |sum, byte| sum << 8 | u64::from(*byte));
        self.mask = mask.try_into().unwrap_or_default();
        self.at = 0;
        out.extend([*first, second & 0x7f]);
        out.extend_from_slice(length);
        self.head.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_unmasked_however_they_are_cut() {
        // The masked "Hello" of RFC 6455, section 5.7; a long one; an empty ping.
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        let mut sent = hello.to_vec();
        sent.extend([0x82, 0xfe, 0x01, 0x2c, 1, 2, 3, 4]);
        sent.extend((0..300).map(|n| b'x' ^ [1, 2, 3, 4][n % 4]));
        sent.extend([0x89, 0x80, 9, 9, 9, 9]);
        let mut expected = vec![0x81, 0x05];
        expected.extend(b"Hello");
        expected.extend([0x82, 0x7e, 0x01, 0x2c]);
        expected.extend([b'x'; 300]);
        expected.extend([0x89, 0x00]);
        for size in [1, 3, 7, 1000] {
            let mut unmask = Unmask::default();
            let back: Vec<u8> = sent.chunks(size).flat_map(|piece| unmask.take(piece)).collect();
            assert_eq!(back, expected, "in pieces of {size}");
        }
    }
}
