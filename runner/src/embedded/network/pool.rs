//! Places that are ready before they are needed: making one takes milliseconds and the kernel's one lock on networks,
//! taking one takes a rename.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use tidegate_config::name::ReplicaId;
use tokio::{
    sync::{Notify, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Place, blocking,
    netlink::explain,
    places::{Places, Taken},
    repair,
    wiring::Wiring,
};
use crate::{Error, Kind, Result};

/// Between two places that are made while enough are left: starts need the kernel's lock on networks too.
const PACE: Duration = Duration::from_millis(20);
/// After a failure, doubled each time up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Places that are made at the same time: the kernel makes them one after the other anyway.
const MAKERS: usize = 2;
/// How often a place that someone seems to work on is looked at before it is left to them: a process that was just begun holds a lock
/// until it runs its program, also one that a gateway began before it was killed.
const LOOKS: usize = 25;
/// How long a place that another gateway works on is left alone.
const PATIENCE: Duration = Duration::from_millis(20);

/// How long a start waits for room that is being made.
const ROOM: Duration = Duration::from_secs(5);

/// The places of one instance.
pub(super) struct Pool {
    shared: Arc<Shared>,
    size: usize,
    making: Semaphore,
    reaping: tokio::sync::Mutex<()>,
    taken: Notify,
    released: Notify,
}

struct Shared {
    wiring: Wiring,
    places: Places,
}

impl Pool {
    pub(super) fn new(wiring: Wiring, places: Places, size: usize) -> Self {
        let (taken, released) = (Notify::new(), Notify::new());
        let shared = Arc::new(Shared { wiring, places });
        let (making, reaping) = (Semaphore::new(MAKERS), tokio::sync::Mutex::default());
        Self { shared, size, making, reaping, taken, released }
    }

    pub(super) fn gateway(&self) -> Ipv4Addr {
        self.shared.wiring.names.gateway()
    }

    /// Whether the bridge is the one that was opened, and the folder of claims is there.
    pub(super) fn is_whole(&self) -> bool {
        let wiring = &self.shared.wiring;
        let index = std::fs::read_to_string(format!("/sys/class/net/{}/ifindex", wiring.names.bridge()));
        index.is_ok_and(|index| index.trim().parse() == Ok(wiring.bridge))
            && wiring.pins.exists()
            && self.shared.places.exist()
    }

    #[cfg(test)]
    pub(super) fn parts(&self) -> (&Wiring, &Places) {
        (&self.shared.wiring, &self.shared.places)
    }

    /// Brings what is there and what is written down together again; what others go on working on is left to them.
    pub(super) async fn repair(&self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let mut busy = blocking(move || repair::repair(&shared.wiring, &shared.places)).await?;
        for _ in 1..LOOKS {
            if busy.is_empty() {
                break;
            }
            sleep(PATIENCE).await;
            let shared = Arc::clone(&self.shared);
            busy = blocking(move || repair::treat_all(&shared.wiring, &shared.places, busy)).await?;
        }
        if !busy.is_empty() {
            tracing::debug!(places = ?busy, "left to whoever works on them");
        }
        self.reap().await.map(drop)
    }

    pub(super) async fn take(&self, id: &ReplicaId) -> Result<Place> {
        if let Taken::Place(k) = self.take_ready(id).await? {
            return Ok(self.shared.place(k));
        }
        let _permit =
            self.making.acquire().await.map_err(|e| Error::because(Kind::Retryable, "closed", e))?;
        // One may have become ready while this waited.
        if let Taken::Place(k) = self.take_ready(id).await? {
            return Ok(self.shared.place(k));
        }
        if self.make(Some(id.clone())).await.is_err_and(|e| e.kind == Kind::Retryable) {
            // There may be room once what is released has gone.
            let _ = timeout(ROOM, self.settled()).await;
            self.make(Some(id.clone())).await?;
        }
        match self.take_ready(id).await? {
            Taken::Place(k) => Ok(self.shared.place(k)),
            Taken::NoneReady => {
                Err(Error::new(Kind::Retryable, format!("the place of {id} was released while it was made")))
            }
        }
    }

    async fn take_ready(&self, id: &ReplicaId) -> Result<Taken> {
        let (shared, id) = (Arc::clone(&self.shared), id.clone());
        let take = move || shared.places.take(&id).map_err(|e| explain("take a place in the network", e));
        let taken = blocking(take).await?;
        self.taken.notify_one();
        Ok(taken)
    }

    async fn make(&self, id: Option<ReplicaId>) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.make(id.as_ref())).await
    }

    pub(super) fn of(&self, id: &ReplicaId) -> Option<Place> {
        match self.shared.places.of(id) {
            Ok(k) => k.map(|k| self.shared.place(k)),
            Err(error) => {
                tracing::warn!(%id, %error, "cannot read which place a replica has");
                None
            }
        }
    }

    pub(super) fn held(&self) -> Vec<ReplicaId> {
        self.shared.places.held().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read which replicas have places");
            Vec::new()
        })
    }

    pub(super) async fn release(&self, id: &ReplicaId) -> Result<()> {
        let (shared, what) = (Arc::clone(&self.shared), id.clone());
        let release = move || shared.places.release(&what);
        blocking(move || release().map_err(|e| explain("release a place in the network", e))).await?;
        self.released.notify_one();
        Ok(())
    }

    /// Gives back what is ready.
    pub(super) async fn empty(&self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.places.withdraw_ready().map_err(|e| explain("empty the pool", e))).await
    }

    /// Ends when nothing is left that is to be removed.
    pub(super) async fn settled(&self) {
        let mut pause = PATIENCE;
        loop {
            match self.reap().await {
                Ok(false) => return,
                Ok(true) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot remove network namespaces; trying again");
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
            sleep(pause).await;
        }
    }

    async fn reap(&self) -> Result<bool> {
        let _one_at_a_time = self.reaping.lock().await;
        let shared = Arc::clone(&self.shared);
        blocking(move || repair::reap(&shared.wiring, &shared.places)).await
    }

    /// Makes places as they are taken, one after the other, until it is stopped.
    pub(super) async fn keep_full(self: Arc<Self>, stop: CancellationToken) {
        let mut pause = PAUSE.0;
        while !stop.is_cancelled() {
            let wait = match self.fill().await {
                Ok(Some(wait)) => {
                    pause = PAUSE.0;
                    wait
                }
                Ok(None) => Duration::MAX,
                Err(error) => {
                    tracing::warn!(%error, "cannot prepare network namespaces; trying again");
                    pause = (pause * 2).min(PAUSE.1);
                    pause
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                // Cancel-safe: a notification that comes in between is kept for the next turn.
                _ = timeout(wait, self.taken.notified()) => {}
            }
        }
    }

    /// Makes one place if one is lacking, and says when to look again; `None`: when one was taken.
    async fn fill(&self) -> Result<Option<Duration>> {
        let shared = Arc::clone(&self.shared);
        let count = move || Ok((shared.places.ready()?.len(), shared.places.claimed()?.len()));
        let count = move || count().map_err(|e| explain("count places", e));
        let (ready, claimed) = blocking(count).await?;
        if ready >= self.size || claimed >= self.shared.wiring.names.room() {
            return Ok(None);
        }
        let _permit =
            self.making.acquire().await.map_err(|e| Error::because(Kind::Retryable, "closed", e))?;
        self.make(None).await?;
        Ok(Some(if ready * 2 >= self.size { PACE } else { Duration::ZERO }))
    }

    /// Removes what is released, many at a time, until it is stopped; at first what others were busy with.
    pub(super) async fn keep_clean(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                // Cancel-safe: what is not removed yet stays written down.
                () = async {
                    self.settled().await;
                    self.released.notified().await;
                } => {}
            }
        }
    }
}

impl Shared {
    fn place(&self, k: u32) -> Place {
        Place { namespace: self.wiring.pin(k), address: self.wiring.names.address(k) }
    }

    /// Makes a place for this replica, or for whoever comes. Blocking.
    fn make(&self, id: Option<&ReplicaId>) -> Result<()> {
        let claim = self.places.claim_next(&self.wiring.names);
        let Some(claim) = claim.map_err(|e| explain("claim a place in the network", e))? else {
            return Err(self.full());
        };
        let k = claim.k;
        let made = self.wiring.make(k).and_then(|()| {
            let given = match id {
                Some(id) => self.places.assign(&claim, id),
                None => self.places.offer(&claim),
            };
            given.map_err(|e| explain("write down a place in the network", e))
        });
        // What cannot be removed now is found by the next repair, thanks to the claim.
        if made.is_err() && self.wiring.unmake(&[k]).is_ok() {
            let _ = self.places.forget(claim, None);
        }
        made
    }

    fn full(&self) -> Error {
        let names = &self.wiring.names;
        Error::new(
            Kind::Retryable,
            format!(
                "the network {} is full: {} has room for {} replicas (a Linux bridge ends at 1024 ports); \
                 stop replicas, or set a larger `subnet` under [gateway]",
                names.bridge(),
                names.subnet,
                names.room()
            ),
        )
    }
}
