//! Which versions of a service run side by side, and which of them a replica is of.
//! Made by [`decide`](crate::decide) from the [`Release`](crate::release::Release); read by [`plan`](crate::plan) and the gateway.

use tidegate_config::{spec::Version, units::Count};

use crate::{
    replica::Phase,
    snapshot::{HostOrder, Replica, Snapshot},
};

/// Which versions run, and how requests are shared between them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mix {
    /// The good version, which new replicas are of; `None` while nobody knows what the image is.
    pub main: Option<Version>,
    /// A newer one, and the percentage of requests that it gets (100: all, once enough of it is ready).
    pub trial: Option<(Version, u8)>,
}

/// What a replica is to its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Of the good version (of any, while nobody knows which one that is).
    Main,
    /// Of the version that is being tried.
    Trial,
    /// Of no version that is wanted, or started before an asked restart, or on a host that is being drained: serves
    /// until another one does.
    Stale,
}

/// How many replicas of each version are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wants {
    /// Of the good one.
    pub main: Count,
    /// Of the one that is being tried.
    pub trial: Count,
}

impl Mix {
    /// What a replica is to its service.
    #[must_use]
    pub fn role(&self, seen: &Snapshot, replica: &Replica) -> Role {
        let restarted = seen.asked.restart.is_some_and(|at| replica.started < at);
        let stays = |order| order != HostOrder::Draining;
        let host = seen.hosts.iter().find(|host| host.name == replica.host);
        if restarted || !host.is_some_and(|host| stays(host.order)) {
            return Role::Stale;
        }
        match (&self.main, &self.trial) {
            (_, Some((trial, _))) if trial.revision == replica.revision => Role::Trial,
            (None, _) => Role::Main,
            (Some(main), _) if main.revision == replica.revision => Role::Main,
            (Some(_), _) => Role::Stale,
        }
    }

    /// How many of `want` replicas are of which version. `fall_back`: the trial, which should have all of them, does not
    /// get ready, so the good version is started beside it.
    #[must_use]
    pub fn wants(&self, want: Count, fall_back: bool) -> Wants {
        let part = |share: u8| (u64::from(want) * u64::from(share)).div_ceil(100).try_into().unwrap_or(want);
        match &self.trial {
            None => Wants { main: want, trial: 0 },
            Some((_, share)) if *share >= 100 => {
                Wants { main: if fall_back { want } else { 0 }, trial: want }
            }
            Some((_, share)) => Wants { main: part(100 - share), trial: part(*share) },
        }
    }

    /// Whether a replica that is being taken out of traffic may get its requests back.
    #[must_use]
    pub fn can_return(&self, seen: &Snapshot, wants: Wants, replica: &Replica) -> bool {
        replica.phase == Phase::Draining && wants.of(self.role(seen, replica)) > 0
    }

    /// Both versions, as far as they are there.
    pub(crate) fn versions(&self) -> impl Iterator<Item = &Version> {
        self.main.iter().chain(self.trial.as_ref().map(|(version, _)| version))
    }

    /// The versions that replicas may be started of now, the one that most requests go to first.
    pub(crate) fn started(&self, wants: Wants) -> Vec<Option<&Version>> {
        let trial = self.trial.as_ref().filter(|_| wants.trial > 0).map(|(version, _)| Some(version));
        let main = (wants.main > 0 || trial.is_none()).then_some(self.main.as_ref());
        let trial_first = self.trial.as_ref().is_some_and(|(_, share)| *share > 50);
        let (first, second) = if trial_first { (trial, main) } else { (main, trial) };
        first.into_iter().chain(second).collect()
    }
}

impl Wants {
    /// How many of this role.
    #[must_use]
    pub fn of(self, role: Role) -> Count {
        match role {
            Role::Main => self.main,
            Role::Trial => self.trial,
            Role::Stale => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, host_name, secs, version};
    use tidegate_config::model::ScalingPolicy;

    #[test]
    fn each_version_gets_its_share_and_at_least_one() {
        let rows = [
            (10, 0, false, (0, 0)),
            (10, 1, false, (1, 1)),
            (10, 10, false, (9, 1)),
            (10, 11, false, (10, 2)),
            (50, 5, false, (3, 3)),
            (100, 5, false, (0, 5)),
            (100, 5, true, (5, 5)),
        ];
        for (share, want, fall_back, (main, trial)) in rows {
            let mix = Mix { main: Some(version("r1")), trial: Some((version("r2"), share)) };
            assert_eq!(mix.wants(want, fall_back), Wants { main, trial }, "{want} at {share} %");
        }
        let mix = Mix { main: Some(version("r1")), trial: None };
        assert_eq!(mix.wants(3, false), Wants { main: 3, trial: 0 });
    }

    #[test]
    fn a_replica_is_of_one_version() {
        let mut seen = fixture::snapshot(ScalingPolicy::default());
        let of = |revision| fixture::of(revision, fixture::replica(1, Phase::Ready, seen.now));
        let mix = Mix { main: Some(version("r1")), trial: Some((version("r2"), 10)) };
        for (revision, role) in [("r1", Role::Main), ("r2", Role::Trial), ("r0", Role::Stale)] {
            assert_eq!(mix.role(&seen, &of(revision)), role, "{revision}");
        }
        assert_eq!(Mix::default().role(&seen, &of("r0")), Role::Main, "nobody knows the version");
        let mut elsewhere = of("r1");
        elsewhere.host = host_name("b");
        assert_eq!(mix.role(&seen, &elsewhere), Role::Stale, "its host has left the file");
        let (good, restarted) = (of("r1"), seen.now + secs(1));
        seen.asked.restart = Some(restarted);
        assert_eq!(mix.role(&seen, &good), Role::Stale, "a restart was asked for");
        seen.asked.restart = None;
        seen.hosts[0].order = HostOrder::Draining;
        assert_eq!(mix.role(&seen, &good), Role::Stale, "its host is being drained");
    }
}
