//! A steady load over a few kept connections, each request noted with its time and outcome.
//! A request that meets a kept connection just as it is closed is sent once more over a new one, as every client does
//! (RFC 9112, 9.3.1), and counted in `reconnects`; a request that fails on a new connection is an error.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_util::sync::CancellationToken;

/// What is sent, where and how often.
#[derive(Debug, Clone)]
pub struct Aim {
    /// The gateway.
    pub address: SocketAddr,
    /// Hosts that are asked for, in turn.
    pub hosts: Vec<String>,
    /// The method.
    pub method: Method,
    /// The path.
    pub path: String,
    /// The body.
    pub body: Bytes,
    /// Requests per second, all workers together.
    pub rate: f64,
    /// Connections at most.
    pub workers: usize,
    /// For one request.
    pub timeout: Duration,
    /// What the answer's body must contain, if anything.
    pub expect: Option<String>,
    /// Bytes that the answer's body must have, if that is known.
    pub length: Option<usize>,
    /// A connection for every request.
    pub fresh: bool,
}

impl Aim {
    /// `GET /` for `SERVICE.localhost`, 100 times a second.
    #[must_use]
    pub fn at(address: SocketAddr, service: &str) -> Self {
        Self {
            address,
            hosts: vec![format!("{service}.localhost")],
            method: Method::GET,
            path: "/".into(),
            body: Bytes::new(),
            rate: 100.0,
            workers: 32,
            timeout: Duration::from_secs(65),
            expect: None,
            length: None,
            fresh: false,
        }
    }

    /// Another path.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Another rate.
    #[must_use]
    pub fn rate(mut self, rate: f64) -> Self {
        self.rate = rate;
        self
    }

    /// A POST with this body, which must come back.
    #[must_use]
    pub fn post(mut self, body: &str) -> Self {
        self.method = Method::POST;
        self.path = "/echo".into();
        self.expect = Some(body.to_owned());
        self.body = Bytes::copy_from_slice(body.as_bytes());
        self
    }

    /// More or fewer connections.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }
}

/// One request.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When it was sent.
    pub begun: Instant,
    /// How long it took.
    pub took: Duration,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// All requests of a load.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// In the order in which they ended.
    pub samples: Vec<Sample>,
    /// Requests that were sent again over a new connection.
    pub reconnects: u64,
}

impl Tally {
    /// How many.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.samples.len()
    }

    /// How many failed.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.samples.iter().filter(|sample| sample.error.is_some()).count()
    }

    /// How many failed for each reason.
    #[must_use]
    pub fn reasons(&self) -> BTreeMap<String, usize> {
        let mut reasons = BTreeMap::new();
        for reason in self.samples.iter().filter_map(|sample| sample.error.clone()) {
            *reasons.entry(reason).or_default() += 1;
        }
        reasons
    }

    /// From a fault to the end of the last request that felt it: that failed, or took more than a second.
    #[must_use]
    pub fn recovered(&self, fault: Instant) -> Duration {
        self.recovered_before(fault, None)
    }

    /// The same of requests that were sent before another fault.
    #[must_use]
    pub fn recovered_before(&self, fault: Instant, next: Option<Instant>) -> Duration {
        let felt = self.samples.iter().filter(|sample| {
            next.is_none_or(|next| sample.begun < next)
                && sample.begun + sample.took > fault
                && (sample.error.is_some() || sample.took > Duration::from_secs(1))
        });
        felt.map(|sample| (sample.begun + sample.took) - fault).max().unwrap_or_default()
    }

    /// A quantile of the times of requests that were sent between two instants.
    #[must_use]
    pub fn quantile(&self, share: f64, from: Instant, to: Instant) -> Duration {
        let mut times: Vec<Duration> = self
            .samples
            .iter()
            .filter(|sample| sample.begun >= from && sample.begun < to)
            .map(|sample| sample.took)
            .collect();
        times.sort();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a short list"
        )]
        #[expect(clippy::cast_precision_loss, reason = "a share of a short list")]
        let at = (share * times.len() as f64) as usize;
        times.get(at.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    /// Both loads as one.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.samples.extend(other.samples);
        self.reconnects += other.reconnects;
        self
    }
}

/// A load that runs. Dropping it ends it at once.
pub struct Load {
    tasks: JoinSet<()>,
    stop: CancellationToken,
    tally: Arc<Mutex<Tally>>,
}

impl Load {
    /// Starts sending.
    #[must_use]
    pub fn start(aim: Aim) -> Self {
        let (mut tasks, stop, tally) = (JoinSet::new(), CancellationToken::new(), Arc::default());
        let aim = Arc::new(aim);
        for number in 0..aim.workers {
            tasks.spawn(work(Arc::clone(&aim), number, stop.clone(), Arc::clone(&tally)));
        }
        Self { tasks, stop, tally }
    }

    /// What there is so far.
    #[must_use]
    pub fn so_far(&self) -> Tally {
        self.tally.lock().clone()
    }

    /// Sends nothing more, waits for what is under way.
    pub async fn stop(mut self) -> Tally {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        std::mem::take(&mut *self.tally.lock())
    }

    /// Runs for this long, then [stops](Load::stop).
    pub async fn run(self, time: Duration) -> Tally {
        tokio::time::sleep(time).await;
        self.stop().await
    }
}

async fn work(aim: Arc<Aim>, number: usize, stop: CancellationToken, tally: Arc<Mutex<Tally>>) {
    #[expect(clippy::cast_precision_loss, reason = "a few dozen workers")]
    let (workers, nth) = (aim.workers as f64, number as f64);
    let every = Duration::from_secs_f64(workers / aim.rate);
    let mut ticks = interval_at(Instant::now() + every.mul_f64(nth / workers), every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut client, mut turn) = (Client::default(), number);
    loop {
        // Cancel-safe: a tick that is due stays due.
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let host = &aim.hosts[turn % aim.hosts.len()];
        turn += aim.workers;
        let begun = Instant::now();
        let asked = timeout(aim.timeout, client.ask(&aim, host, &tally)).await;
        let error = asked.unwrap_or_else(|_| {
            client.connection = None;
            Err("timeout".into())
        });
        let sample = Sample { begun, took: begun.elapsed(), error: error.err() };
        tally.lock().samples.push(sample);
    }
}

/// A connection that is kept, with the task that drives it.
#[derive(Default)]
struct Client {
    connection: Option<(SendRequest<Full<Bytes>>, JoinSet<()>)>,
}

/// Why an exchange failed.
enum Broken {
    /// Before a byte of the answer came.
    Unanswered(String),
    /// After that, or by what it says.
    Answered(String),
}

impl Client {
    async fn ask(&mut self, aim: &Aim, host: &str, tally: &Mutex<Tally>) -> Result<(), String> {
        if aim.fresh {
            self.connection = None;
        }
        let kept = match &mut self.connection {
            Some((sender, _)) => sender.ready().await.is_ok(),
            None => false,
        };
        if kept {
            match self.exchange(aim, host).await {
                // The server may close a connection that it kept at any time.
                Err(Broken::Unanswered(_)) if aim.method == Method::GET => tally.lock().reconnects += 1,
                Err(Broken::Unanswered(why) | Broken::Answered(why)) => return Err(why),
                Ok(()) => return Ok(()),
            }
        }
        self.connect(aim.address).await?;
        self.exchange(aim, host).await.map_err(|(Broken::Unanswered(why) | Broken::Answered(why))| why)
    }

    async fn connect(&mut self, address: SocketAddr) -> Result<(), String> {
        self.connection = None;
        let stream =
            TcpStream::connect(address).await.map_err(|error| format!("connect: {}", error.kind()))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        self.connection = Some((sender, tasks));
        Ok(())
    }

    async fn exchange(&mut self, aim: &Aim, host: &str) -> Result<(), Broken> {
        let Some((sender, _)) = &mut self.connection else {
            return Err(Broken::Answered("no connection".into()));
        };
        let request =
            Request::builder().method(aim.method.clone()).uri(aim.path.as_str()).header("host", host);
        let request =
            request.body(Full::new(aim.body.clone())).map_err(|error| Broken::Answered(error.to_string()))?;
        let sent = sender.send_request(request).await;
        let response = sent.map_err(|error| Broken::Unanswered(format!("no answer: {error}")))?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| {
            self.connection = None;
            Broken::Answered(format!("{status} broke off: {error}"))
        })?;
        judge(aim, status, &body.to_bytes()).map_err(Broken::Answered)
    }
}

fn judge(aim: &Aim, status: u16, body: &Bytes) -> Result<(), String> {
    if status != 200 {
        return Err(format!("{status} {}", reason(body)));
    }
    if aim.length.is_some_and(|length| body.len() != length) {
        return Err(format!("200 with {} bytes", body.len()));
    }
    match &aim.expect {
        Some(text) if !String::from_utf8_lossy(body).contains(text.as_str()) => {
            Err("200 with a wrong body".into())
        }
        _ => Ok(()),
    }
}

/// The `reason` of a problem document.
fn reason(body: &Bytes) -> String {
    let document: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let reason =
        document.as_ref().and_then(|document| document.get("reason")).and_then(|reason| reason.as_str());
    reason.unwrap_or("without a reason").to_owned()
}
