//! Who may touch what, across processes: advisory locks on files, which the kernel gives back when a process ends.
//! Waiting looks again and again, so that whoever stops waiting leaves no thread behind.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::Path,
    time::Duration,
};

/// The first pause between two looks, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// A lock; given back when it is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Lock {
    _file: File,
}

/// With whom a lock is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// With others who share it.
    Shared,
    /// With nobody.
    Alone,
}

/// The lock on an open file or folder, unless another has it.
pub(super) fn of(file: File, sharing: Sharing) -> io::Result<Option<Lock>> {
    let outcome = match sharing {
        Sharing::Shared => file.try_lock_shared(),
        Sharing::Alone => file.try_lock(),
    };
    match outcome {
        Ok(()) => Ok(Some(Lock { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// The lock on a file, which is made if it is absent, unless another has it.
pub(super) fn attempt(path: &Path, sharing: Sharing) -> io::Result<Option<Lock>> {
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    of(file, sharing)
}

/// Waits for the lock on a file, which is made if it is absent.
pub(super) async fn wait(path: &Path, sharing: Sharing) -> io::Result<Lock> {
    let mut pause = PAUSES.0;
    loop {
        if let Some(lock) = attempt(path, sharing)? {
            return Ok(lock);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_shared_or_not() {
        use Sharing::{Alone, Shared};
        let folder = tempfile::tempdir().expect("a folder");
        for (row, (first, second, expected)) in
            [(Shared, Shared, true), (Shared, Alone, false), (Alone, Shared, false), (Alone, Alone, false)]
                .into_iter()
                .enumerate()
        {
            let path = folder.path().join(row.to_string());
            let held = attempt(&path, first).expect("no error").expect("it is free");
            let other = attempt(&path, second).expect("no error");
            assert_eq!(other.is_some(), expected, "{first:?} {second:?}");
            drop((held, other));
            assert!(attempt(&path, Alone).expect("no error").is_some(), "given back");
        }
    }

    #[tokio::test]
    async fn waiting_ends_when_the_lock_is_given_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let held = attempt(&path, Sharing::Alone).expect("no error").expect("it is free");
        let mut waiting = Box::pin(wait(&path, Sharing::Alone));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(held);
        drop(waiting.await.expect("it is had"));
    }
}
