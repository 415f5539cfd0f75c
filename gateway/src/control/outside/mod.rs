//! Services that run where the file says: their `upstreams` are resolved, probed and given slots like replicas, but nothing
//! is decided, planned or started for them.
//! Holds: an address has slots only after it has passed its probe; the last good answer of a name server stands until
//! there is another. Absent: engines, hosts, images, demand.

mod known;
mod resolve;
mod watch;
mod words;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use tidegate_config::{
    address::{Address, Machine, denied},
    model,
    name::{ReplicaId, ServiceName},
};
use tokio::{sync::Notify, task::AbortHandle};

use super::{
    Control,
    apply::send,
    event::{Event, Reply},
    history::{History, What},
    publish,
};
use crate::{
    clock,
    fleet::{self, Replica, admission::SlotKey},
    names::own_ips,
    request::Refusal,
};

/// What is said about the addresses of such services.
#[derive(Debug)]
pub(crate) enum Said {
    /// What a name means by now, or why nobody knows.
    Resolved(ServiceName, Address, Result<Vec<IpAddr>, String>),
    /// An address has passed its probe, or not.
    Probed(ReplicaId, Result<(), String>),
}

/// A service that runs elsewhere.
#[derive(Debug)]
pub(crate) struct Outside {
    /// What it shares with the data plane.
    fleet: Arc<fleet::Service>,
    /// Its addresses by now, each under a name of its own.
    known: BTreeMap<ReplicaId, Known>,
    /// What its names mean.
    answers: BTreeMap<Address, Answer>,
    /// What was named and is never called, and why.
    refused: BTreeMap<SocketAddr, &'static str>,
    history: History,
    /// Those who wait for an address that is well.
    waiters: Vec<Reply>,
}

/// One of its addresses.
#[derive(Debug)]
struct Known {
    at: SocketAddr,
    /// As the file has it.
    from: Address,
    slot: SlotKey,
    replica: Arc<Replica>,
    health: Health,
    since: Instant,
    /// Rung when it did not take a connection.
    doubt: Arc<Notify>,
    _prober: Task,
}

/// What is known of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Health {
    /// It is being probed for the first time.
    Unknown,
    Well,
    /// It is not well, because of this.
    Ill(String),
}

/// What a name means.
#[derive(Debug, Default)]
struct Answer {
    /// The last good answer.
    addresses: Vec<IpAddr>,
    /// Why there is no newer one.
    trouble: Option<String>,
    /// Whether there has been any answer.
    asked: bool,
    resolver: Option<Task>,
}

/// A task that ends with its owner.
#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Control {
    /// A service of this kind enters the file.
    pub(super) fn add_outside(&mut self, service: &Arc<model::Service>) {
        let fleet = self.shared(service);
        let outside = Outside {
            fleet,
            known: BTreeMap::new(),
            answers: BTreeMap::new(),
            refused: BTreeMap::new(),
            history: History::default(),
            waiters: Vec::new(),
        };
        self.outside.insert(service.name.clone(), outside);
        self.ask_names(&service.name);
        self.fit(&service.name);
    }

    /// Its settings have changed.
    pub(super) fn update_outside(&mut self, service: &Arc<model::Service>) {
        let Some(outside) = self.outside.get_mut(&service.name) else { return };
        let before = outside.fleet.settings();
        outside.fleet.set_settings(Arc::clone(service));
        if before.launch.protocol != service.launch.protocol {
            let all: Vec<ReplicaId> = outside.known.keys().cloned().collect();
            self.leave(&service.name, &all);
        }
        if before.upstreams != service.upstreams {
            self.ask_names(&service.name);
        }
        if before.health != service.health {
            self.probe_outside_anew(&service.name);
        }
        self.fit(&service.name);
    }

    /// It leaves the file: what runs may finish, nothing new comes.
    pub(super) fn remove_outside(&mut self, name: &ServiceName) {
        let Some(outside) = self.outside.get(name) else { return };
        let all: Vec<ReplicaId> = outside.known.keys().cloned().collect();
        self.fleet.remove(name);
        self.leave(name, &all);
        if let Some(outside) = self.outside.remove(name) {
            outside.fleet.close(Refusal::ShuttingDown);
            outside.farewell();
        }
    }

    pub(super) fn outside_said(&mut self, said: Said) {
        match said {
            Said::Resolved(name, address, found) => self.resolved(&name, &address, found),
            Said::Probed(id, found) => self.probed_outside(&id, found),
        }
    }

    /// The data plane could not connect to it. False if it is no address of such a service.
    pub(super) fn doubt_outside(&self, id: &ReplicaId) -> bool {
        let known = self.outside.get(id.service()).and_then(|outside| outside.known.get(id));
        known.inspect(|known| known.doubt.notify_one()).is_some()
    }

    /// Asks other name servers from here on. What is known stands until they answer.
    pub(super) fn ask_names_anew(&mut self) {
        let answers = self.outside.values_mut().flat_map(|outside| outside.answers.values_mut());
        answers.for_each(|answer| answer.resolver = None);
        let names: Vec<ServiceName> = self.outside.keys().cloned().collect();
        for name in names {
            self.ask_names(&name);
        }
    }

    /// Has each name in the file asked for, and none that has left it.
    fn ask_names(&mut self, name: &ServiceName) {
        let Some(outside) = self.outside.get_mut(name) else { return };
        let settings = outside.fleet.settings();
        outside.answers.retain(|address, _| settings.upstreams.contains(address));
        for address in &settings.upstreams {
            let Machine::Name(host) = &address.machine else { continue };
            let answer = outside.answers.entry(address.clone()).or_default();
            if answer.resolver.is_some() {
                continue;
            }
            let (events, name, asked) = (self.events.clone(), name.clone(), address.clone());
            let tell = move |found| {
                let (events, name, asked) = (events.clone(), name.clone(), asked.clone());
                async move { send(&events, Event::Outside(Said::Resolved(name, asked, found))).await }
            };
            let servers = self.model.gateway.resolvers.clone();
            let task = self.tasks.spawn(resolve::follow(servers, host.clone(), tell));
            answer.resolver = Some(Task(task));
        }
    }

    fn resolved(&mut self, name: &ServiceName, address: &Address, found: Result<Vec<IpAddr>, String>) {
        let Some(outside) = self.outside.get_mut(name) else { return };
        let Some(answer) = outside.answers.get_mut(address) else { return };
        answer.asked = true;
        let before = answer.trouble.take();
        match found {
            Ok(addresses) => answer.addresses = addresses,
            Err(why) => {
                if before.as_ref() != Some(&why) {
                    tracing::warn!(service = %name, %address, error = %why, "not resolved; the last answer stands");
                    let what = What::Phase { replica: address.to_string(), to: "not resolved".into() };
                    outside.history.note(what, why.clone());
                }
                answer.trouble = Some(why);
            }
        }
        self.fit(name);
    }

    fn probed_outside(&mut self, id: &ReplicaId, found: Result<(), String>) {
        let Some(outside) = self.outside.get_mut(id.service()) else { return };
        let Some(known) = outside.known.get_mut(id) else { return };
        let health = match found {
            Ok(()) => Health::Well,
            Err(why) => Health::Ill(why),
        };
        if known.health == health {
            return;
        }
        let why = match &health {
            Health::Ill(why) => why.clone(),
            Health::Unknown | Health::Well => "passed its probe".to_owned(),
        };
        let word = words::phase(&health);
        if words::phase(&known.health) != word {
            tracing::info!(service = %id.service(), address = %known.at, to = word, reason = %why, "address");
            known.since = clock::now();
            outside.history.note(What::Phase { replica: known.at.to_string(), to: word.into() }, why);
        }
        known.health = health;
        self.publish_outside(id.service());
    }

    /// Makes the known addresses those that the file and its names mean by now.
    fn fit(&mut self, name: &ServiceName) {
        let own = self.model.own_addresses();
        let Some(outside) = self.outside.get_mut(name) else { return };
        let wanted = outside.wanted(&own);
        let known = outside.known.iter().map(|(id, known)| (id, known.at));
        let known::Change { come, go } = known::compare(known, &wanted);
        self.leave(name, &go);
        for (at, from) in come {
            self.take_in(name, at, from);
        }
        self.publish_outside(name);
    }

    fn take_in(&mut self, name: &ServiceName, at: SocketAddr, from: Address) {
        let id = ReplicaId::new(name.clone(), self.generation, self.next_number);
        let slot = SlotKey(self.next_slot);
        (self.next_number, self.next_slot) = (self.next_number + 1, self.next_slot + 1);
        let doubt = Arc::new(Notify::new());
        let Some(settings) = self.outside.get(name).map(|outside| outside.fleet.settings()) else { return };
        let prober = self.watch_outside(&id, at, &settings, false, &doubt);
        let replica = Replica::new(id.clone(), None, at, settings.launch.protocol);
        let replica = Arc::new(replica.called(known::name(self.secret(), name, at)));
        let (health, since) = (Health::Unknown, clock::now());
        let known = Known { at, from, slot, replica, health, since, doubt, _prober: prober };
        tracing::info!(service = %name, address = %known.at, from = %known.from, "address known");
        if let Some(outside) = self.outside.get_mut(name) {
            outside.known.insert(id, known);
        }
    }

    /// What addresses are named with: the same in every run of the gateway, so that sessions find theirs again.
    fn secret(&mut self) -> u64 {
        *self.kept.secret.get_or_insert_with(|| {
            self.unsaved.note_all();
            rand::random()
        })
    }

    /// These addresses are not the service's any more: they get nothing new, and what runs there may finish.
    fn leave(&mut self, name: &ServiceName, gone: &[ReplicaId]) {
        let Some(outside) = self.outside.get_mut(name) else { return };
        let drain = outside.fleet.settings().scaling.drain;
        for known in gone.iter().filter_map(|id| outside.known.remove(id)) {
            tracing::info!(service = %name, address = %known.at, "address gone");
            outside.fleet.remove_slots(known.slot);
            let cut = known.replica.cut.clone();
            self.tasks.spawn(async move {
                tokio::time::sleep(drain).await;
                cut.cancel();
            });
        }
    }

    fn probe_outside_anew(&mut self, name: &ServiceName) {
        let Some(outside) = self.outside.get(name) else { return };
        let settings = outside.fleet.settings();
        let all = outside.known.iter();
        let all: Vec<_> = all
            .map(|(id, known)| (id.clone(), known.at, known.health == Health::Well, Arc::clone(&known.doubt)))
            .collect();
        for (id, at, well, doubt) in all {
            let prober = self.watch_outside(&id, at, &settings, well, &doubt);
            if let Some(known) = self.outside.get_mut(name).and_then(|outside| outside.known.get_mut(&id)) {
                known._prober = prober;
            }
        }
    }

    fn watch_outside(
        &mut self,
        id: &ReplicaId,
        at: SocketAddr,
        settings: &model::Service,
        well: bool,
        doubt: &Arc<Notify>,
    ) -> Task {
        let (events, told) = (self.events.clone(), id.clone());
        let tell = move |found| {
            let (events, told) = (events.clone(), told.clone());
            async move { send(&events, Event::Outside(Said::Probed(told, found))).await }
        };
        let watched = watch::Watched {
            target: watch::target(settings, at),
            health: settings.health.clone(),
            well,
            doubt: Arc::clone(doubt),
        };
        Task(self.tasks.spawn(watch::watch(watched, tell)))
    }

    /// Gives slots to the addresses that are well, and tells the gate what to say if none is.
    fn publish_outside(&mut self, name: &ServiceName) {
        let Some(outside) = self.outside.get_mut(name) else { return };
        for known in outside.known.values() {
            let well = known.health == Health::Well;
            let capacity = if well { publish::capacity(&outside.fleet) } else { 0 };
            outside.fleet.set_slots(known.slot, &known.replica, capacity);
        }
        let well = outside.well();
        outside.fleet.open((well == 0).then(|| Refusal::NoUpstream { cause: outside.trouble() }));
        outside.answer_waiters();
    }
}

impl Outside {
    /// What it shares with the data plane.
    pub(crate) fn fleet(&self) -> &Arc<fleet::Service> {
        &self.fleet
    }

    /// The addresses by now, each with what names it. Those that are never called are left out, and told of once.
    fn wanted(&mut self, own: &[SocketAddr]) -> BTreeMap<SocketAddr, Address> {
        let here = own_ips();
        let before = std::mem::take(&mut self.refused);
        let mut wanted = BTreeMap::new();
        for address in &self.fleet.settings().upstreams {
            let ips: &[IpAddr] = match &address.machine {
                Machine::Ip(ip) => &[*ip],
                Machine::Name(_) => self.answers.get(address).map_or(&[], |answer| &answer.addresses),
            };
            for at in ips.iter().map(|ip| SocketAddr::new(ip.to_canonical(), address.port)) {
                let is_here = at.ip().is_loopback() || here.contains(&at.ip());
                let Some(why) = denied(at, own, is_here) else {
                    wanted.entry(at).or_insert_with(|| address.clone());
                    continue;
                };
                if !before.contains_key(&at) {
                    tracing::warn!(service = %self.fleet.name, %address, %at, why, "not used");
                }
                self.refused.insert(at, why);
            }
        }
        wanted
    }

    /// Addresses that are well.
    fn well(&self) -> usize {
        self.known.values().filter(|known| known.health == Health::Well).count()
    }

    /// Whether each name has been asked for and each address probed.
    pub(super) fn is_settled(&self) -> bool {
        self.answers.values().all(|answer| answer.asked)
            && self.known.values().all(|known| known.health != Health::Unknown)
    }

    /// Closes connections that have been unused for long.
    pub(super) fn reap(&self, now: Instant) {
        let idle = self.fleet.settings().upstream.idle_connection;
        for known in self.known.values() {
            known.replica.pool.reap(now, idle);
        }
    }
}
