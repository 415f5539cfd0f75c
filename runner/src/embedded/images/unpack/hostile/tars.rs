//! Tars as no program would write them: any bytes in any field, with the right checksum.

/// A tar that is being written.
#[derive(Default, Clone)]
pub(super) struct Tar(pub Vec<u8>);

/// An entry's header before its checksum.
pub(super) struct Raw(pub [u8; 512]);

impl Raw {
    pub(super) fn new(kind: u8, name: &[u8]) -> Self {
        let mut raw = Self([0; 512]);
        raw.set(0, name).set(100, b"0000644\0").set(108, b"0000000\0").set(116, b"0000000\0");
        raw.set(124, b"00000000000\0").set(136, b"00000001750\0").set(257, b"ustar  \0");
        raw.0[156] = kind;
        raw
    }

    pub(super) fn set(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(super) fn size(&mut self, size: u64) -> &mut Self {
        let mut field = [0; 12];
        field[0] = 0x80;
        field[4..].copy_from_slice(&size.to_be_bytes());
        self.set(124, &field)
    }

    pub(super) fn mode(&mut self, mode: u32) -> &mut Self {
        self.set(100, format!("{mode:07o}\0").as_bytes())
    }

    pub(super) fn owner(&mut self, user: u32, group: u32) -> &mut Self {
        self.set(108, format!("{user:07o}\0").as_bytes()).set(116, format!("{group:07o}\0").as_bytes())
    }

    pub(super) fn device(&mut self, major: u32, minor: u32) -> &mut Self {
        self.set(329, format!("{major:07o}\0").as_bytes()).set(337, format!("{minor:07o}\0").as_bytes())
    }

    pub(super) fn sealed(&self) -> [u8; 512] {
        let mut block = self.0;
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

impl Tar {
    pub(super) fn raw(mut self, raw: &Raw, contents: &[u8]) -> Self {
        self.0.extend_from_slice(&raw.sealed());
        self.0.extend_from_slice(contents);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// An entry with a name, and maybe a link, of any length.
    fn entry(mut self, kind: u8, name: &[u8], link: &[u8], contents: &[u8]) -> Self {
        for (kind, text) in [(b'L', name), (b'K', link)] {
            if text.len() > 100 {
                let mut raw = Raw::new(kind, b"././@LongLink");
                raw.size(text.len() as u64 + 1);
                self = self.raw(&raw, &[text, b"\0"].concat());
            }
        }
        let mut raw = Raw::new(kind, &name[..name.len().min(100)]);
        raw.set(157, &link[..link.len().min(100)]).size(contents.len() as u64);
        if kind == b'5' {
            raw.mode(0o755);
        }
        self.raw(&raw, contents)
    }

    pub(super) fn file(self, name: impl AsRef<[u8]>, text: &str) -> Self {
        self.entry(b'0', name.as_ref(), b"", text.as_bytes())
    }

    pub(super) fn folder(self, name: impl AsRef<[u8]>) -> Self {
        self.entry(b'5', name.as_ref(), b"", b"")
    }

    pub(super) fn symlink(self, name: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Self {
        self.entry(b'2', name.as_ref(), to.as_ref(), b"")
    }

    pub(super) fn link(self, name: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Self {
        self.entry(b'1', name.as_ref(), to.as_ref(), b"")
    }

    /// PAX headers for the next entry.
    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let text: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.entry(b'x', b"pax", b"", &text)
    }

    pub(super) fn end(mut self) -> Self {
        self.0.resize(self.0.len() + 1024, 0);
        self
    }
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}
