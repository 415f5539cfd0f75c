//! Credentials that were verified a short while ago, so that a slow hash is computed once and not for each request. Pure.
//! Holds: no credentials, only keyed digests of them; bounded memory.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// How long a verdict is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Verdicts at once.
const MOST: usize = 4096;

/// A digest of a hash and a password, with a key that is this process's alone.
pub(crate) type Digest = [u8; 32];

/// What was verified.
#[derive(Debug, Default)]
pub(crate) struct Known(HashMap<Digest, Instant>);

impl Known {
    /// Whether these were good a short while ago.
    pub(crate) fn knows(&self, digest: &Digest, now: Instant) -> bool {
        self.0.get(digest).is_some_and(|until| *until > now)
    }

    /// These are good.
    pub(crate) fn remember(&mut self, digest: Digest, now: Instant) {
        if self.0.len() >= MOST {
            self.0.retain(|_, until| *until > now);
        }
        if self.0.len() < MOST {
            self.0.insert(digest, now + REMEMBERED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_remembered_for_a_short_while() {
        let (mut known, now) = (Known::default(), crate::clock::now());
        assert!(!known.knows(&[1; 32], now));
        known.remember([1; 32], now);
        assert!(known.knows(&[1; 32], now) && !known.knows(&[2; 32], now));
        assert!(!known.knows(&[1; 32], now + REMEMBERED));
    }

    #[test]
    fn memory_is_bounded() {
        let (mut known, now) = (Known::default(), crate::clock::now());
        for n in 0..2 * MOST {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&n.to_ne_bytes());
            known.remember(digest, now);
        }
        assert_eq!(known.0.len(), MOST);
        known.remember([9; 32], now + REMEMBERED);
        assert_eq!(known.0.len(), 1);
    }
}
