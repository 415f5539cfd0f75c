//! Which requests are copied to another service. Sending the copies is the request path's
//! ([`shadow`](crate::request)). Holds: copies under way are bounded.

use std::sync::Arc;

use tidegate_config::model;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::fleet::{Service, Standing};

/// Who gets copies.
#[derive(Debug)]
pub(crate) struct Mirror {
    /// The service.
    pub(crate) service: Arc<Service>,
    /// Bytes of a body that are copied.
    pub(crate) room: usize,
    settings: model::Mirror,
    turns: Arc<Semaphore>,
}

impl Mirror {
    pub(crate) fn new(settings: &model::Mirror, service: Arc<Service>) -> Self {
        let turns = Arc::new(Semaphore::new(settings.concurrency as usize));
        let room = usize::try_from(settings.body.0).unwrap_or(usize::MAX);
        Self { service, room, settings: settings.clone(), turns }
    }

    /// As what copies count there: they keep nothing awake that they may not wake.
    pub(crate) fn standing(&self) -> Standing {
        if self.settings.wake { Standing::Caller } else { Standing::Onlooker }
    }

    /// Whether this request is copied: if chance (0 to 1) says so, the service may get it, and a turn is free.
    pub(crate) fn turn(&self, chance: f64) -> Option<OwnedSemaphorePermit> {
        let drawn = chance < self.settings.share.fraction();
        if !drawn || !(self.settings.wake || self.service.awake.is_awake()) {
            return None;
        }
        Arc::clone(&self.turns).try_acquire_owned().ok()
    }
}
