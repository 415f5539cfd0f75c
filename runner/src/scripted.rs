//! A [`Runner`] in memory, for tests: replicas are entries, their addresses come from the test, faults are scripted.
//! Delays are tokio's time, so that a paused clock works. Holds the same contract as an engine ([`crate::contract`]).

mod mood;
mod script;

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use parking_lot::Mutex;
use tidegate_config::{
    name::ReplicaId,
    spec::{Capabilities, Digest, Exit, Observed, ObservedState, Pull, StartSpec},
    units::Bytes,
};
use tokio::{
    sync::{broadcast, watch},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::BroadcastStream;

use crate::{
    Cpu, Error, Event, Executed, Inventory, Kind, LogLine, LogOptions, Prepared, Progress, PullProgress,
    Reached, Result, Runner, Stats, events::Events,
};
use mood::Mood;

pub use script::{Call, EventFault, Fault, Targets};

/// After this, a call that was scripted to hang ends as an engine's would.
pub const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// The same, for a call that only reads.
pub const READ_DEADLINE: Duration = Duration::from_secs(10);
/// The same, for [`Runner::ping`].
pub const PING_DEADLINE: Duration = Duration::from_secs(1);

/// A runner in memory.
#[derive(Clone)]
pub struct Scripted {
    shared: Arc<Shared>,
}

struct Shared {
    targets: Box<dyn Targets>,
    events: Events,
    holding: watch::Sender<bool>,
    mood: Mood,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    replicas: BTreeMap<ReplicaId, Replica>,
    calls: Vec<Call>,
    start_delay: Duration,
    delays: VecDeque<Duration>,
    faults: VecDeque<Fault>,
    event_faults: VecDeque<EventFault>,
    list_failures: usize,
    images: BTreeMap<String, std::result::Result<Prepared, (Kind, String)>>,
    exec: VecDeque<Executed>,
    reached: Reached,
    resolver: Option<IpAddr>,
    inventory: Option<Inventory>,
    /// Cores that each replica uses.
    cores: f64,
}

struct Replica {
    spec: StartSpec,
    observed: Observed,
    logs: Vec<LogLine>,
    printed: broadcast::Sender<LogLine>,
}

impl Scripted {
    /// A runner whose replicas are reached where `targets` says.
    #[must_use]
    pub fn new(targets: impl Targets) -> Self {
        let events = Events::default();
        let (holding, _) = watch::channel(false);
        let (mood, state) = (Mood::new(), Mutex::default());
        Self { shared: Arc::new(Shared { targets: Box::new(targets), events, holding, mood, state }) }
    }

    /// How long each start takes from now on.
    pub fn start_delay(&self, delay: Duration) {
        self.shared.state.lock().start_delay = delay;
    }

    /// How long the next starts take, in order; later ones take [`Self::start_delay`].
    pub fn next_delays(&self, delays: impl IntoIterator<Item = Duration>) {
        self.shared.state.lock().delays.extend(delays);
    }

    /// What becomes of the next starts, in order.
    pub fn next_starts(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.state.lock().faults.extend(faults);
    }

    /// The next `n` starts fail.
    pub fn fail_starts(&self, n: usize, kind: Kind, words: &str) {
        self.next_starts(std::iter::repeat_n(Fault::Fail(kind, words.into()), n));
    }

    /// What becomes of the next events, in order.
    pub fn next_events(&self, faults: impl IntoIterator<Item = EventFault>) {
        self.shared.state.lock().event_faults.extend(faults);
    }

    /// The next `n` lists fail with `Kind::Silent`.
    pub fn fail_lists(&self, n: usize) {
        self.shared.state.lock().list_failures = n;
    }

    /// What `prepare` says of an image; others are prepared with a made-up digest.
    pub fn image(&self, image: &str, prepared: std::result::Result<Prepared, (Kind, String)>) {
        self.shared.state.lock().images.insert(image.into(), prepared);
    }

    /// Downloads wait while this is on.
    pub fn hold_downloads(&self, on: bool) {
        self.shared.holding.send_replace(on);
    }

    /// What the next commands in a replica end with; later ones end with 0.
    pub fn next_exec(&self, ends: impl IntoIterator<Item = Executed>) {
        self.shared.state.lock().exec.extend(ends);
    }

    /// How many cores each replica uses, and has used since it was made.
    pub fn uses(&self, cores: f64) {
        self.shared.state.lock().cores = cores;
    }

    /// While this is on, every call fails at once with `Kind::Silent`, and nothing is told. Replicas go on.
    pub fn down(&self, on: bool) {
        let changed = self.shared.mood.down(on);
        self.shared.back(changed);
    }

    /// While this is on, every call waits, until its deadline or until this is off again, when it goes on. Nothing is
    /// told. Replicas go on.
    pub fn hang(&self, on: bool) {
        let changed = self.shared.mood.hang(on);
        self.shared.back(changed);
    }

    /// How replicas are said to be reached from now on; [`Reached::Address`] before that.
    pub fn reached_by(&self, reached: Reached) {
        self.shared.state.lock().reached = reached;
    }

    /// What the host is said to offer from now on.
    pub fn offers(&self, inventory: Inventory) {
        self.shared.state.lock().inventory = Some(inventory);
    }

    /// What [`Runner::resolve_at`] was last told.
    #[must_use]
    pub fn resolver(&self) -> Option<IpAddr> {
        self.shared.state.lock().resolver
    }

    /// Ends a replica's process.
    pub fn exit(&self, id: &ReplicaId, exit: Exit) {
        self.shared.exit(id, exit);
    }

    /// Removes a replica behind the gateway's back.
    pub fn lose(&self, id: &ReplicaId) {
        self.shared.remove(id);
    }

    /// Tells an event that nothing caused.
    pub fn tell(&self, event: Event) {
        self.shared.tell(event);
    }

    /// A replica prints a line.
    pub fn print(&self, id: &ReplicaId, text: &str) {
        if let Some(replica) = self.shared.state.lock().replicas.get_mut(id) {
            let at = format!("1970-01-01T00:00:00.{:09}Z", replica.logs.len());
            let line = LogLine { at, stderr: false, text: text.into() };
            replica.logs.push(line.clone());
            let _ = replica.printed.send(line);
        }
    }

    /// Every call so far, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.state.lock().calls.clone()
    }

    /// How often `start` was called.
    #[must_use]
    pub fn starts(&self) -> usize {
        self.calls().iter().filter(|call| matches!(call, Call::Start(_))).count()
    }

    /// What each replica that exists was started with.
    #[must_use]
    pub fn specs(&self) -> Vec<StartSpec> {
        self.shared.state.lock().replicas.values().map(|r| r.spec.clone()).collect()
    }

    fn note(&self, call: Call) {
        self.shared.state.lock().calls.push(call);
    }
}

impl Shared {
    /// An engine that is heard of again may have been missed.
    fn back(&self, changed: bool) {
        if changed && !self.mood.is_silent() {
            self.events.tell(Event::Resync);
        }
    }

    fn tell(&self, event: Event) {
        if self.mood.is_silent() {
            return;
        }
        let times = match self.state.lock().event_faults.pop_front() {
            Some(EventFault::Drop) => 0,
            Some(EventFault::Duplicate) => 2,
            None => 1,
        };
        for _ in 0..times {
            self.events.tell(event.clone());
        }
    }

    fn exit(&self, id: &ReplicaId, exit: Exit) {
        let ended = self.state.lock().replicas.get_mut(id).is_some_and(|replica| {
            let alive = !matches!(replica.observed.state, ObservedState::Exited(_));
            if alive {
                replica.observed.state = ObservedState::Exited(exit.clone());
                replica.observed.address = None;
            }
            alive
        });
        if ended {
            self.targets.close(id);
            self.tell(Event::Exited { id: id.clone(), exit });
        }
    }

    fn remove(&self, id: &ReplicaId) {
        if let Some(replica) = self.state.lock().replicas.remove(id) {
            drop(replica);
        } else {
            return;
        }
        self.targets.close(id);
        self.tell(Event::Gone(id.clone()));
    }

    /// Puts a replica into `Running`, and tells so.
    fn run(&self, spec: &StartSpec) {
        let address = self.targets.open(spec);
        let running = {
            let mut state = self.state.lock();
            let Some(replica) = state.replicas.get_mut(&spec.id) else { return };
            replica.observed.state = ObservedState::Running;
            replica.observed.address = Some(address);
            replica.observed.clone()
        };
        self.tell(Event::Running(running));
    }

    fn freeze(&self, id: &ReplicaId) -> Result<()> {
        let mut state = self.state.lock();
        let observed = &mut state.replicas.get_mut(id).ok_or_else(|| gone(id))?.observed;
        match observed.state {
            ObservedState::Running | ObservedState::Frozen => observed.state = ObservedState::Frozen,
            ObservedState::Created | ObservedState::Exited(_) => {
                return Err(Error::new(Kind::Retryable, format!("freeze {id}: it does not run")));
            }
        }
        Ok(())
    }

    fn thaw(&self, id: &ReplicaId) -> Result<()> {
        let mut state = self.state.lock();
        let observed = &mut state.replicas.get_mut(id).ok_or_else(|| gone(id))?.observed;
        if observed.state == ObservedState::Frozen {
            observed.state = ObservedState::Running;
        }
        Ok(())
    }
}

fn gone(id: &ReplicaId) -> Error {
    Error::new(Kind::Gone, format!("there is no replica {id}"))
}

#[async_trait::async_trait]
impl Runner for Scripted {
    async fn prepare(&self, image: &str, _pull: Pull, progress: Progress) -> Result<Prepared> {
        self.note(Call::Prepare(image.into()));
        self.shared.mood.pass(CALL_DEADLINE).await?;
        progress(PullProgress { done: Bytes(0), total: Bytes(1) });
        let mut holding = self.shared.holding.subscribe();
        // The sender lives as long as `self`.
        let _ = holding.wait_for(|holding| !holding).await;
        progress(PullProgress { done: Bytes(1), total: Bytes(1) });
        let known = self.shared.state.lock().images.get(image).cloned();
        let made_up =
            || Prepared { digest: Digest(format!("sha256:{image}")), exposed: Vec::new(), healthcheck: None };
        match known {
            Some(Err((kind, words))) => Err(Error::new(kind, words)),
            Some(Ok(prepared)) => Ok(prepared),
            None => Ok(made_up()),
        }
    }

    async fn start(&self, spec: &StartSpec) -> Result<()> {
        self.note(Call::Start(spec.id.clone()));
        self.shared.mood.pass(CALL_DEADLINE).await?;
        let (fault, delay) = {
            let mut state = self.shared.state.lock();
            if state.replicas.contains_key(&spec.id) {
                return Ok(());
            }
            (state.faults.pop_front(), state.delays.pop_front().unwrap_or(state.start_delay))
        };
        let ends = match fault {
            Some(Fault::Fail(kind, words)) => return Err(Error::new(kind, words)),
            Some(Fault::Hang) => {
                let _ = timeout(CALL_DEADLINE, pending::<()>()).await;
                return Err(Error::new(Kind::Silent, "the engine did not answer in time"));
            }
            Some(fault @ (Fault::Exit(_) | Fault::NoPlace(_))) => Some(fault),
            None => None,
        };
        let observed = Observed {
            id: spec.id.clone(),
            revision: spec.revision.clone(),
            digest: spec.digest.clone(),
            state: ObservedState::Created,
            address: None,
            created: SystemTime::now(),
            healthcheck: None,
        };
        let (printed, _) = broadcast::channel(64);
        let replica = Replica { spec: spec.clone(), observed, logs: Vec::new(), printed };
        self.shared.state.lock().replicas.insert(spec.id.clone(), replica);
        if !delay.is_zero() {
            sleep(delay).await;
        }
        match ends {
            Some(Fault::Exit(exit)) => self.shared.exit(&spec.id, exit),
            Some(Fault::NoPlace(why)) => self.shared.tell(Event::NoPlace { id: spec.id.clone(), why }),
            Some(Fault::Fail(..) | Fault::Hang) | None => self.shared.run(spec),
        }
        Ok(())
    }

    async fn freeze(&self, id: &ReplicaId) -> Result<()> {
        self.note(Call::Freeze(id.clone()));
        self.shared.mood.pass(CALL_DEADLINE).await?;
        self.shared.freeze(id)
    }

    async fn thaw(&self, id: &ReplicaId) -> Result<()> {
        self.note(Call::Thaw(id.clone()));
        self.shared.mood.pass(CALL_DEADLINE).await?;
        self.shared.thaw(id)
    }

    async fn stop(&self, id: &ReplicaId, grace: Duration, keep: bool) -> Result<()> {
        self.note(Call::Stop(id.clone(), keep));
        self.shared.mood.pass(grace + CALL_DEADLINE).await?;
        self.shared.exit(id, Exit { code: 143, out_of_memory: false, disrupted: false, message: None });
        if !keep {
            self.shared.remove(id);
        }
        Ok(())
    }

    async fn restart(&self, id: &ReplicaId) -> Result<()> {
        self.note(Call::Restart(id.clone()));
        self.shared.mood.pass(CALL_DEADLINE).await?;
        let spec = self.shared.state.lock().replicas.get(id).map(|r| r.spec.clone());
        self.shared.run(&spec.ok_or_else(|| gone(id))?);
        Ok(())
    }

    async fn remove(&self, id: &ReplicaId) -> Result<()> {
        self.note(Call::Remove(id.clone()));
        self.shared.mood.pass(CALL_DEADLINE).await?;
        self.shared.remove(id);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Observed>> {
        self.note(Call::List);
        self.shared.mood.pass(READ_DEADLINE).await?;
        let mut state = self.shared.state.lock();
        if state.list_failures > 0 {
            state.list_failures -= 1;
            return Err(Error::new(Kind::Silent, "the engine did not answer"));
        }
        Ok(state.replicas.values().map(|r| r.observed.clone()).collect())
    }

    fn events(&self) -> BoxStream<'static, Event> {
        self.shared.events.listen()
    }

    async fn logs(&self, id: &ReplicaId, options: LogOptions) -> Result<BoxStream<'static, Result<LogLine>>> {
        self.shared.mood.pass(READ_DEADLINE).await?;
        let state = self.shared.state.lock();
        let replica = state.replicas.get(id).ok_or_else(|| gone(id))?;
        let skip = options.tail.map_or(0, |n| replica.logs.len().saturating_sub(n));
        let past = stream::iter(replica.logs[skip..].to_vec()).map(Ok);
        if !options.follow {
            return Ok(past.boxed());
        }
        let next = BroadcastStream::new(replica.printed.subscribe());
        Ok(past.chain(next.filter_map(|line| std::future::ready(line.ok().map(Ok)))).boxed())
    }

    async fn exec(&self, id: &ReplicaId, command: &[String], timeout: Duration) -> Result<Executed> {
        self.note(Call::Exec(id.clone(), command.to_vec()));
        self.shared.mood.pass(timeout).await?;
        let mut state = self.shared.state.lock();
        state.replicas.get(id).ok_or_else(|| gone(id))?;
        Ok(state.exec.pop_front().unwrap_or(Executed { code: 0, output: String::new() }))
    }

    async fn stats(&self, id: &ReplicaId) -> Result<Stats> {
        self.shared.mood.pass(READ_DEADLINE).await?;
        let state = self.shared.state.lock();
        let replica = state.replicas.get(id).ok_or_else(|| gone(id))?;
        let age = SystemTime::now().duration_since(replica.observed.created).unwrap_or_default();
        let cpu = Cpu::Time(Duration::from_millis(1) + age.mul_f64(state.cores));
        Ok(Stats { cpu, memory: Bytes::mib(1) })
    }

    async fn ping(&self) -> Result<()> {
        self.shared.mood.pass(PING_DEADLINE).await
    }

    fn resolve_at(&self, resolver: Option<IpAddr>) {
        self.shared.state.lock().resolver = resolver;
    }

    fn reach(&self) -> Reached {
        self.shared.state.lock().reached
    }

    async fn inventory(&self) -> Result<Inventory> {
        self.shared.mood.pass(READ_DEADLINE).await?;
        if let Some(told) = self.shared.state.lock().inventory.clone() {
            return Ok(told);
        }
        let engine = "scripted".into();
        Ok(Inventory { engine, cpu: 4.0, memory: Bytes(16 << 30), labels: BTreeMap::new(), bridge: None })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { freeze: true, keep_stopped: true, exec: true, logs: true, stats: true, places: false }
    }
}
