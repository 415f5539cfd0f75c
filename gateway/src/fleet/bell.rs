//! How the data plane tells the control loop that a service needs a look: a set of names and one wake-up.
//! Ringing never waits; a thousand rings before the loop looks are one.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;
use tidegate_config::name::{ReplicaId, ServiceName};
use tokio::sync::Notify;

/// A handle on the bell; clones ring the same one.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    rung: Mutex<Rung>,
    notify: Notify,
}

/// What the bell was rung for since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rung {
    /// Services to be evaluated.
    pub services: BTreeSet<ServiceName>,
    /// Replicas that did not take a connection and are to be probed now.
    pub suspects: BTreeSet<ReplicaId>,
}

impl Bell {
    /// The service is to be evaluated now.
    pub fn ring(&self, service: &ServiceName) {
        let mut rung = self.0.rung.lock();
        if !rung.services.contains(service) {
            rung.services.insert(service.clone());
            drop(rung);
            self.0.notify.notify_one();
        }
    }

    /// The replica did not take a connection.
    pub fn suspect(&self, replica: &ReplicaId) {
        self.0.rung.lock().suspects.insert(replica.clone());
        self.0.notify.notify_one();
    }

    /// Waits for a ring and takes all that came. Cancel-safe: nothing is taken before it returns.
    pub async fn wait(&self) -> Rung {
        self.0.notify.notified().await;
        std::mem::take(&mut *self.0.rung.lock())
    }
}
