//! What the control loop knows of one service between two looks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use tidegate_autoscaler::{
    Memory, Mix,
    snapshot::{Asked, Image, Tally},
};
use tidegate_config::{
    name::{HostName, ReplicaId},
    spec::{Digest, Revision},
    units::Bytes,
};
use tidegate_runner::PullProgress;
use tokio::sync::oneshot;

use super::{BREATH, history::History, member::Member, peers::Elsewhere, waits::Waits};
use crate::fleet::Service;

/// From so many entries on, those of versions that are gone are swept out.
const MANY_VERSIONS: usize = 32;

/// What the control loop knows of one service.
#[derive(Debug)]
pub(crate) struct State {
    /// What it shares with the data plane.
    pub(crate) fleet: Arc<Service>,
    pub(crate) memory: Memory,
    /// Oldest first.
    pub(crate) members: BTreeMap<ReplicaId, Member>,
    pub(crate) images: BTreeMap<HostName, ImageState>,
    /// Counted up when the launch settings change, so that late answers about the old ones are known as such.
    pub(crate) epoch: u64,
    pub(crate) asked: Asked,
    /// Versions other than the one that the settings name: whether a host has them; `None` while it is being asked.
    pub(crate) found: BTreeMap<(HostName, Revision), Option<bool>>,
    /// What replicas of each revision have answered.
    pub(crate) tallies: BTreeMap<Revision, Tally>,
    /// The only host that it may run on: its data is there.
    pub(crate) pinned: Option<HostName>,
    /// When an image that had been looked at was last found to be gone.
    pub(crate) image_gone_at: Option<Instant>,
    /// The hosts have, for the settings' image, another content than the one in use.
    pub(crate) newer: Option<Digest>,
    /// Replicas that an earlier run of the gateway had stopped and kept.
    pub(crate) kept_stopped: BTreeSet<ReplicaId>,
    /// Hosts that are being asked what the image is by now, before a restart.
    pub(crate) restarting: BTreeSet<HostName>,
    /// One of them had another content.
    pub(crate) changed_meanwhile: bool,
    /// The last decision's versions.
    pub(crate) mix: Mix,
    pub(crate) history: History,
    /// Who waited for too long of late.
    pub(crate) waits: Waits,
    /// The last decision.
    pub(crate) want: u32,
    /// Its reason.
    pub(crate) reason: String,
    /// Why requests are refused, if they are.
    pub(crate) refused: Option<String>,
    /// The last look.
    pub(crate) looked_at: Option<Instant>,
    /// Why it fits on no host, if it does not.
    pub(crate) no_fit: Option<String>,
    /// Whether that is only for want of an image that is being looked for.
    pub(crate) image_on_its_way: bool,
    /// Hosts where it does not fit for want of memory, and how much is missing.
    pub(crate) lacks_memory: BTreeMap<HostName, Bytes>,
    /// What a change of version is doing, in words.
    pub(crate) rollout: Option<String>,
    pub(crate) last_failure: Option<LastFailure>,
    pub(crate) waiters: Vec<Waiter>,
    /// What other gateways do with it.
    pub(super) elsewhere: Elsewhere,
    /// Taken out of the file: it goes when its last replica has gone.
    pub(crate) leaving: bool,
}

impl State {
    pub(crate) fn new(fleet: Arc<Service>) -> Self {
        Self {
            fleet,
            memory: Memory::default(),
            members: BTreeMap::new(),
            images: BTreeMap::new(),
            epoch: 0,
            asked: Asked::default(),
            found: BTreeMap::new(),
            tallies: BTreeMap::new(),
            pinned: None,
            image_gone_at: None,
            newer: None,
            kept_stopped: BTreeSet::new(),
            restarting: BTreeSet::new(),
            changed_meanwhile: false,
            mix: Mix::default(),
            history: History::default(),
            waits: Waits::default(),
            want: 0,
            reason: String::new(),
            refused: None,
            looked_at: None,
            no_fit: None,
            image_on_its_way: false,
            lacks_memory: BTreeMap::new(),
            rollout: None,
            last_failure: None,
            waiters: Vec::new(),
            elsewhere: Elsewhere::default(),
            leaving: false,
        }
    }

    /// Whether it has no replica, is to have none, and nobody wants anything of it.
    pub(super) fn sleeps(&self) -> bool {
        self.want == 0
            && self.looked_at.is_some()
            && self.members.is_empty()
            && self.waiters.is_empty()
            && !self.leaving
            && self.fleet.idle_since().is_some()
    }

    /// When it is to be looked at if the bell has been rung now; `None`: at once.
    pub(super) fn puts_off(&self, now: Instant) -> Option<Instant> {
        self.looked_at.map(|at| at + BREATH).filter(|soon| *soon > now)
    }

    /// Forgets what is known of versions that nobody will ask about again.
    pub(crate) fn forget_versions(&mut self, mix: &Mix) {
        if self.tallies.len() + self.found.len() < MANY_VERSIONS {
            return;
        }
        let mixed = mix.main.iter().chain(mix.trial.iter().map(|(version, _)| version));
        let mut known: BTreeSet<Revision> = mixed.map(|version| version.revision.clone()).collect();
        known.extend(self.members.values().map(|member| member.revision.clone()));
        self.tallies.retain(|revision, _| known.contains(revision));
        self.found.retain(|(_, revision), _| known.contains(revision));
    }

    /// The image on a host, as decisions see it.
    pub(crate) fn image(&self, host: &HostName) -> Image {
        self.images.get(host).map_or(Image::Unknown, |image| image.image.clone())
    }

    /// Which other versions a host has, as far as it has been asked. While it is being asked it counts as not having them.
    pub(crate) fn has(&self, host: &HostName) -> BTreeMap<Revision, bool> {
        let here = self.found.iter().filter(|((at, _), _)| at == host);
        here.map(|((_, revision), has)| (revision.clone(), has.unwrap_or_default())).collect()
    }

    /// Whether every host knows what there is to know about the image.
    pub(crate) fn images_settled(&self) -> bool {
        let settled =
            |image: &ImageState| matches!(image.image, Image::Present { .. } | Image::Failed { .. });
        !self.images.is_empty() && self.images.values().all(settled)
    }
}

/// A service's image on one host.
#[derive(Debug, Clone)]
pub(crate) struct ImageState {
    pub(crate) image: Image,
    /// How its HEALTHCHECK asks, if it has one.
    pub(crate) healthcheck: Option<Vec<String>>,
    /// How far the download is.
    pub(crate) progress: Option<PullProgress>,
    /// Failed tries in a row.
    pub(crate) failures: u32,
}

impl ImageState {
    pub(crate) fn pulling(failures: u32) -> Self {
        Self { image: Image::Pulling, healthcheck: None, progress: None, failures }
    }
}

/// The last replica that failed, kept for `explain`.
#[derive(Debug, Clone)]
pub(crate) struct LastFailure {
    pub(crate) replica: ReplicaId,
    /// Seconds since 1970.
    pub(crate) at: u64,
    pub(crate) cause: String,
    /// No replica has been ready since.
    pub(crate) open: bool,
    /// The last lines that it printed.
    pub(crate) log: Vec<String>,
}

/// Somebody who asked for something by hand and waits for it.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) goal: Goal,
    pub(crate) reply: oneshot::Sender<Result<(), String>>,
}

/// What they wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// A replica is ready.
    Ready,
    /// There is none.
    Cold,
    /// All that are ready were started after that moment, and one is.
    RestartedSince(Instant),
    /// All that are ready are of this revision, and one is; or none is needed.
    Runs,
}
