//! What a replica printed, out of the files that its shim writes: a record per line, `STAMP o|e F|P TEXT`.
//! Files rotate by renaming (`log`, `log.1`, ...); a follower finishes the one that it reads before it goes on.

use std::{
    collections::VecDeque,
    io::{self, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{StreamExt, stream::BoxStream};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};

use super::{record, task::Folder};
use crate::{Error, Kind, LogLine, LogOptions, Result};

/// How often a follower looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How many older files are looked for.
const OLDER: u32 = 9;
/// How much a follower reads at once.
const CHUNK: usize = 64 << 10;

/// The lines of a replica's log, oldest first.
pub(super) async fn lines(
    folder: Folder,
    options: LogOptions,
) -> Result<BoxStream<'static, Result<LogLine>>> {
    let (past, end) = past(&folder.log(), options.tail).await.map_err(failed)?;
    let past = futures_util::stream::iter(past.into_iter().map(Ok));
    if !options.follow {
        return Ok(past.boxed());
    }
    let follower = Follower { folder, end, unfinished: Vec::new(), ready: VecDeque::new() };
    let coming = futures_util::stream::try_unfold(follower, |mut follower| async move {
        Ok(follower.next().await.map_err(failed)?.map(|line| (line, follower)))
    });
    Ok(past.chain(coming).boxed())
}

/// Where a reader stands: in which file, and how far.
struct End {
    file: Option<File>,
    inode: u64,
}

/// The last lines that are there, and where they end.
async fn past(log: &Path, tail: Option<usize>) -> io::Result<(Vec<LogLine>, End)> {
    let wanted = tail.unwrap_or(usize::MAX);
    let mut lines = Vec::new();
    let end = match open(log).await? {
        Some(mut file) => {
            let inode = file.metadata().await?.ino();
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).await?;
            // What is being written just now is read again, once it is whole.
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            file.seek(SeekFrom::Start(whole as u64)).await?;
            lines = parse(&bytes[..whole]);
            End { file: Some(file), inode }
        }
        None => End { file: None, inode: 0 },
    };
    for number in 1..=OLDER {
        if lines.len() >= wanted {
            break;
        }
        match tokio::fs::read(older(log, number)).await {
            Ok(bytes) => lines = parse(&bytes).into_iter().chain(lines).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    let surplus = lines.len().saturating_sub(wanted);
    lines.drain(..surplus);
    Ok((lines, end))
}

struct Follower {
    folder: Folder,
    end: End,
    unfinished: Vec<u8>,
    ready: VecDeque<LogLine>,
}

impl Follower {
    /// The next line, or nothing once the replica has ended and everything is told.
    async fn next(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            // Asked before reading: what was printed before the end is there by then.
            let over = record::ended(&self.folder)?.is_some() || !self.folder.path().exists();
            if self.read().await? {
                continue;
            }
            if self.rotated().await? {
                self.end = End { file: None, inode: 0 };
            } else if over {
                return Ok(None);
            } else {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Reads what has come; whether anything had.
    async fn read(&mut self) -> io::Result<bool> {
        if self.end.file.is_none()
            && let Some(file) = open(&self.folder.log()).await?
        {
            self.end = End { inode: file.metadata().await?.ino(), file: Some(file) };
        }
        let Some(file) = &mut self.end.file else { return Ok(false) };
        let start = self.unfinished.len();
        self.unfinished.resize(start + CHUNK, 0);
        let count = file.read(&mut self.unfinished[start..]).await?;
        self.unfinished.truncate(start + count);
        if let Some(end) = self.unfinished.iter().rposition(|byte| *byte == b'\n') {
            self.ready.extend(parse(&self.unfinished[..=end]));
            self.unfinished.drain(..=end);
        }
        Ok(count > 0)
    }

    /// Whether the log goes on in another file by now.
    async fn rotated(&self) -> io::Result<bool> {
        match tokio::fs::metadata(self.folder.log()).await {
            Ok(metadata) => Ok(self.end.file.is_some() && metadata.ino() != self.end.inode),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

async fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path).await {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn older(log: &Path, number: u32) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn parse(bytes: &[u8]) -> Vec<LogLine> {
    String::from_utf8_lossy(bytes).lines().filter_map(line).collect()
}

/// `None` for what no shim writes: a disk that was full may have cut a line.
fn line(text: &str) -> Option<LogLine> {
    let (at, rest) = text.split_once(' ')?;
    let (kind, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let stderr = match kind.as_bytes() {
        [b'o', b'F' | b'P'] => false,
        [b'e', b'F' | b'P'] => true,
        _ => return None,
    };
    Some(LogLine { at: at.to_owned(), stderr, text: text.trim_end_matches('\r').to_owned() })
}

fn failed(error: io::Error) -> Error {
    Error::because(Kind::Retryable, format!("read a replica's log: {error}"), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    async fn read(folder: &Folder, tail: Option<usize>) -> Vec<LogLine> {
        let lines = lines(folder.clone(), LogOptions { tail, follow: false }).await.expect("a log");
        lines.map(|line| line.expect("a line")).collect().await
    }

    #[tokio::test]
    async fn lines_come_from_all_files_and_the_last_ones_are_enough() {
        let kept = tempfile::tempdir().expect("a folder");
        let folder = Folder(kept.path().to_owned());
        assert_eq!(read(&folder, None).await, []);
        std::fs::write(older(&folder.log(), 2), "T1 oF one\nT2 eF two\n").expect("written");
        std::fs::write(older(&folder.log(), 1), "T3 oP three\nbroken\n").expect("written");
        std::fs::write(folder.log(), "T4 oF \nT5 oF five\r\nT6 oF unfin").expect("written");
        for (tail, expected) in [
            (None, vec!["one", "two", "three", "", "five"]),
            (Some(0), vec![]),
            (Some(1), vec!["five"]),
            (Some(3), vec!["three", "", "five"]),
            (Some(99), vec!["one", "two", "three", "", "five"]),
        ] {
            assert_eq!(texts(&read(&folder, tail).await), expected, "{tail:?}");
        }
        let all = read(&folder, None).await;
        assert_eq!((all[1].at.as_str(), all[1].stderr, all[0].stderr), ("T2", true, false));
    }

    #[tokio::test]
    async fn a_follower_goes_on_through_rotations_until_the_end() {
        let kept = tempfile::tempdir().expect("a folder");
        let folder = Folder(kept.path().to_owned());
        std::fs::write(folder.log(), "T1 oF one\nT2 oF tw").expect("written");
        let options = LogOptions { tail: Some(1), follow: true };
        let mut lines = lines(folder.clone(), options).await.expect("a log");
        let mut next = async || lines.next().await.map(|line| line.expect("a line").text);
        assert_eq!(next().await.as_deref(), Some("one"));
        std::fs::write(folder.log(), "T1 oF one\nT2 oF two\n").expect("written");
        assert_eq!(next().await.as_deref(), Some("two"));
        std::fs::rename(folder.log(), older(&folder.log(), 1)).expect("renamed");
        std::fs::write(folder.log(), "T3 oF three\n").expect("written");
        assert_eq!(next().await.as_deref(), Some("three"));
        let end = r#"{"exit":{"code":0,"out_of_memory":false,"message":null},"at":{"secs_since_epoch":1,"nanos_since_epoch":0}}"#;
        std::fs::write(folder.exit(), end).expect("written");
        assert_eq!(next().await, None);
    }
}
