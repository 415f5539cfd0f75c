//! What both planes share: the services, each with its gate. Demand goes up through it and capacity comes down.

pub mod admission;
mod awake;
pub mod balancer;
mod bell;
mod entry;
pub(crate) mod hedges;
mod meter;
#[cfg(test)]
mod one_slow;
#[cfg(test)]
mod overload;
mod replica;
pub(crate) mod retries;
pub mod service;
pub(crate) mod tap;
mod wakes;

use std::sync::Arc;

use dashmap::DashMap;
use tidegate_config::name::ServiceName;

pub use bell::{Bell, Rung};
pub use replica::Replica;
pub use service::{Lease, Service, Standing};

/// All services by name.
#[derive(Debug, Default)]
pub struct Fleet {
    services: DashMap<ServiceName, Arc<Service>>,
}

impl Fleet {
    /// The service of that name.
    #[must_use]
    pub fn get(&self, name: &ServiceName) -> Option<Arc<Service>> {
        self.services.get(name).map(|service| Arc::clone(&service))
    }

    /// All services, in order of their names.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Service>> {
        let mut all: Vec<_> = self.services.iter().map(|entry| Arc::clone(entry.value())).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Adds a service; one of the same name is replaced.
    pub fn insert(&self, service: Arc<Service>) {
        self.services.insert(service.name.clone(), service);
    }

    /// Takes a service out; those who hold it keep it.
    pub fn remove(&self, name: &ServiceName) {
        self.services.remove(name);
    }
}
