//! Sends a plan: one thread with a runtime of its own, a loop that hands each request to a free worker at its instant, and
//! the workers. `[IO]`
//! Holds: no request is dropped silently. When every worker is busy a request waits and its wait is part of its response
//! time; what still waits one timeout after the end of the plan is given up and counted as `unsent`.

pub(crate) mod deadline;
pub(crate) mod dial;
mod h2;
mod pacer;
mod recent;
mod run;
mod thread;
mod tls;
mod websocket;
mod worker;

use std::{io, sync::Arc, task::Waker, time::Duration};

use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

pub use dial::{Dial, Io, Stream, Unreachable};
pub(crate) use dial::{Network, reach};
pub(crate) use h2::Pool;
pub(crate) use pacer::Pacer;
pub(crate) use run::{Run, Shared};
pub(crate) use thread::on_a_thread;
pub use tls::Tls;
pub use worker::Reuse;
pub(crate) use worker::{Sending, Worker};

use crate::{pace::Pace, record::Counts};

/// The state of a run, for those who watch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Snapshot {
    /// Since the start.
    pub elapsed: Duration,
    /// Requests that the whole plan expects; 0 for a closed loop.
    pub expected: u64,
    /// Requests sent.
    pub sent: u64,
    /// Requests with an outcome.
    pub done: u64,
    /// Of these, failed.
    pub errors: u64,
    /// Requests sent and without an outcome.
    pub in_flight: u64,
    /// How long the oldest unsent request is overdue: grows when all connections are busy.
    pub behind: Duration,
    /// Outcomes per second, over the last second.
    pub rate: f64,
    /// Median latency of the last second.
    pub p50: Option<Duration>,
    /// 90th percentile of the last second's latencies.
    pub p90: Option<Duration>,
    /// 99th percentile of the last second's latencies.
    pub p99: Option<Duration>,
    /// Whether this is the last one.
    pub finished: bool,
}

/// What a run counted.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) counts: Counts,
    pub(crate) pace: Pace,
    pub(crate) opened: u64,
    pub(crate) stale: u64,
    /// Whether somebody ended the plan.
    pub(crate) stopped: bool,
}

/// Sends everything and waits for every outcome. `stop` ends the plan early: what is under way ends within its timeout.
/// `abort` ends that, too.
pub(crate) async fn drive(
    sending: Sending,
    run: Run,
    workers: usize,
    pacer: Pacer,
    end: Instant,
    [stop, abort]: [Arc<Notify>; 2],
    mut progress: impl FnMut(Snapshot),
) -> io::Result<Tally> {
    let give_up = end + sending.timeout;
    let (run, bell, sending): (Shared, _, _) =
        (Arc::new(parking_lot::Mutex::new(run)), Arc::new(Notify::new()), Arc::new(sending));
    let (tell, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for number in 0..workers {
        let (sending, run, bell) = (Arc::clone(&sending), Arc::clone(&run), Arc::clone(&bell));
        tasks.spawn(Worker::new(number, sending, run, bell, stopped.clone()).work());
    }
    let mut load = Load::new();
    let mut wake: Vec<Waker> = Vec::new();
    loop {
        let now = Instant::now();
        let (due, beat, shown) = turn(&mut run.lock(), now, give_up, &mut load, &mut wake);
        wake.drain(..).for_each(Waker::wake);
        shown.into_iter().for_each(&mut progress);
        if run.lock().is_over() {
            break;
        }
        tokio::select! {
            biased;
            () = bell.notified() => {}
            result = pacer.wait(due) => result?,
            () = sleep_until(beat) => {}
            () = stop.notified() => {
                run.lock().stop(Instant::now(), &mut wake);
                tell.send_replace(true);
            }
            () = abort.notified() => {
                run.lock().abort(Instant::now());
                break tasks.abort_all();
            }
        }
    }
    while tasks.join_next().await.is_some() {}
    progress(run.lock().snapshot(Instant::now(), true));
    let run = Arc::into_inner(run).expect("the workers have ended").into_inner();
    Ok(run.into_tally())
}

/// One turn of the loop; tells when it has to look again.
fn turn(
    run: &mut Run,
    now: Instant,
    give_up: Instant,
    load: &mut Load,
    wake: &mut Vec<Waker>,
) -> (Option<Instant>, Instant, Option<Snapshot>) {
    run.dispatch(now, wake);
    if now >= run.next_beat() {
        run.beat(now, load.since_last(now));
    }
    if now >= give_up {
        run.give_up(now);
    }
    run.settle(now, wake);
    (run.next_due(now), run.next_beat(), run.snapshot_if_due(now))
}

/// How much of the time the runtime's thread has worked.
struct Load {
    last: Option<(Instant, Duration)>,
}

impl Load {
    fn new() -> Self {
        Self { last: None }
    }

    /// The share since the last call; unknown at the first one.
    fn since_last(&mut self, now: Instant) -> Option<f64> {
        let busy = Handle::current().metrics().worker_total_busy_duration(0);
        let (then, before) = self.last.replace((now, busy))?;
        let passed = (now - then).as_secs_f64();
        (passed > 0.0).then(|| busy.saturating_sub(before).as_secs_f64() / passed)
    }
}
