//! What all replicas of all services reserve on each host. Kept service by service, so that a look at one of ten thousand does not
//! have to count the others. Holds: amounts are whole numbers, so that nothing is left over when a replica goes.

use std::collections::BTreeMap;

use tidegate_autoscaler::snapshot::Room;
use tidegate_config::{
    name::{HostName, ServiceName},
    units::Bytes,
};

use super::state::State;

/// What is reserved on each host.
pub(crate) type Rooms = BTreeMap<HostName, Room>;

/// The sums, and what each service has in them.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    rooms: Rooms,
    sums: BTreeMap<HostName, Amount>,
    of: BTreeMap<ServiceName, BTreeMap<HostName, Amount>>,
}

/// What is reserved by some replicas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    micro_cpu: u64,
    /// Bytes.
    pub(super) memory: u64,
    replicas: u32,
}

impl Reserved {
    /// As of the last time that each service was counted.
    pub(super) fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// Counts a service anew.
    pub(super) fn count(&mut self, state: &State) {
        let now = holds(state);
        let before = self.of.get(&state.fleet.name);
        if before.map_or(now.is_empty(), |before| *before == now) {
            return;
        }
        for (host, amount) in before.into_iter().flatten() {
            let sum = self.sums.entry(host.clone()).or_default();
            sum.micro_cpu -= amount.micro_cpu;
            sum.memory -= amount.memory;
            sum.replicas -= amount.replicas;
        }
        for (host, amount) in &now {
            let sum = self.sums.entry(host.clone()).or_default();
            sum.micro_cpu += amount.micro_cpu;
            sum.memory += amount.memory;
            sum.replicas += amount.replicas;
        }
        self.sums.retain(|_, sum| *sum != Amount::default());
        self.rooms = self.sums.iter().map(|(host, sum)| (host.clone(), Room::from(*sum))).collect();
        if now.is_empty() {
            self.of.remove(&state.fleet.name);
        } else {
            self.of.insert(state.fleet.name.clone(), now);
        }
    }
}

impl From<Amount> for Room {
    #[expect(clippy::cast_precision_loss, reason = "cores in millionths")]
    fn from(amount: Amount) -> Self {
        Self { cpu: amount.micro_cpu as f64 / 1e6, memory: Bytes(amount.memory), replicas: amount.replicas }
    }
}

/// What a service reserves, on each host where it reserves anything.
pub(super) fn holds(state: &State) -> BTreeMap<HostName, Amount> {
    let reserve = state.fleet.settings().launch.resources.reserve;
    let mut holds: BTreeMap<HostName, Amount> = BTreeMap::new();
    for member in state.members.values().filter(|member| member.phase.holds_room()) {
        let on = holds.entry(member.host.clone()).or_default();
        on.micro_cpu += micro(reserve.cpu);
        on.memory += reserve.memory.0;
        on.replicas += 1;
    }
    holds
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cores, checked with the file")]
fn micro(cpu: f64) -> u64 {
    (cpu * 1e6).round() as u64
}
