//! Gets one blob into a file, goes on where an earlier try ended, and tries again where that makes sense.
//! Holds: when it says that the file is there, its bytes are those that were asked for.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek},
    path::Path,
    time::Duration,
};

use futures_util::StreamExt;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncWriteExt, BufWriter};

use super::{
    manifest::Descriptor,
    places,
    refusal::{Refusal, Why},
    registry::{Part, Registry, wrong},
    trouble,
};
use crate::Error;

/// As many tries in a row may come to nothing.
const TRIES: u32 = 5;
/// As many tries there are at all: a registry that gives a byte at a time is not worth more.
const MOST: u32 = 50;
const BUFFER: usize = 256 << 10;

/// Why a blob is not there.
pub(super) enum Failed {
    /// The registry's doing.
    Refused(Refusal),
    /// The disk's.
    Disk(Error),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Gets a blob into a file. `told` hears how much is there.
pub(super) async fn download(
    registry: &Registry,
    blob: &Descriptor,
    path: &Path,
    told: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), Failed> {
    let (mut in_vain, mut again) = (0, true);
    for _ in 0..MOST {
        let mut begun = Resumed { had: 0, has: 0 };
        match attempt(registry, blob, path, told, &mut begun).await {
            Err(Failed::Refused(refusal)) => match next(&refusal, begun, in_vain, again) {
                Next::Later(after) => {
                    tracing::warn!(registry = registry.host, "a download was interrupted: {}", refusal.words);
                    in_vain = if begun.has > begun.had { 1 } else { in_vain + 1 };
                    tokio::time::sleep(after).await;
                }
                Next::Afresh => {
                    again = false;
                    forget(path)?;
                }
                Next::Never => {
                    if refusal.why == Why::Wrong {
                        forget(path)?;
                    }
                    return Err(refusal.into());
                }
            },
            outcome => return outcome,
        }
    }
    Err(Refusal::new(Why::Network, "interrupted too often").into())
}

/// How much of a blob was there before a try, and after it.
#[derive(Debug, Clone, Copy)]
struct Resumed {
    had: u64,
    has: u64,
}

/// What comes after a try that failed.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// The same once more, after a pause.
    Later(Duration),
    /// From the first byte on, at once: what was there may be the fault.
    Afresh,
    /// Nothing.
    Never,
}

fn next(refusal: &Refusal, tried: Resumed, in_vain: u32, again: bool) -> Next {
    match refusal.why {
        Why::Network if tried.has > tried.had => Next::Later(Duration::from_millis(100)),
        Why::Network if in_vain + 1 < TRIES => Next::Later(Duration::from_millis(250 << in_vain)),
        Why::Wrong | Why::Refused if tried.had > 0 && again => Next::Afresh,
        Why::Network | Why::Wrong | Why::Refused | Why::Missing | Why::Denied | Why::Plain => Next::Never,
    }
}

/// What is there of a blob, and what it has been digested to.
struct Begun {
    file: File,
    hasher: Sha256,
    has: u64,
}

async fn attempt(
    registry: &Registry,
    blob: &Descriptor,
    path: &Path,
    told: &(dyn Fn(u64) + Send + Sync),
    resumed: &mut Resumed,
) -> Result<(), Failed> {
    let disk = |e| Failed::Disk(trouble::disk("write", path, e));
    let (owned, size) = (path.to_path_buf(), blob.size);
    let begun = tokio::task::spawn_blocking(move || begin(&owned, size)).await;
    let mut begun = begun.map_err(|e| Failed::Disk(trouble::broken(e)))?.map_err(disk)?;
    *resumed = Resumed { had: begun.has, has: begun.has };
    told(begun.has);
    if begun.has < size {
        let part = registry.blob(&blob.digest, begun.has).await?;
        if part.from != begun.has {
            begun.file.set_len(0).and_then(|()| begun.file.rewind()).map_err(disk)?;
            (begun.hasher, begun.has) = (Sha256::new(), 0);
            resumed.had = 0;
        }
        let ended = receive(part, &mut begun, blob, told).await;
        resumed.has = begun.has;
        ended.map_err(disk)??;
    }
    verify(blob, begun)
}

/// Writes what comes; what came before a failure is kept.
async fn receive(
    mut part: Part,
    begun: &mut Begun,
    blob: &Descriptor,
    told: &(dyn Fn(u64) + Send + Sync),
) -> io::Result<Result<(), Refusal>> {
    let mut out = BufWriter::with_capacity(BUFFER, tokio::fs::File::from_std(begun.file.try_clone()?));
    let mut ended = Ok(());
    while let Some(bytes) = part.bytes.next().await {
        match bytes {
            Ok(bytes) if begun.has + bytes.len() as u64 > blob.size => ended = Err(longer(blob)),
            Ok(bytes) => {
                begun.has += bytes.len() as u64;
                begun.hasher.update(&bytes);
                out.write_all(&bytes).await?;
                told(begun.has);
            }
            Err(refusal) => ended = Err(refusal),
        }
        if ended.is_err() {
            break;
        }
    }
    out.flush().await?;
    Ok(ended)
}

fn longer(blob: &Descriptor) -> Refusal {
    Refusal::new(Why::Wrong, format!("{} has more than its {} bytes", blob.digest.0, blob.size))
}

fn verify(blob: &Descriptor, got: Begun) -> Result<(), Failed> {
    if got.has < blob.size {
        let words = format!("the download ended after {} of {} bytes", got.has, blob.size);
        return Err(Refusal::new(Why::Network, words).into());
    }
    let found = places::digest(got.hasher);
    if found == blob.digest { Ok(()) } else { Err(wrong(&blob.digest, &found).into()) }
}

/// Opens the file at its end, with what it has been digested; what is too long begins anew. Blocks.
fn begin(path: &Path, size: u64) -> io::Result<Begun> {
    let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    let (mut hasher, mut has) = (Sha256::new(), 0);
    if file.metadata()?.len() > size {
        file.set_len(0)?;
    }
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Begun { file, hasher, has }),
            count => {
                hasher.update(&buffer[..count]);
                has += count as u64;
            }
        }
    }
}

fn forget(path: &Path) -> Result<(), Failed> {
    places::remove(path).map_err(|e| Failed::Disk(trouble::disk("remove", path, e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_come_to_an_end() {
        let later = |milliseconds| Next::Later(Duration::from_millis(milliseconds));
        for (why, had, has, in_vain, again, expected) in [
            (Why::Network, 0, 0, 0, true, later(250)),
            (Why::Network, 0, 0, 3, true, later(2000)),
            (Why::Network, 0, 0, 4, true, Next::Never),
            (Why::Network, 5, 9, 4, true, later(100)),
            (Why::Wrong, 0, 9, 0, true, Next::Never),
            (Why::Wrong, 5, 9, 0, true, Next::Afresh),
            (Why::Wrong, 5, 9, 0, false, Next::Never),
            (Why::Refused, 5, 5, 0, true, Next::Afresh),
            (Why::Refused, 0, 0, 0, true, Next::Never),
            (Why::Missing, 5, 5, 0, true, Next::Never),
            (Why::Denied, 0, 0, 0, true, Next::Never),
        ] {
            let refusal = Refusal::new(why, "words");
            let got = next(&refusal, Resumed { had, has }, in_vain, again);
            assert_eq!(got, expected, "{why:?} {had} {has} {in_vain} {again}");
        }
    }

    #[test]
    fn what_is_there_is_digested() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x");
        for (there, size, expected) in [("", 5, 0), ("abc", 5, 3), ("abc", 3, 3), ("abcdef", 5, 0)] {
            std::fs::write(&path, there).expect("written");
            let begun = begin(&path, size).expect("begun");
            assert_eq!(begun.has, expected, "{there}");
            assert_eq!(places::digest(begun.hasher), places::sha256(&there.as_bytes()[..expected as usize]));
        }
    }
}
