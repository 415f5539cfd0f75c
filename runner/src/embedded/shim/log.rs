//! The log on disk: written at once, rotated by size. What does not fit on the disk is left out and counted; the replica
//! never waits for it.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::lines;

/// How large a file gets, and how many older ones are kept.
const LARGEST: u64 = 10 << 20;
const OLDER: u32 = 2;

/// The log on disk.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    largest: u64,
    lost: u64,
}

impl Log {
    /// Goes on with what is there. Opened when there is something to write.
    pub(super) fn open(path: PathBuf) -> Self {
        Self { path, file: None, size: 0, largest: LARGEST, lost: 0 }
    }

    /// Writes whole records.
    pub(super) fn write(&mut self, records: &[u8], now: SystemTime) {
        if records.is_empty() {
            return;
        }
        if self.lost > 0 {
            let words =
                format!("tidegate: {} lines before this one are lost: they could not be written", self.lost);
            if self.append(&lines::own(&words, now)).is_ok() {
                self.lost = 0;
            }
        }
        if self.append(records).is_err() {
            let lost = records.iter().filter(|byte| **byte == b'\n').count();
            self.lost = self.lost.saturating_add(lost as u64);
        }
    }

    fn append(&mut self, records: &[u8]) -> io::Result<()> {
        if self.size > 0 && self.size.saturating_add(records.len() as u64) > self.largest {
            self.rotate()?;
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => {
                let file = File::options().create(true).append(true).open(&self.path)?;
                self.size = file.metadata()?.len();
                file
            }
        };
        let written = file.write_all(records);
        if written.is_err() {
            // Half a record would be taken for one: it is cut off again.
            drop(file.set_len(self.size));
        } else {
            self.size += records.len() as u64;
        }
        self.file = Some(file);
        written
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        for number in (1..OLDER).rev() {
            rename(&self.older(number), &self.older(number + 1))?;
        }
        rename(&self.path, &self.older(1))?;
        self.size = 0;
        Ok(())
    }

    fn older(&self, number: u32) -> PathBuf {
        self.path.with_extension(number.to_string())
    }
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_files_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let mut log = Log { largest: 20, ..Log::open(path.clone()) };
        for number in 0..10 {
            log.write(format!("line {number}\n").as_bytes(), SystemTime::UNIX_EPOCH);
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("it is there");
        assert_eq!(read("log"), "line 8\nline 9\n");
        assert_eq!(read("log.1"), "line 6\nline 7\n");
        assert_eq!(read("log.2"), "line 4\nline 5\n");
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 3);
    }

    #[test]
    fn a_log_goes_on_where_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        for line in ["one\n", "two\n"] {
            Log::open(path.clone()).write(line.as_bytes(), SystemTime::UNIX_EPOCH);
        }
        assert_eq!(fs::read_to_string(path).expect("it is there"), "one\ntwo\n");
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let mut log = Log::open("/dev/full".into());
        log.write(b"a\nb\n", SystemTime::UNIX_EPOCH);
        log.write(b"c\n", SystemTime::UNIX_EPOCH);
        assert_eq!(log.lost, 3);
        let folder = tempfile::tempdir().expect("a folder");
        log.path = folder.path().join("log");
        log.file = None;
        log.write(b"d\n", SystemTime::UNIX_EPOCH);
        let text = fs::read_to_string(&log.path).expect("it is there");
        assert!(text.contains("eF tidegate: 3 lines before") && text.ends_with("\nd\n"), "{text}");
    }
}
