//! What a connection's task shares with the body of the request that is on it, which another task may have: both read from
//! the connection, the connection's task alone writes. Locked for a read or a write at a time, and mostly by one task alone.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use parking_lot::Mutex;
use tokio::io::AsyncWrite as _;

use super::line::Line;
use crate::http1::{
    Bad,
    framing::{Decoder, Framing, Step},
    input::Input,
    output::Output,
    response,
};

/// Leave to send a body (RFC 9110, 10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// So much is read while nobody takes it.
const AHEAD: usize = 64 << 10;

/// So many parts of a body that nobody wants are taken at once.
const DRAINED: usize = 16;

/// A connection and how far its current request's body has come.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) line: Line,
    pub(super) input: Input,
    decoder: Decoder,
    body: State,
    leave: Leave,
    /// Interim answers that are still to be written.
    interim: Output,
    /// TLS may hold back what was written.
    held: bool,
    /// Nobody knows where the next request would begin.
    broken: bool,
    /// The client sends nothing more: it has gone, or waits for its answer all the same.
    finished: bool,
    /// Parts of the body that have come.
    parts: u64,
    /// The connection's task, while somebody has the body.
    waits: Option<Waker>,
    /// Who waits for the next part of the body.
    reads: Option<Waker>,
}

/// The request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Somebody has it.
    Read,
    /// It has come to its end.
    Whole,
    /// Nobody wants the rest of it.
    Left,
}

/// Leave to send the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// It has been given, or nobody waits for it.
    Given,
    /// The client waits for it.
    Wanted,
    /// The answer came first: the client may send the body, or not.
    Withheld,
}

pub(super) type Handle = Arc<Mutex<Shared>>;

impl Shared {
    pub(super) fn new(line: Line, input: Input) -> Handle {
        Arc::new(Mutex::new(Self {
            line,
            input,
            decoder: Decoder::Ended,
            body: State::Whole,
            leave: Leave::Given,
            interim: Output::default(),
            held: false,
            broken: false,
            finished: false,
            parts: 0,
            waits: None,
            reads: None,
        }))
    }

    /// A request begins whose body ends like this.
    pub(super) fn begin(&mut self, framing: Framing, expects: bool) {
        self.decoder = Decoder::new(framing);
        self.body = if self.decoder.is_ended() { State::Whole } else { State::Read };
        self.leave = if expects { Leave::Wanted } else { Leave::Given };
    }

    pub(super) fn body(&self) -> State {
        self.body
    }

    /// How much of the body is still to come, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        self.decoder.left()
    }

    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.poll_fill(cx, &mut self.line)
    }

    /// The next part of the body; asks the client for it, if it waits for that.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.leave == Leave::Wanted {
            self.leave = Leave::Given;
            self.interim.text().extend_from_slice(CONTINUE);
            wake(&mut self.waits);
        }
        loop {
            let frame = match self.decoder.next(&mut self.input.bytes) {
                Ok(Step::Data(data)) => Some(Ok(Frame::data(data))),
                Ok(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
                Ok(Step::End) => None,
                Ok(Step::More) => match self.poll_fill(cx) {
                    Poll::Ready(Ok(0)) => Some(Err(broken(Bad::Truncated))),
                    Poll::Ready(Ok(_)) => continue,
                    Poll::Ready(Err(error)) => Some(Err(error)),
                    Poll::Pending => {
                        self.reads = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                },
                Err(bad) => Some(Err(broken(bad))),
            };
            self.parts += 1;
            self.broken |= matches!(frame, Some(Err(_)));
            if self.decoder.is_ended() {
                self.ends(State::Whole);
            }
            return Poll::Ready(frame);
        }
    }

    /// The body is over.
    pub(super) fn ends(&mut self, how: State) {
        self.body = how;
        wake(&mut self.waits);
    }

    /// An interim answer, if there is room for it.
    pub(super) fn say(&mut self, status: StatusCode, headers: &HeaderMap) {
        if self.interim.has_room() {
            response::interim(self.interim.text(), status, headers);
        }
    }

    /// What the connection's task does while it waits: writes interim answers, and reads what comes and nobody takes, so that a
    /// client that goes is noticed behind what it has sent. Ready once it has gone, or [has finished](Self::has_finished).
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.body == State::Read {
            self.waits = Some(cx.waker().clone());
        }
        if let Poll::Ready(Err(_)) = self.poll_interim(cx) {
            return Poll::Ready(());
        }
        loop {
            if self.input.bytes.len() >= AHEAD && !self.forget() {
                return Poll::Pending;
            }
            let read = ready!(self.poll_fill(cx));
            wake(&mut self.reads);
            if let Ok(0) | Err(_) = read {
                self.finished = read.is_ok();
                return Poll::Ready(());
            }
        }
    }

    /// Whether the client has closed its side behind a whole request: it may have gone, and it may read still.
    pub(super) fn has_finished(&self) -> bool {
        self.finished && self.body == State::Whole
    }

    /// Says something that means nothing (RFC 9110, 15.2): from a client that has gone, an error comes back.
    pub(super) fn knock(&mut self) {
        self.interim.text().extend_from_slice(CONTINUE);
    }

    /// Whether one whom we have [knocked](Self::knock) at is known to have gone.
    pub(super) fn is_away(&mut self, cx: &mut Context<'_>) -> bool {
        matches!(self.poll_interim(cx), Poll::Ready(Err(_))) || self.line.is_broken()
    }

    /// Drops what has come of a body that nobody wants. Whether there is such a body.
    fn forget(&mut self) -> bool {
        let left = self.body == State::Left;
        if left {
            self.broken = true;
            self.input.bytes.clear();
        }
        left
    }

    /// Takes what has come of a body that nobody wants. Whether that was all of it.
    pub(super) fn drain(&mut self, cx: &mut Context<'_>) -> bool {
        if self.broken || self.leave == Leave::Withheld {
            return false;
        }
        for _ in 0..DRAINED {
            match self.poll_body(cx) {
                Poll::Ready(Some(Ok(_))) if !self.decoder.is_ended() => {}
                Poll::Ready(Some(Ok(_)) | None) => return true,
                Poll::Ready(Some(Err(_))) | Poll::Pending => return false,
            }
        }
        false
    }

    /// The answer begins: it is leave not to send the body, where none has been given yet. Whether another request may follow,
    /// as far as can be known.
    pub(super) fn answers(&mut self, cx: &mut Context<'_>) -> bool {
        if self.leave == Leave::Wanted {
            self.leave = Leave::Withheld;
        }
        if self.body == State::Left {
            self.drain(cx);
        }
        match self.body {
            State::Whole => true,
            State::Left => false,
            State::Read => self.leave != Leave::Withheld,
        }
    }

    /// How many parts of the body have come.
    pub(super) fn parts(&self) -> u64 {
        self.parts
    }

    /// The connection is given up: whoever reads the body meets its end.
    pub(super) fn give_up(&mut self) {
        self.line = Line::Away;
        wake(&mut self.reads);
    }

    /// Writes what there is.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>, output: &mut Output) -> Poll<io::Result<()>> {
        ready!(self.poll_interim(cx))?;
        ready!(output.poll_flush(cx, &mut self.line))?;
        self.poll_through(cx)
    }

    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.interim.is_empty() {
            self.held = true;
            ready!(self.interim.poll_flush(cx, &mut self.line))?;
        }
        if self.held {
            ready!(self.poll_through(cx))?;
            self.held = false;
        }
        Poll::Ready(Ok(()))
    }

    /// TLS keeps what the kernel does not take at once.
    fn poll_through(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.line {
            Line::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Line::Plain(_) | Line::Away => Poll::Ready(Ok(())),
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn broken(bad: Bad) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, bad)
}
