//! HTTP/1.1 towards clients: one connection, in one task, from its first request to its end. A request's body is read by
//! whoever polls it, and the answer's body is polled and written here, so that nothing passes through a channel.
//!
//! Called by [`listener`](crate::listener). Holds: requests are answered one after another and in order; a client that goes
//! is noticed while it waits, and what was done for it is dropped; what cannot be read is answered, and ends the connection.
//! Absent: what a request is for.

mod body;
mod date;
mod early;
mod line;
mod shared;
mod switch;
mod taking;
mod writing;

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, Stream};
use http::{
    Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, TRAILER},
};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;
use tokio::{io::AsyncWrite, sync::oneshot};

pub(crate) use self::{
    body::Body,
    early::Early,
    line::{Line, tells_taken},
    switch::Switch,
};
use self::{
    shared::{Handle, Shared, State},
    taking::Taking,
    writing::Writing,
};
use super::{
    Bad, fields,
    framing::Framing,
    input::Input,
    output::Output,
    request::{self, Head, Limits, Search},
    response::{self, Connection, Form},
    rewound::Rewound,
};
use crate::{clock, request::body::Body as Answer, timer::Timer};

/// A client that still sends what nobody takes is listened to for so long, so that it gets to read its answer: what is
/// closed before that is reset.
const LINGER: Duration = Duration::from_secs(2);

/// How often it is looked whether a client that sends nothing more is there to be answered.
const LOOK: Duration = Duration::from_millis(100);

/// For so long one that sends nothing more while it is being answered may be there, although nothing proves it.
const DOUBT: Duration = Duration::from_secs(1);

/// What a connection may do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// From a head's first byte to its last; for the first one, from the connection's beginning.
    pub(crate) head: Duration,
    /// From an answer's end to the next head's first byte.
    pub(crate) idle: Duration,
    /// What a head may be.
    pub(crate) limits: Limits,
    /// Bytes of an answer that the client must take per second; 0: none.
    pub(crate) least: u64,
    /// How long it may be waited for before that counts.
    pub(crate) grace: Duration,
}

/// Whom requests go to.
pub(crate) trait Service {
    /// An answer on its way.
    type Answer: Future<Output = Response<Answer>> + Unpin;

    /// Answers a request.
    fn answer(&self, request: Request<Incoming>) -> Self::Answer;

    /// Answers what is no request.
    fn refuse(&self, why: Unheard) -> Response<Answer>;
}

/// What belongs to a request besides its head.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// The body, if one follows the head.
    pub(crate) body: Option<Body>,
    /// How the client is told something before its answer, if it knows of such things.
    pub(crate) early: Option<Early>,
}

/// Why there is no request although something came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unheard {
    /// It is none.
    Bad(Bad),
    /// It does not come to its end in time.
    Late,
}

/// Serves a connection until it ends. `input` is what was read of it already; `goodbye` comes when it is to end as soon as it
/// does nothing.
pub(crate) fn serve<S: Service>(
    line: Line,
    input: Input,
    service: &S,
    terms: Terms,
    goodbye: impl Stream<Item = ()> + Unpin,
    since: Instant,
) -> impl Future<Output = io::Result<()>> {
    let (shared, output, timer) = (Shared::new(line, input), Output::default(), Timer::default());
    let mut server = Server { shared, output, timer, service, terms, goodbye, since, is_first: true };
    // Lent, not given: a future keeps room for what it is given, and for wherever it moves that.
    async move { server.run().await }
}

struct Server<'s, S, G> {
    shared: Handle,
    output: Output,
    timer: Timer,
    service: &'s S,
    terms: Terms,
    goodbye: G,
    /// When the connection began, or the last answer.
    since: Instant,
    is_first: bool,
}

/// What follows on what was heard.
enum Due<A> {
    /// An answer is on its way.
    Answer { answer: A, asked: Asked, switch: Option<oneshot::Sender<Rewound<Line>>> },
    /// It is no request.
    Refuse(Begun),
    /// Nothing more comes.
    Close,
}

/// An answer whose head waits to be written.
struct Begun {
    /// The protocol changes behind it.
    switched: bool,
    /// The connection may go on behind it.
    kept: bool,
    writing: Writing,
    body: Answer,
}

/// What becomes of a connection behind an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Next,
    Close,
    Switch,
}

impl<S: Service, G: Stream<Item = ()> + Unpin> Server<'_, S, G> {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            let heard = self.head().await;
            match self.take_up(heard) {
                Due::Answer { answer, asked, switch } => match self.exchange(answer, asked, switch).await? {
                    Then::Next => {}
                    Then::Close => {
                        let sends = self.shared.lock().body() != State::Whole;
                        return self.close(sends).await;
                    }
                    Then::Switch => return Ok(()),
                },
                Due::Refuse(mut begun) => {
                    self.write(&mut begun).await?;
                    return self.close(true).await;
                }
                Due::Close => return self.close(false).await,
            }
        }
    }

    /// What follows on a head. No future: one that waits for an answer need not have room for a request.
    fn take_up(&mut self, heard: Result<Option<Head>, Unheard>) -> Due<S::Answer> {
        match heard {
            Ok(Some(head)) => {
                let asked = Asked::of(&head);
                let (request, switch) = self.request(head);
                Due::Answer { answer: self.service.answer(request), asked, switch }
            }
            Ok(None) => Due::Close,
            Err(why) => Due::Refuse(self.begin(self.service.refuse(why), false, Asked::NOTHING)),
        }
    }

    /// The next request's head; `None`: none will come.
    async fn head(&mut self) -> Result<Option<Head>, Unheard> {
        let Self { shared, timer, terms, goodbye, since, is_first, .. } = self;
        let mut search = Search::default();
        let mut begun = std::mem::take(is_first).then_some(*since);
        let section = poll_fn(|cx| {
            let mut shared = shared.lock();
            loop {
                if !shared.input.bytes.is_empty() {
                    match search.take(&mut shared.input.bytes, terms.limits) {
                        Ok(None) => {}
                        Ok(section) => return Poll::Ready(Ok(section)),
                        Err(bad) => return Poll::Ready(Err(Unheard::Bad(bad))),
                    }
                }
                // Empty lines before a head are none of it.
                if !shared.input.bytes.is_empty() {
                    begun.get_or_insert_with(clock::now);
                }
                shared.input.rest();
                match shared.poll_fill(cx) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Ok(None)),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => break,
                }
            }
            let deadline = begun.map_or(*since + terms.idle, |begun| begun + terms.head);
            let nothing = shared.input.bytes.is_empty();
            if nothing && Pin::new(&mut *goodbye).poll_next(cx).is_ready() {
                return Poll::Ready(Ok(None));
            }
            ready!(timer.poll_passed(cx, deadline));
            Poll::Ready(if nothing { Ok(None) } else { Err(Unheard::Late) })
        });
        let Some(section) = section.await? else { return Ok(None) };
        request::parse(&section, terms.limits).map(Some).map_err(Unheard::Bad)
    }

    /// Has one request answered.
    async fn exchange(
        &mut self,
        answer: S::Answer,
        asked: Asked,
        switch: Option<oneshot::Sender<Rewound<Line>>>,
    ) -> io::Result<Then> {
        let answered = self.answered(answer, asked.version).await;
        let Some(mut begun) = answered.map(|(response, goes_on)| self.begin(response, goes_on, asked)) else {
            return Ok(Then::Close);
        };
        self.write(&mut begun).await?;
        let Begun { switched, kept, .. } = begun;
        drop(begun.body);
        let body = self.body_ended().await;
        if switched {
            if let Some(switch) = switch.filter(|_| body == State::Whole) {
                let mut shared = self.shared.lock();
                let line = std::mem::replace(&mut shared.line, Line::Away);
                let ahead = std::mem::take(&mut shared.input.bytes).freeze();
                // Whoever wanted it may have gone.
                drop(switch.send(Rewound::new(ahead, line)));
            }
            return Ok(Then::Switch);
        }
        let whole = body == State::Whole || poll_fn(|cx| Poll::Ready(self.shared.lock().drain(cx))).await;
        Ok(if kept && whole { Then::Next } else { Then::Close })
    }

    /// How the request's body has ended. One of which nothing comes for as long as a connection may be idle, or that is still on
    /// its way when the server goes, has.
    async fn body_ended(&mut self) -> State {
        let body = self.shared.lock().body();
        if body != State::Read {
            return body;
        }
        let Self { shared, timer, terms, goodbye, since, .. } = self;
        let mut seen = None;
        let body = poll_fn(|cx| {
            let mut shared = shared.lock();
            if shared.body() != State::Read {
                return Poll::Ready(shared.body());
            }
            let mut over =
                shared.poll_gone(cx).is_ready() || Pin::new(&mut *goodbye).poll_next(cx).is_ready();
            while !over {
                if seen != Some(shared.parts()) {
                    seen = Some(shared.parts());
                    *since = clock::now();
                }
                ready!(timer.poll_passed(cx, *since + terms.idle));
                over = seen == Some(shared.parts());
            }
            shared.give_up();
            Poll::Ready(State::Left)
        })
        .await;
        self.since = clock::now();
        body
    }

    fn request(&self, head: Head) -> (Request<Incoming>, Option<oneshot::Sender<Rewound<Line>>>) {
        let mut body = None;
        if head.framing != Framing::None {
            self.shared.lock().begin(head.framing, head.expects);
            body = Some(Body::new(Arc::clone(&self.shared)));
        }
        let early = (head.version == Version::HTTP_11).then(|| Early::new(&self.shared));
        let mut request = Request::new(Incoming { body, early });
        *request.method_mut() = head.method;
        *request.uri_mut() = head.target;
        *request.version_mut() = head.version;
        *request.headers_mut() = head.headers;
        let switch = head.upgrades.then(|| {
            let (send, receive) = oneshot::channel();
            request.extensions_mut().insert(Switch::new(receive));
            send
        });
        (request, switch)
    }

    /// The answer, and whether another request may follow as far as this one's body goes; `None`: the client went before. One
    /// that only sends nothing more is answered: whether it is there is found out by an interim answer, which HTTP/1.0 does not know.
    async fn answered(
        &mut self,
        mut answer: S::Answer,
        version: Version,
    ) -> Option<(Response<Answer>, bool)> {
        let Self { shared, timer, .. } = self;
        let mut look = None;
        poll_fn(|cx| {
            if let Poll::Ready(response) = answer.poll_unpin(cx) {
                return Poll::Ready(Some((response, shared.lock().answers(cx))));
            }
            let mut shared = shared.lock();
            if look.is_none() {
                ready!(shared.poll_gone(cx));
                if !shared.has_finished() || version == Version::HTTP_10 {
                    return Poll::Ready(None);
                }
                shared.knock();
            }
            while !shared.is_away(cx) {
                ready!(timer.poll_passed(cx, *look.get_or_insert_with(|| clock::now() + LOOK)));
                look = Some(clock::now() + LOOK);
            }
            Poll::Ready(None)
        })
        .await
    }

    /// Puts an answer's head into the output. `goes_on`: another request may follow.
    fn begin(&mut self, response: Response<Answer>, goes_on: bool, asked: Asked) -> Begun {
        let (head, body) = response.into_parts();
        let form = Form::of(head.status, asked.to_head, asked.version, body.size_hint().exact());
        let kept = goes_on
            && asked.keep_alive
            && form.framing != Framing::UntilClose
            && !fields::says(&head.headers, CONNECTION, b"close");
        let switched = head.status == StatusCode::SWITCHING_PROTOCOLS;
        let connection = match kept {
            _ if switched => Connection::Usual,
            true if asked.version == Version::HTTP_10 => Connection::Kept,
            true => Connection::Usual,
            false => Connection::Closed,
        };
        self.since = clock::now();
        let status = (head.status, head.extensions.get::<ReasonPhrase>());
        let out = self.output.begin();
        date::with(self.since, |date| response::write(out, status, &head.headers, form, connection, date));
        let writing = Writing {
            framing: form.framing,
            // Only chunks can carry them.
            trailers: form.framing == Framing::Chunked
                && (asked.trailers || head.headers.contains_key(TRAILER)),
            ended: form.framing == Framing::None || body.is_end_stream(),
        };
        Begun { switched, kept, writing, body }
    }

    /// Writes an answer that has begun.
    async fn write(&mut self, begun: &mut Begun) -> io::Result<()> {
        let Begun { writing, body, .. } = begun;
        let (mut paused, mut doubt) = (false, None);
        let mut taking = Taking::new(self.terms.least, self.terms.grace);
        poll_fn(|cx| {
            loop {
                let more = writing.poll_feed(cx, Pin::new(&mut *body), &mut self.output);
                let mut shared = self.shared.lock();
                if !self.output.is_empty() {
                    // What is written finds out who has gone.
                    doubt = None;
                }
                if shared.poll_flush(cx, &mut self.output)?.is_ready() {
                    taking.keeps_up();
                    match more {
                        Poll::Ready(Ok(())) if writing.ended => return Poll::Ready(Ok(())),
                        Poll::Ready(Ok(())) => continue,
                        Poll::Ready(Err(broken)) => {
                            // Where the connection's end is the body's, it must not look like one.
                            if writing.framing == Framing::UntilClose {
                                shared.line.reset();
                            }
                            return Poll::Ready(Err(io::Error::other(broken)));
                        }
                        Poll::Pending => {}
                    }
                } else if taking.poll_slow(cx, &mut self.timer, || shared.line.taken()).is_ready() {
                    shared.line.abandon();
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, taking::TooSlow)));
                }
                paused = true;
                if !shared.has_finished() {
                    ready!(shared.poll_gone(cx));
                    doubt = Some(clock::now() + DOUBT);
                }
                if let (true, Some(until)) = (shared.has_finished(), doubt) {
                    ready!(self.timer.poll_passed(cx, until));
                } else if shared.has_finished() {
                    return Poll::Pending;
                }
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
        })
        .await?;
        if paused {
            self.since = clock::now();
        }
        Ok(())
    }

    /// Ends the connection in order. `lingers`: the client may still be sending.
    async fn close(&mut self, lingers: bool) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut self.shared.lock().line).poll_shutdown(cx)).await?;
        if lingers {
            let until = clock::now() + LINGER;
            poll_fn(|cx| {
                let mut shared = self.shared.lock();
                loop {
                    shared.input.bytes.clear();
                    match shared.poll_fill(cx) {
                        Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                        Poll::Ready(Ok(_)) => {}
                        Poll::Pending => return self.timer.poll_passed(cx, until),
                    }
                }
            })
            .await;
        }
        Ok(())
    }
}

/// What of a request matters for its answer.
#[derive(Debug, Clone, Copy)]
struct Asked {
    version: Version,
    to_head: bool,
    keep_alive: bool,
    /// Whether trailers are of use.
    trailers: bool,
}

impl Asked {
    /// Of what is no request.
    const NOTHING: Self =
        Self { version: Version::HTTP_11, to_head: false, keep_alive: false, trailers: false };

    fn of(head: &Head) -> Self {
        Self {
            version: head.version,
            to_head: head.method == Method::HEAD,
            keep_alive: head.keep_alive,
            trailers: head.trailers,
        }
    }
}
