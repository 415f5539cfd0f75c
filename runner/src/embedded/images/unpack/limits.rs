//! How much one layer may take: what a hostile one is measured against.

/// How much one layer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of the uncompressed tar, all of it: headers, contents and padding.
    pub bytes: u64,
    /// Entries, extension headers included.
    pub entries: u64,
    /// Bytes of an entry's name, or of where a link leads.
    pub path: usize,
    /// Folders above an entry.
    pub depth: usize,
    /// Bytes of all the extended headers (PAX, long names, sparse maps) of one entry.
    pub extended: usize,
    /// Bytes after the tar's end marker.
    pub trailing: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 32 << 30,
            entries: 1_000_000,
            path: 4095,
            depth: 256,
            extended: 1 << 20,
            trailing: 64 << 20,
        }
    }
}
