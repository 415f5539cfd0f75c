//! Hosts that are short of memory: the services that are the least worth their memory are put to sleep. Looked at once per
//! tick; who goes is decided by [`budget`](tidegate_autoscaler::budget).

use std::time::Duration;

use tidegate_autoscaler::budget::{BudgetHost, BudgetService};
use tidegate_config::{name::ServiceName, units::Bytes};

use super::{Control, history::What, rooms, state::State};
use crate::clock;

/// Whoever was put to sleep and is still there after this did not go.
const AGAIN: Duration = Duration::from_secs(15);

impl Control {
    /// Puts some to sleep where memory is short; true if some go.
    pub(super) fn squeeze(&mut self) -> bool {
        let asks = self.awake().any(|state| !state.lacks_memory.is_empty());
        if !asks && self.engines.iter().all(|engine| engine.settings.memory_budget.is_none()) {
            return false;
        }
        let host = |engine: &super::Engine| BudgetHost {
            name: engine.name().clone(),
            budget: engine.settings.memory_budget,
        };
        let hosts: Vec<_> = self.engines.iter().map(host).collect();
        let concerned = |state: &&State| !state.members.is_empty() || !state.lacks_memory.is_empty();
        let services: Vec<_> = self.awake().filter(concerned).map(State::budget).collect();
        let victims = self.worths.squeeze(&hosts, &services);
        let some_go = !victims.is_empty();
        for name in victims {
            let Some(state) = self.states.get_mut(&name) else { continue };
            tracing::info!(service = %name, "put to sleep: a host is short of memory");
            state.asked.squeeze = Some(clock::now());
            state.history.note(What::Asked, "put to sleep: a host is short of memory".into());
            self.bell.ring(&name);
        }
        some_go
    }

    /// A service that has just been found not to fit may fit once others have gone to sleep for it: what waits for it is then
    /// not refused. True if it is to be looked at again with that in mind.
    pub(super) fn makes_room(&mut self, name: &ServiceName) -> bool {
        let now = clock::now();
        let Some(state) = self.states.get(name) else { return false };
        let hoping = state.asked.relief.is_some_and(|at| now.saturating_duration_since(at) < AGAIN);
        if state.lacks_memory.is_empty() || hoping {
            return false;
        }
        let some_go = self.squeeze();
        if let Some(state) = self.states.get_mut(name).filter(|_| some_go) {
            state.asked.relief = Some(now);
        }
        some_go
    }
}

impl State {
    fn budget(&self) -> BudgetService {
        let settings = self.fleet.settings();
        let holds = rooms::holds(self);
        let asked = self.asked.squeeze.is_some_and(|at| clock::now().saturating_duration_since(at) < AGAIN);
        BudgetService {
            name: self.fleet.name.clone(),
            min: settings.scaling.min,
            idle_since: self.fleet.idle_since(),
            calls: self.memory.warmth().calls(),
            cold_start: self.memory.warmth().cold_start(),
            leaving: (asked && !holds.is_empty()) || self.leaving,
            holds: holds.into_iter().map(|(host, amount)| (host, Bytes(amount.memory))).collect(),
            lacks: self.lacks_memory.clone(),
        }
    }
}
