//! A request's body on its way to a replica, in the task that also reads the response: it goes on while the response's head
//! is waited for and while its body is read. Absent: the connection, and whether the request may be sent again.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, header, request::Parts};
use http_body::Body;
use tokio::{net::TcpStream, time::Sleep};

use crate::{
    http1::{encode, framing::Framing, output::Output, request},
    request::body::{Broken, Outbound},
};

/// A replica that says nothing to `Expect: 100-continue` gets the body after so long (RFC 9110, 10.1.1).
const CONTINUE_WITHIN: Duration = Duration::from_secs(1);

/// The client's body did not come as it was announced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// It broke off.
    #[error("the request's body broke off")]
    Broke(#[source] Broken),
    /// It was shorter or longer.
    #[error("the request's body has another length than it said")]
    Length,
}

/// A request's body on its way.
#[derive(Debug)]
pub(super) struct Upload {
    body: Outbound,
    framing: Framing,
    /// How many bytes a body with a length still has.
    left: u64,
    stage: Stage,
    /// What was taken out of the body before anything was written, in case that nothing will be.
    first: Option<Bytes>,
}

#[derive(Debug)]
enum Stage {
    /// Until the replica says `100`.
    Waiting(Pin<Box<Sleep>>),
    Flowing,
    Ended,
    /// The replica takes no more of it.
    Cut,
}

impl Upload {
    /// None.
    pub(super) fn none() -> Self {
        Self { body: Outbound::Empty, framing: Framing::None, left: 0, stage: Stage::Ended, first: None }
    }

    /// This body, for this head.
    pub(super) fn new(head: &Parts, body: Outbound) -> Self {
        if body.is_end_stream() {
            return Self { body, ..Self::none() };
        }
        let length = body.size_hint().exact();
        let stage = match head.headers.get(header::EXPECT) {
            Some(expect) if request::is_continue(expect) => {
                Stage::Waiting(Box::pin(tokio::time::sleep(CONTINUE_WITHIN)))
            }
            _ => Stage::Flowing,
        };
        Self {
            body,
            framing: length.map_or(Framing::Chunked, Framing::Length),
            left: length.unwrap_or(0),
            stage,
            first: None,
        }
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether nothing more will be sent, once what is in the output has been.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Ended | Stage::Cut)
    }

    /// Whether the whole body has been sent, once what is in the output has been.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    /// The replica wants the body.
    pub(super) fn go_on(&mut self) {
        if matches!(self.stage, Stage::Waiting(_)) {
            self.stage = Stage::Flowing;
        }
    }

    /// The replica has answered without having asked for the body.
    pub(super) fn answered(&mut self) {
        if matches!(self.stage, Stage::Waiting(_)) {
            self.stage = Stage::Cut;
        }
    }

    /// The body as it was given; only if nothing has been written.
    pub(super) fn into_unsent(self) -> Outbound {
        match (self.body, self.first) {
            (body, None) => body,
            (Outbound::Kept(_), Some(bytes)) => Outbound::Kept(Some(bytes)),
            (body, Some(first)) => Outbound::Again { taken: [first].into(), rest: Box::new(body) },
        }
    }

    /// Writes as much as there is and goes. A replica that takes no more may still answer, so this is no error here.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        output: &mut Output,
        stream: &mut TcpStream,
    ) -> Result<(), Fault> {
        loop {
            // What is in the way now is gone once it has been written; then the body is asked, and wakes us when more comes.
            let full = !output.has_room() || self.first.is_some();
            let fed = self.feed(cx, output)?;
            match output.poll_flush(cx, stream) {
                Poll::Ready(Ok(())) => {
                    self.first = None;
                    if !fed && !full {
                        return Ok(());
                    }
                }
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "a replica takes no more of a request");
                    output.clear();
                    self.stage = Stage::Cut;
                    return Ok(());
                }
            }
        }
    }

    /// Takes the next part of the body, if there is one and room for it. True if the output has got something.
    fn feed(&mut self, cx: &mut Context<'_>, output: &mut Output) -> Result<bool, Fault> {
        if let Stage::Waiting(patience) = &mut self.stage
            && patience.as_mut().poll(cx).is_ready()
        {
            self.stage = Stage::Flowing;
        }
        // What may have to be given back whole is written before more is taken.
        if !matches!(self.stage, Stage::Flowing) || !output.has_room() || self.first.is_some() {
            return Ok(false);
        }
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(frame) => frame.transpose().map_err(Fault::Broke)?,
        };
        match frame.map(http_body::Frame::into_data) {
            Some(Ok(data)) => self.data(data, output)?,
            Some(Err(frame)) => self.end(frame.into_trailers().ok(), output)?,
            None => self.end(None, output)?,
        }
        Ok(true)
    }

    fn data(&mut self, data: Bytes, output: &mut Output) -> Result<(), Fault> {
        if !output.is_sent() {
            self.first = Some(data.clone());
        }
        if self.framing == Framing::Chunked {
            if !data.is_empty() {
                encode::chunk_size(output.text(), data.len());
                output.push(data, b"\r\n");
            }
            return Ok(());
        }
        self.left = self.left.checked_sub(data.len() as u64).ok_or(Fault::Length)?;
        output.push(data, b"");
        if self.left == 0 && self.body.is_end_stream() {
            self.stage = Stage::Ended;
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<HeaderMap>, output: &mut Output) -> Result<(), Fault> {
        match (self.framing, trailers) {
            (Framing::Chunked, Some(trailers)) => encode::last_chunk(output.text(), &trailers),
            (Framing::Chunked, None) => output.text().extend_from_slice(encode::LAST_CHUNK),
            (Framing::None | Framing::Length(_) | Framing::UntilClose, _) if self.left > 0 => {
                return Err(Fault::Length);
            }
            (Framing::None | Framing::Length(_) | Framing::UntilClose, _) => {}
        }
        self.stage = Stage::Ended;
        Ok(())
    }
}
