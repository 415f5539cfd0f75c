//! One connection to a replica, with the exchange that is on it: both directions in one value, polled by one task.
//! Called by [`home`](super::home) up to the response's head and by [`Reply`](super::Reply) from there on.

use std::{
    io,
    mem::MaybeUninit,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{Method, StatusCode, request::Parts};
use http_body::Frame;
use tokio::net::TcpStream;

use super::upload::{Fault, Upload};
use crate::{
    http1::{
        Bad,
        framing::{Decoder, Framing, Step},
        input::Input,
        output::Output,
        request,
        response::{self, Head},
        server::Early,
    },
    request::{body::Outbound, headers},
    timer::Timer,
};

/// How many interim responses may precede a response.
pub(super) const MOST_INTERIM: u8 = 100;

/// One connection to a replica.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    input: Input,
    output: Output,
    upload: Upload,
    decoder: Decoder,
    /// The request is a HEAD.
    to_head: bool,
    keep_alive: bool,
    interim: u8,
    /// Where interim responses go.
    early: Option<Early>,
    pub(super) timer: Timer,
    /// Wakes the task that waits for a response's head.
    pub(super) alarm: Arc<AtomicWaker>,
    pub(super) opened: Instant,
    pub(super) used: Instant,
    /// How often the replica had been given up when it was opened.
    pub(super) abandoned: u64,
    /// Why the response's body ended, until it is told.
    pub(super) broken: Option<Broken>,
}

/// Why an exchange ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The client's doing.
    #[error(transparent)]
    Client(#[from] Fault),
    /// The connection ended, in order.
    #[error("the replica closed the connection")]
    Closed,
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came is no response.
    #[error(transparent)]
    Bad(#[from] Bad),
}

impl Connection {
    pub(super) fn new(stream: TcpStream, now: Instant, abandoned: u64) -> Self {
        Self {
            stream,
            input: Input::default(),
            output: Output::default(),
            upload: Upload::none(),
            decoder: Decoder::Ended,
            to_head: false,
            keep_alive: false,
            interim: 0,
            early: None,
            timer: Timer::default(),
            alarm: Arc::default(),
            opened: now,
            used: now,
            abandoned,
            broken: None,
        }
    }

    /// Whether the other end has neither closed it nor said anything. `surely`: the kernel is asked, which costs a call; else
    /// what the runtime has heard of it counts.
    pub(super) fn is_quiet(&self, surely: bool) -> bool {
        let said = if surely {
            socket2::SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()])
        } else {
            self.stream.try_read(&mut [0])
        };
        matches!(said, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// An exchange begins.
    pub(super) fn begin(&mut self, head: &Parts, body: Outbound, early: Option<&Early>) {
        self.upload = Upload::new(head, body);
        let out = self.output.begin();
        request::write(out, &head.method, &head.uri, &head.headers, self.upload.framing());
        self.to_head = head.method == Method::HEAD;
        self.interim = 0;
        self.early = early.cloned();
    }

    /// The response's head, once it is whole.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Broken>> {
        loop {
            self.poll_upload(cx)?;
            let section = match self.input.bytes.is_empty() {
                true => None,
                false => response::take(&mut self.input.bytes)?,
            };
            if let Some(section) = section {
                let head = response::parse(&section, self.to_head)?;
                if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                    self.answered(&head);
                    return Poll::Ready(Ok(head));
                }
                self.interim(head)?;
            } else if ready!(self.poll_read(cx))? == 0 {
                return Poll::Ready(Err(Broken::Closed));
            }
        }
    }

    fn answered(&mut self, head: &Head) {
        self.early = None;
        self.upload.answered();
        self.decoder = Decoder::new(head.framing);
        let switched = head.status == StatusCode::SWITCHING_PROTOCOLS;
        self.keep_alive = head.keep_alive && head.framing != Framing::UntilClose && !switched;
    }

    fn interim(&mut self, mut head: Head) -> Result<(), Bad> {
        self.interim += 1;
        if head.status == StatusCode::CONTINUE {
            // The client has had ours.
            self.upload.go_on();
        } else if let Some(early) = &self.early {
            headers::strip_hop_by_hop(&mut head.headers);
            early.say(head.status, &head.headers);
        }
        if self.interim > MOST_INTERIM { Err(Bad::Interim) } else { Ok(()) }
    }

    /// The next part of the response's body; the request's body goes on meanwhile.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.poll_upload(cx)?;
        loop {
            match self.decoder.next(&mut self.input.bytes).map_err(Broken::Bad)? {
                Step::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Step::Trailers(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Step::End => return Poll::Ready(None),
                Step::More => {
                    if ready!(self.poll_read(cx)).map_err(Broken::Io)? == 0 {
                        self.decoder.close().map_err(Broken::Bad)?;
                    }
                }
            }
        }
    }

    /// Goes on with the request's body. True once nothing of it is left to be written.
    pub(super) fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        if !self.is_uploaded() {
            self.upload.poll(cx, &mut self.output, &mut self.stream)?;
        }
        Ok(self.is_uploaded())
    }

    /// Whether some of the request's body is still to come.
    pub(super) fn uploads(&self) -> bool {
        !self.upload.is_over()
    }

    pub(super) fn is_uploaded(&self) -> bool {
        self.upload.is_over() && self.output.is_empty()
    }

    /// Whether the response's body has ended.
    pub(super) fn is_ended(&self) -> bool {
        self.decoder.is_ended()
    }

    /// How many bytes of the response's body are still to come, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        self.decoder.left()
    }

    /// Whether the exchange ended so that another one may follow: both bodies whole, and nothing behind the response's.
    pub(super) fn is_reusable(&self) -> bool {
        let whole = self.decoder.is_ended() && self.upload.is_whole() && self.output.is_empty();
        whole && self.keep_alive && self.input.bytes.is_empty()
    }

    /// Ready once the other end says or ends something, which behind a response is never more of it.
    pub(super) fn poll_said(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_read(cx).map(drop)
    }

    /// Whether the request's body has gone out whole.
    pub(super) fn is_upload_whole(&self) -> bool {
        self.upload.is_whole() && self.output.is_empty()
    }

    /// The request's body as it was given, if nothing of the request has been written.
    pub(super) fn into_unsent(self) -> Option<Outbound> {
        (!self.output.is_sent()).then(|| self.upload.into_unsent())
    }

    /// The bare connection, and what was read behind the response's head.
    pub(super) fn into_stream(self) -> (TcpStream, Bytes) {
        (self.stream, self.input.bytes.freeze())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.poll_fill(cx, &mut self.stream)
    }
}
