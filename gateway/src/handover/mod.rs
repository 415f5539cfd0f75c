//! How one gateway takes over from another without a gap: the listening sockets pass from process to process, the old
//! one finishes its requests beside the new one, and each knows what the other runs.
//!
//! [`wire`] says what is said; [`channel`] carries it. The running gateway answers on `handover.sock` ([`leader`]); a new
//! one asks there ([`taker`]) and is given everything ([`giver`]); the old one then follows it ([`follower`]). [`systemd`]
//! is the same for sockets that systemd holds. Holds: whoever has the state directory's lock is the gateway.

mod channel;
mod fds;
mod follower;
mod giver;
mod leader;
pub(crate) mod share;
pub mod systemd;
mod taker;
pub mod wire;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    time::Duration,
};

use tidegate_config::model::Model;

pub(crate) use follower::{follow, forget_borrowed};
pub use giver::{Outcome, hand_over};
pub(crate) use leader::serve;
pub use leader::{Request, Server};
pub use taker::{Error, Taken, take_over};

/// A follower tells what it runs at least this often.
pub const EVERY: Duration = Duration::from_millis(100);

/// A checked file, as one word: equal words, equal files.
#[must_use]
pub fn fingerprint(model: &Model) -> String {
    let mut hasher = DefaultHasher::new();
    format!("{model:?}").hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Where the gateway that holds this state directory answers others.
#[must_use]
pub fn socket(state: &Path) -> PathBuf {
    state.join("handover.sock")
}
