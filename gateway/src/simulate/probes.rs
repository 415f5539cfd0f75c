//! Simulated probes: until a replica is ready, while it lives, and when it did not take a connection.

use std::time::{Duration, Instant};

use tidegate_config::name::ReplicaId;

use super::{
    control::Told,
    world::{Event, World},
};

/// A replica that did not take a connection gets this many probes in quick succession before it is given up.
const SUSPECT_PROBES: u32 = 3;
const SUSPECT_PAUSE: Duration = Duration::from_millis(50);

impl World {
    pub(super) fn looks_ready_at(&self, id: &ReplicaId) -> Option<Instant> {
        self.engines
            .iter()
            .find_map(|engine| engine.containers.get(id))
            .and_then(|container| container.ready_at)
    }

    fn serves(&self, id: &ReplicaId) -> bool {
        self.engines.iter().any(|engine| engine.serves(id, self.now))
    }

    pub(super) fn probe_start(
        &mut self,
        life: u64,
        id: ReplicaId,
        prober: u64,
        began: Instant,
        deadline: Instant,
    ) {
        if life != self.life || !self.control.is_probed_by(&id, prober) {
            return;
        }
        if self.serves(&id) {
            self.tell(life, Told::Ready(id, prober));
        } else if self.now < deadline {
            self.timeline.plan(deadline, Event::ProbeStart { life, id, prober, began, deadline });
        } else {
            self.tell(life, Told::NotReady(id, prober, self.now - began));
        }
    }

    pub(super) fn probe_life(&mut self, life: u64, id: ReplicaId, prober: u64, failures: u32) {
        if life != self.life || !self.control.is_probed_by(&id, prober) {
            return;
        }
        let Some(state) = self.control.states.get(id.service()) else { return };
        let health = &state.front.settings.health;
        let (interval, most) = (health.interval, health.failures);
        let failures = if self.serves(&id) { 0 } else { failures + 1 };
        if failures >= most {
            self.tell(life, Told::Unhealthy(id, prober));
        } else {
            self.timeline.plan(self.now + interval, Event::ProbeLife { life, id, prober, failures });
        }
    }

    pub(super) fn probe_suspect(&mut self, life: u64, id: ReplicaId, failures: u32) {
        if life != self.life || self.serves(&id) {
            return;
        }
        let failures = failures + 1;
        if failures >= SUSPECT_PROBES {
            self.tell(life, Told::Suspected(id));
        } else {
            self.timeline.plan(self.now + SUSPECT_PAUSE, Event::Suspect { life, id, failures });
        }
    }
}
