//! Hosts that are short of memory: the idlest services there are put to sleep. Looked at once per tick; who goes is
//! decided by [`budget`](tidegate_autoscaler::budget).

use std::collections::BTreeMap;

use tidegate_autoscaler::budget::{self, BudgetHost, BudgetService};
use tidegate_config::{name::HostName, units::Bytes};

use super::{Control, history::What, state::State};
use crate::clock;

impl Control {
    /// Puts the idlest to sleep where memory is short.
    pub(super) fn squeeze(&mut self) {
        let asks = self.states.values().any(|state| !state.lacks_memory.is_empty());
        if !asks && self.engines.iter().all(|engine| engine.settings.memory_budget.is_none()) {
            return;
        }
        let host = |engine: &super::Engine| BudgetHost {
            name: engine.name().clone(),
            budget: engine.settings.memory_budget,
        };
        let hosts: Vec<_> = self.engines.iter().map(host).collect();
        let services: Vec<_> = self.states.values().map(State::budget).collect();
        for name in budget::squeeze(&hosts, &services) {
            let Some(state) = self.states.get_mut(&name) else { continue };
            tracing::info!(service = %name, "put to sleep: a host is short of memory");
            state.asked.squeeze = Some(clock::now());
            state.history.note(What::Asked, "put to sleep: a host is short of memory".into());
            self.evaluate(&name, false);
        }
    }
}

impl State {
    fn budget(&self) -> BudgetService {
        let settings = self.fleet.settings();
        let mut holds: BTreeMap<HostName, Bytes> = BTreeMap::new();
        for member in self.members.values().filter(|member| member.phase.holds_room()) {
            holds.entry(member.host.clone()).or_default().0 += settings.launch.resources.reserve.memory.0;
        }
        let asked = self.asked.squeeze.is_some_and(|at| self.asked.wake.is_none_or(|wake| at > wake));
        BudgetService {
            name: self.fleet.name.clone(),
            min: settings.scaling.min,
            idle_since: self.fleet.idle_since(),
            leaving: (asked && self.want == 0) || self.leaving,
            holds,
            lacks: self.lacks_memory.clone(),
        }
    }
}
