//! An answer's body on its way into what is to be written, in the framing that its head tells.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body as _;

use crate::{
    http1::{encode, framing::Framing, output::Output},
    request::body::{Body as Answer, Broken},
};

/// An answer's body on its way.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) framing: Framing,
    /// Whether they can be written and are wanted.
    pub(super) trailers: bool,
    pub(super) ended: bool,
}

impl Writing {
    /// Takes what there is of the body, as long as there is room for it.
    pub(super) fn poll_feed(
        &mut self,
        cx: &mut Context<'_>,
        mut body: Pin<&mut Answer>,
        output: &mut Output,
    ) -> Poll<Result<(), Broken>> {
        while !self.ended && output.has_room() {
            match ready!(body.as_mut().poll_frame(cx)).transpose()? {
                None => self.end(None, output),
                Some(frame) => match frame.into_data() {
                    Ok(data) => {
                        self.ended = body.is_end_stream();
                        self.data(data, output);
                    }
                    Err(frame) => self.end(frame.into_trailers().ok(), output),
                },
            }
        }
        Poll::Ready(Ok(()))
    }

    fn data(&mut self, data: Bytes, output: &mut Output) {
        match self.framing {
            Framing::Chunked if data.is_empty() && self.ended => self.end(None, output),
            Framing::Chunked if data.is_empty() => {}
            Framing::Chunked => {
                encode::chunk_size(output.text(), data.len());
                output.push(data, if self.ended { b"\r\n0\r\n\r\n" } else { b"\r\n" });
            }
            Framing::None | Framing::Length(_) | Framing::UntilClose => output.push(data, b""),
        }
    }

    fn end(&mut self, trailers: Option<HeaderMap>, output: &mut Output) {
        self.ended = true;
        if self.framing != Framing::Chunked {
            return;
        }
        match trailers.filter(|_| self.trailers) {
            Some(trailers) => encode::last_chunk(output.text(), &trailers),
            None => output.text().extend_from_slice(encode::LAST_CHUNK),
        }
    }
}
