//! The last decisions about a service, each with its reason, so that `explain` can say why there are 3 replicas.
//! A decision like the one before is counted, not listed again.

use std::{collections::VecDeque, time::SystemTime};

use serde::{Deserialize, Serialize};

/// Entries that are kept.
const KEPT: usize = 100;

/// One decision, or something that happened, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it first was so; seconds since 1970.
    pub at: u64,
    /// What was decided or what happened.
    pub what: What,
    /// Why, in words.
    pub reason: String,
    /// How many times in a row.
    pub times: u32,
}

/// What an [`Entry`] is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// So many replicas are wanted.
    Want {
        /// How many.
        replicas: u32,
        /// The reason's word, as in the metrics.
        because: String,
    },
    /// A replica changed its phase.
    Phase {
        /// Which.
        replica: String,
        /// Its new phase.
        to: String,
    },
    /// A version is tried, is good, or was taken back.
    Rollout,
    /// Something about the image.
    Image,
    /// Somebody asked by hand.
    Asked,
}

/// The last decisions, newest last.
#[derive(Debug, Default)]
pub(crate) struct History(VecDeque<Entry>);

impl History {
    /// Notes an entry; the same kind of decision again only raises a count and renews the words.
    pub(crate) fn note(&mut self, what: What, reason: String) {
        if let Some(last) = self.0.back_mut()
            && last.what == what
            && matches!(what, What::Want { .. })
        {
            last.times += 1;
            last.reason = reason;
            return;
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Entry { at: unix_now(), what, reason, times: 1 });
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.0.iter().cloned().collect()
    }
}

/// Seconds since 1970, for people; nothing is measured by it.
pub(crate) fn unix_now() -> u64 {
    unix(SystemTime::now())
}

/// Seconds since 1970.
pub(crate) fn unix(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_decision_again_is_counted() {
        let mut history = History::default();
        let want = |replicas| What::Want { replicas, because: "demand".into() };
        for (replicas, reason) in [(1, "a"), (1, "b"), (2, "c"), (1, "d")] {
            history.note(want(replicas), reason.into());
        }
        let got: Vec<_> = history.entries().into_iter().map(|entry| (entry.reason, entry.times)).collect();
        assert_eq!(got, [("b".into(), 2), ("c".into(), 1), ("d".into(), 1)]);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut history = History::default();
        for n in 0..2 * KEPT {
            history.note(What::Asked, n.to_string());
        }
        assert_eq!(history.entries().len(), KEPT);
        assert_eq!(history.entries()[0].reason, KEPT.to_string());
    }
}
