//! Sends one request at a time: waits for one, sends it over a connection that it keeps, tells what came of it, and takes
//! the next. `[IO]`
//! Absent: retries. One exception: what a stale connection gave back unseen goes out on a fresh one, if it may be sent twice.

use std::{future::poll_fn, sync::Arc, time::Duration};

use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};

use super::{
    deadline::Deadline,
    dial::{Dial, Io},
    h2::Pool,
    run::{Done, Job, Shared},
    websocket,
};
use crate::{
    aim::{Kind, Prepared},
    record::{Answer, Failure, Told},
    wire::{Broken, Http1, Received, Wanted},
};

/// How long connections are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reuse {
    /// As long as the server lets us.
    #[default]
    Keep,
    /// For so many requests.
    Times(u32),
}

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) aims: Vec<Prepared>,
    /// Connections that a worker may have.
    pub(crate) links: usize,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) timeout: Duration,
    pub(crate) reuse: Reuse,
    /// Connections of HTTP/2, if that is spoken.
    pub(crate) pool: Option<Pool>,
    pub(crate) seed: u64,
}

pub(crate) struct Worker {
    number: usize,
    sending: Arc<Sending>,
    run: Shared,
    /// Rung when the run may have ended.
    bell: Arc<Notify>,
    /// Whether somebody ended the plan.
    stopped: watch::Receiver<bool>,
    /// By [`Prepared::link`].
    links: Vec<Option<Link>>,
    deadline: Deadline,
    random: StdRng,
    /// For requests that are put together.
    room: Vec<u8>,
}

/// A connection that is kept.
#[derive(Debug)]
enum Link {
    /// And how often it was used.
    Http {
        http: Http1<Io>,
        uses: u32,
    },
    WebSocket(Box<websocket::Socket>),
}

/// How one request went.
#[derive(Debug, Clone)]
pub(super) struct Went {
    pub(super) answer: Answer,
    pub(super) told: Told,
    pub(super) opened: u32,
    pub(super) stale: u32,
    /// What was wrong, if something was.
    pub(super) words: Option<String>,
}

impl Worker {
    pub(crate) fn new(
        number: usize,
        sending: Arc<Sending>,
        run: Shared,
        bell: Arc<Notify>,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let links = (0..sending.links).map(|_| None).collect();
        let random = StdRng::seed_from_u64(sending.seed.wrapping_add(number as u64));
        let (deadline, room) = (Deadline::new(), Vec::new());
        Self { number, sending, run, bell, stopped, links, deadline, random, room }
    }

    /// Until the run is over.
    pub(crate) async fn work(mut self) {
        while let Some(first) = poll_fn(|cx| self.run.lock().poll_job(self.number, cx.waker())).await {
            // When a request ended is when the next one begins, if that waits already.
            let (mut next, mut now) = (Some(first), None);
            while let Some(job) = next.take() {
                let ended = self.serve(job, now).await;
                let (following, ring) = self.run.lock().next(self.number, ended);
                (next, now) = (following, Some(ended));
                if ring {
                    self.bell.notify_one();
                }
            }
        }
    }

    /// Sends a request, has it counted, and tells when the worker is free again.
    async fn serve(&mut self, job: Job, now: Option<Instant>) -> Instant {
        let begun = now.unwrap_or_else(Instant::now);
        self.deadline.set(begun + self.sending.timeout);
        let mut went = self.send(job, begun + self.sending.timeout).await;
        let mut ended = Instant::now();
        let mut free = ended;
        if let Kind::WebSocketHold(length) = self.sending.aims[job.aim].kind {
            let held = self.hold(self.sending.aims[job.aim].link, length).await;
            free = Instant::now();
            if !held {
                (went.answer, ended) = (Answer::Failed(Failure::Closed), free);
            }
        }
        let Went { answer, told, opened, stale, words } = went;
        self.run.lock().count(&Done {
            worker: self.number,
            job,
            begun,
            ended,
            answer,
            told,
            opened,
            stale,
            words,
        });
        free
    }

    async fn send(&mut self, job: Job, deadline: Instant) -> Went {
        let sending = Arc::clone(&self.sending);
        let aim = &sending.aims[job.aim];
        match (aim.kind, &sending.pool) {
            (Kind::Http | Kind::Grpc, Some(pool)) => {
                let exchange = pool.exchange(self.number, aim, job.number, &mut self.random, &*sending.dial);
                timeout_at(deadline, exchange).await.unwrap_or_else(|_| Went::failed(Failure::Timeout))
            }
            (Kind::Http | Kind::Grpc, None) => self.http1(job, aim, deadline).await,
            (Kind::WebSocketEcho | Kind::WebSocketHold(_), _) => {
                timeout_at(deadline, self.websocket(job, aim)).await.unwrap_or_else(|_| {
                    self.links[aim.link] = None;
                    Went::failed(Failure::Timeout)
                })
            }
        }
    }

    async fn http1(&mut self, job: Job, aim: &Prepared, deadline: Instant) -> Went {
        let mut went = Went::failed(Failure::Connect);
        let mut kept = match self.links[aim.link].take() {
            Some(Link::Http { mut http, uses }) => {
                if http.is_stale().await {
                    None
                } else {
                    Some((http, uses))
                }
            }
            Some(Link::WebSocket(_)) | None => None,
        };
        loop {
            let reused = kept.is_some();
            let (mut http, uses) = match kept.take() {
                Some(kept) => kept,
                None => match timeout_at(deadline, self.sending.dial.dial(&aim.target, false)).await {
                    Ok(Ok(stream)) => (Http1::new(stream), 0),
                    Ok(Err(error)) => return went.because(error),
                    Err(_) => return Went { answer: Answer::Failed(Failure::Timeout), ..went },
                },
            };
            went.opened += u32::from(!reused);
            let bytes = aim.bytes(job.number, &mut self.random, &mut self.room);
            match http.exchange(Wanted { bytes, to_head: aim.to_head }, &mut self.deadline).await {
                Ok(Received { answer, told, keeps }) => {
                    if keeps && self.sending.reuse.goes_on(uses + 1) {
                        self.links[aim.link] = Some(Link::Http { http, uses: uses + 1 });
                    }
                    return Went { answer, told, ..went };
                }
                Err(Broken { unseen: true, .. }) if reused && aim.repeatable => went.stale += 1,
                Err(Broken { failure, why, .. }) => {
                    return Went { answer: Answer::Failed(failure), ..went }.because(why);
                }
            }
        }
    }

    async fn websocket(&mut self, job: Job, aim: &Prepared) -> Went {
        let mut opened = 0;
        let mut socket = match self.links[aim.link].take() {
            Some(Link::WebSocket(socket)) => socket,
            Some(Link::Http { .. }) | None => {
                opened = 1;
                match websocket::open(aim, job.number, &mut self.random, &*self.sending.dial).await {
                    Ok(socket) => Box::new(socket),
                    Err((answer, words)) => {
                        return Went { answer, opened, ..Went::failed(Failure::Reset) }.because(words);
                    }
                }
            }
        };
        let answer = match aim.kind {
            Kind::WebSocketEcho => {
                websocket::echo(&mut socket, aim.content(job.number, &mut self.random)).await
            }
            Kind::WebSocketHold(_) | Kind::Http | Kind::Grpc => Ok(websocket::OPENED),
        };
        let went = Went { opened, ..Went::failed(Failure::Reset) };
        match answer {
            Ok(answer) => {
                self.links[aim.link] = Some(Link::WebSocket(socket));
                Went { answer, ..went }
            }
            Err(words) => went.because(words),
        }
    }

    /// Tells whether the server let it live so long; what was never opened is not held.
    async fn hold(&mut self, link: usize, length: Duration) -> bool {
        match self.links[link].take() {
            Some(Link::WebSocket(socket)) => {
                websocket::hold(*socket, length, self.stopped.wait_for(|stopped| *stopped)).await
            }
            Some(Link::Http { .. }) | None => true,
        }
    }
}

impl Reuse {
    /// Whether a connection that was used so many times is used again.
    fn goes_on(self, uses: u32) -> bool {
        match self {
            Self::Keep => true,
            Self::Times(times) => uses < times,
        }
    }
}

impl Went {
    /// Says what was wrong.
    pub(super) fn because(self, words: impl ToString) -> Self {
        Self { words: Some(words.to_string()), ..self }
    }

    pub(super) fn failed(failure: Failure) -> Self {
        let answer = Answer::Failed(failure);
        Self { answer, told: Told::default(), opened: 0, stale: 0, words: None }
    }
}
