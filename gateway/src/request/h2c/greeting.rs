//! What an HTTP/2 server allows: its first SETTINGS frame (RFC 9113, 3.4), read from the bytes that pass, since hyper keeps
//! it to itself. Called by the connections of a replica. Later SETTINGS are hyper's to honour.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

/// What a server allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    /// Streams at once.
    pub(super) streams: usize,
    /// Whether streams may carry other protocols (RFC 8441).
    pub(super) extended_connect: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { streams: usize::MAX, extended_connect: false }
    }
}

/// A frame's head: length, type, flags, stream.
const HEAD: usize = 9;

/// Of a longer first frame no more than this is looked at.
const LOOKED_AT: usize = 1024;

const SETTINGS: u8 = 4;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// A stream whose reader has not told yet what it heard first.
#[derive(Debug)]
pub(super) struct Greeted<T> {
    inner: T,
    hearing: Option<(Vec<u8>, oneshot::Sender<Settings>)>,
}

impl<T> Greeted<T> {
    /// The stream, and what the other end will say first. An error means that it said nothing.
    pub(super) fn new(inner: T) -> (Self, oneshot::Receiver<Settings>) {
        let (tell, told) = oneshot::channel();
        (Self { inner, hearing: Some((Vec::new(), tell)) }, told)
    }

    /// Tells what was heard. The reader has come back for more, so it has taken in what it had got.
    fn tell(&mut self) {
        if let Some(settings) = self.hearing.as_ref().and_then(|(heard, _)| settings(heard))
            && let Some((_, tell)) = self.hearing.take()
        {
            // Nobody waits for it any more.
            let _ = tell.send(settings);
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        if let Some((heard, _)) = &mut self.hearing {
            let room = LOOKED_AT.saturating_sub(heard.len());
            heard.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }
}

/// What the frame at the beginning of `bytes` allows, once it is whole.
fn settings(bytes: &[u8]) -> Option<Settings> {
    let &[a, b, c, kind, ..] = bytes else { return None };
    let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
    let payload = bytes.get(HEAD..(HEAD + length).min(LOOKED_AT))?;
    let mut settings = Settings::default();
    if kind != SETTINGS {
        return Some(settings);
    }
    for entry in payload.chunks_exact(6) {
        let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
        match u16::from_be_bytes([entry[0], entry[1]]) {
            MAX_CONCURRENT_STREAMS => settings.streams = usize::try_from(value).unwrap_or(usize::MAX),
            ENABLE_CONNECT_PROTOCOL => settings.extended_connect = value == 1,
            _ => {}
        }
    }
    Some(settings)
}

impl<T: AsyncRead + Unpin> AsyncRead for Greeted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.hearing.is_none() {
            return Pin::new(&mut self.inner).poll_read(cx, buffer);
        }
        self.tell();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        self.hear(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Greeted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, entries: &[(u16, u32)]) -> Vec<u8> {
        let payload: Vec<u8> = entries
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
            .collect();
        let length = u8::try_from(payload.len()).expect("a short frame");
        [&[0, 0, length, kind, 0, 0, 0, 0, 0][..], &payload].concat()
    }

    #[test]
    fn what_a_server_allows_is_in_its_first_frame() {
        let allowed = |streams, extended_connect| Some(Settings { streams, extended_connect });
        for (entries, want) in [
            (&[][..], allowed(usize::MAX, false)),
            (&[(4, 1 << 20), (3, 7)], allowed(7, false)),
            (&[(8, 1), (3, 100), (6, 16384)], allowed(100, true)),
            (&[(8, 0), (0x1234, 5)], allowed(usize::MAX, false)),
        ] {
            let whole = frame(SETTINGS, entries);
            assert_eq!(settings(&whole), want, "{entries:?}");
            assert_eq!(settings(&whole[..whole.len() - 1]), None, "{entries:?}, cut short");
        }
        assert_eq!(settings(&frame(6, &[(3, 7)])), Some(Settings::default()), "another frame says nothing");
        assert_eq!(settings(&[0xff; LOOKED_AT]), Some(Settings::default()), "and neither does noise");
    }
}
