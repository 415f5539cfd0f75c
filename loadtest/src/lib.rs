//! Load over HTTP that shows how a server bears it: requests go out when the plan says, whether or not earlier ones were
//! answered, and each response time counts from the instant planned for it, so that a stall is felt by every request that
//! it delayed.
//!
//! [`plan`] says when, [`aim`] what, [`target`] where to, [`send`] does it over [`wire`] and its like, [`record`] counts,
//! [`overlay`] keeps what was seen of the server's side, [`pace`] tells whether the generator itself was fast enough, [`report`] and [`threshold`] say what came of it.
//! A black box: nothing of Tidegate's is used.

pub mod aim;
pub mod baseline;
pub mod compare;
pub mod knee;
pub mod overlay;
pub mod pace;
pub mod plan;
pub mod record;
pub mod report;
pub mod scenario;
mod send;
pub mod target;
pub mod template;
pub mod threshold;
mod wire;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use http::uri::Authority;
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

pub use aim::{Aim, Kind};
pub use record::Errors;
pub use report::Report;
pub use send::{Dial, Io, Reuse, Snapshot, Stream, Tls, Unreachable};
pub use threshold::{Outcome, Threshold};

use crate::{
    aim::Prepared,
    plan::{Plan, language::Closed},
    send::{Network, Pacer, Pool, Run, Sending, Tally},
    target::{Location, Target},
};

/// Snapshots that may wait for whoever watches; one that finds no room is left out.
const SNAPSHOTS: usize = 16;

/// What to send and where. How fast is the [`Plan`]'s business.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is sent, by weight.
    pub aims: Vec<Aim>,
    /// Requests at once, and so connections to a place at most (HTTP/2: streams); as few as needed are opened.
    pub connections: usize,
    /// From the moment a request has a connection (or starts to open one) to the end of its answer.
    pub timeout: Duration,
    /// HTTP/2 over so many connections, over TLS or with prior knowledge; `None`: HTTP/1.1.
    pub h2: Option<usize>,
    /// How long connections of HTTP/1.1 are used.
    pub reuse: Reuse,
    /// What is asked of servers over TLS.
    pub tls: Tls,
    /// Makes what is random about requests repeatable: targets, places to fill in, thinking.
    pub seed: u64,
    /// The processor that sends.
    pub cpu: Option<usize>,
    /// Rung to end the plan early: nothing more is sent, what is under way ends within its timeout.
    pub stop: Arc<Notify>,
    /// Rung to end the run at once; there is a report all the same.
    pub abort: Arc<Notify>,
}

impl Options {
    /// One target, 64 connections, a timeout of 30 s.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self::of(Aim::new(url))
    }

    /// The same for what is more than a URL.
    #[must_use]
    pub fn of(aim: Aim) -> Self {
        Self {
            aims: vec![aim],
            connections: 64,
            timeout: Duration::from_secs(30),
            h2: None,
            reuse: Reuse::Keep,
            tls: Tls::default(),
            seed: 0,
            cpu: None,
            stop: Arc::default(),
            abort: Arc::default(),
        }
    }
}

/// When requests go out.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// When the plan says.
    Open(Plan),
    /// When the one before was answered: hides what waits in front of the server.
    Closed(Closed),
}

impl From<Plan> for Pattern {
    fn from(plan: Plan) -> Self {
        Self::Open(plan)
    }
}

impl Pattern {
    /// The length of the run.
    #[must_use]
    pub fn duration(&self) -> Duration {
        match self {
            Self::Open(plan) => plan.duration(),
            Self::Closed(closed) => closed.length,
        }
    }

    fn run(&self, options: &Options, start: Instant) -> Run {
        let weights = options.aims.iter().map(|aim| aim.weight).collect();
        match self {
            Self::Open(plan) => Run::open(plan, options.connections, weights, options.seed, start),
            Self::Closed(closed) => Run::closed(*closed, weights, options.seed, start),
        }
    }

    fn workers(&self, options: &Options) -> usize {
        match self {
            Self::Open(_) => options.connections,
            Self::Closed(closed) => usize::try_from(closed.users).unwrap_or(usize::MAX),
        }
    }
}

/// A processor that nothing can be sent from.
#[derive(Debug, thiserror::Error)]
#[error("cpu: {0}")]
pub struct NoProcessor(std::io::Error);

/// Opens a connection to each target once: who does not listen, or whose certificate is not believed, is known before
/// anything is sent.
pub async fn reach(options: &Options) -> anyhow::Result<()> {
    send::on_a_thread(options.cpu, || async { Ok(()) }).await.map_err(NoProcessor)?;
    let Sending { aims, dial, timeout, pool, .. } = prepare(options, Arc::new(network(options)?)).await?;
    for aim in aims {
        let h2 = pool.is_some() && matches!(aim.kind, Kind::Http | Kind::Grpc);
        send::reach(&*dial, &aim.target, h2, timeout).await?;
    }
    Ok(())
}

/// Sends a pattern over the network, from a thread of its own. `progress` is called about four times a second and once at
/// the end.
pub async fn run(
    options: Options,
    pattern: impl Into<Pattern>,
    mut progress: impl FnMut(Snapshot) + Send,
) -> anyhow::Result<Report> {
    let pattern = pattern.into();
    let network = network(&options)?;
    let sending = prepare(&options, Arc::new(network)).await?;
    let (show, mut shown) = mpsc::channel(SNAPSHOTS);
    let (sent, cpu) = ((options.clone(), pattern.clone()), options.cpu);
    let mut sending = std::pin::pin!(send::on_a_thread(cpu, move || async move {
        let (options, pattern) = sent;
        drive(sending, &options, &pattern, Pacer::kernel()?, |snapshot| {
            // Who watches too slowly sees fewer.
            let _ = show.try_send(snapshot);
        })
        .await
    }));
    let mut last = None;
    let tally = loop {
        tokio::select! {
            biased;
            Some(snapshot) = shown.recv() => {
                last = Some(snapshot);
                progress(snapshot);
            }
            result = &mut sending => break result.context("cannot send")?,
        }
    };
    let (tally, finish) = tally;
    // The last one may have found no room.
    if last.is_none_or(|last| !last.finished) {
        progress(finish);
    }
    Ok(Report::new(&options, &pattern, tally))
}

/// The same over connections that `dial` brings, in the runtime that calls; if its time is virtual, so is that of the run.
pub async fn run_over(
    dial: Arc<dyn Dial>,
    options: Options,
    pattern: impl Into<Pattern>,
    progress: impl FnMut(Snapshot),
) -> anyhow::Result<Report> {
    let pattern = pattern.into();
    let sending = prepare(&options, dial).await?;
    let (tally, _) =
        drive(sending, &options, &pattern, Pacer::Virtual, progress).await.context("cannot send")?;
    Ok(Report::new(&options, &pattern, tally))
}

async fn drive(
    sending: Sending,
    options: &Options,
    pattern: &Pattern,
    pacer: Pacer,
    mut progress: impl FnMut(Snapshot),
) -> std::io::Result<(Tally, Snapshot)> {
    let start = Instant::now();
    let (run, workers, end) =
        (pattern.run(options, start), pattern.workers(options), start + pattern.duration());
    let mut last = None;
    let bells = [&options.stop, &options.abort].map(Arc::clone);
    let tally = send::drive(sending, run, workers, pacer, end, bells, |snapshot| {
        last = Some(snapshot);
        progress(snapshot);
    });
    let tally = Box::pin(tally).await?;
    Ok((tally, last.expect("there is one at the end")))
}

fn network(options: &Options) -> anyhow::Result<Network> {
    let secure =
        options.aims.iter().any(|aim| target::locate(&aim.url).is_ok_and(|location| location.secure));
    let tls = match secure {
        true => Some((options.tls.config(b"http/1.1")?, options.tls.config(b"h2")?)),
        false => None,
    };
    Ok(Network { tls })
}

async fn prepare(options: &Options, dial: Arc<dyn Dial>) -> anyhow::Result<Sending> {
    anyhow::ensure!(!options.aims.is_empty(), "nothing is to be sent");
    anyhow::ensure!(options.aims.iter().any(|aim| aim.weight > 0), "weight: 0 for every target");
    anyhow::ensure!(options.connections > 0, "connections: 0; at least one is needed");
    anyhow::ensure!(!options.timeout.is_zero(), "timeout: 0; a request needs some time");
    let mut random = StdRng::seed_from_u64(options.seed);
    let mut aims = Vec::with_capacity(options.aims.len());
    let mut links = Vec::new();
    for aim in &options.aims {
        let location = target::locate(&aim.url)?;
        let authority = target::authority(&location, aim.host.as_deref())?;
        let target = Target::resolve(&location).await?;
        let link = link(&mut links, aim.kind, &location);
        let mut prepared = Prepared::new(aim, target, authority, location.path, &mut random)?;
        prepared.link = link;
        aims.push(prepared);
    }
    let grpc = options.aims.iter().any(|aim| aim.kind == Kind::Grpc);
    let pool = options.h2.or(grpc.then_some(1)).map(|connections| Pool::new(links.len(), connections));
    let Options { timeout, reuse, seed, .. } = *options;
    Ok(Sending { aims, links: links.len(), dial, timeout, reuse, pool, seed })
}

/// Which connection an aim goes over: that of others at its place, but for WebSockets, which are nobody else's.
fn link(links: &mut Vec<Option<(bool, Authority)>>, kind: Kind, location: &Location) -> usize {
    let place = match kind {
        Kind::Http | Kind::Grpc => Some((location.secure, location.authority.clone())),
        Kind::WebSocketEcho | Kind::WebSocketHold(_) => None,
    };
    if let Some(known) = links.iter().position(|link| link.is_some() && *link == place) {
        return known;
    }
    links.push(place);
    links.len() - 1
}
