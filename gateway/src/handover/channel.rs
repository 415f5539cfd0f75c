//! Frames over a Unix socket: four bytes of length, then JSON; file descriptors come along with the first bytes.
//! Absent: what is said, see [`wire`](super::wire).

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::{Buf, BytesMut};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{io::Interest, net::UnixStream};

use super::fds;

/// Longer frames are a mistake of the sender.
const LONGEST: usize = 64 << 20;

/// The other end is on this machine and reads all the time; if it does not, it hangs.
const SENT_WITHIN: Duration = Duration::from_secs(5);

/// Bytes per read.
const AT_ONCE: usize = 64 * 1024;

/// The kernel passes no more at once.
const MOST_FDS: usize = 253;

/// Both ends of a connection, to be used at the same time.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
}

/// What comes in.
#[derive(Debug)]
pub(super) struct Reader {
    stream: Arc<UnixStream>,
    /// Filled by each read; a place of its own, because futures that hold it are moved.
    buffer: Vec<u8>,
    read: BytesMut,
    fds: Vec<OwnedFd>,
}

/// What goes out.
#[derive(Debug)]
pub(super) struct Writer(Arc<UnixStream>);

impl Channel {
    /// Connects to whoever answers there.
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self::new(UnixStream::connect(path).await?))
    }

    pub(super) fn new(stream: UnixStream) -> Self {
        let stream = Arc::new(stream);
        let (read, fds) = (BytesMut::new(), Vec::new());
        let reader = Reader { stream: Arc::clone(&stream), buffer: vec![0; AT_ONCE], read, fds };
        Self { reader, writer: Writer(stream) }
    }

    /// The other end's user and process.
    pub(super) fn peer(&self) -> io::Result<(u32, Option<i32>)> {
        let peer = self.writer.0.peer_cred()?;
        Ok((peer.uid(), peer.pid()))
    }
}

impl Reader {
    /// The next message; `None` if the other end has closed. Cancel-safe: what was read stays here.
    pub(super) async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            if let Some(frame) = self.frame()? {
                return Ok(Some(serde_json::from_slice(&frame)?));
            }
            if self.more().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// File descriptors that came with the messages so far.
    pub(super) fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    fn frame(&mut self) -> io::Result<Option<BytesMut>> {
        let Some(length) = self.read.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
        }
        if self.read.len() < 4 + length {
            return Ok(None);
        }
        self.read.advance(4);
        Ok(Some(self.read.split_to(length)))
    }

    async fn more(&mut self) -> io::Result<usize> {
        let Self { stream, buffer, read, fds } = self;
        let mut space = nix::cmsg_space!([RawFd; MOST_FDS]);
        let length = stream
            .async_io(Interest::READABLE, || {
                let mut parts = [IoSliceMut::new(buffer)];
                let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
                let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
                for control in message.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(numbers) = control {
                        fds.extend(numbers.into_iter().map(fds::own));
                    }
                }
                Ok(message.bytes)
            })
            .await?;
        read.extend_from_slice(&buffer[..length]);
        Ok(length)
    }
}

impl Writer {
    /// Sends a message.
    pub(super) async fn send<T: Serialize>(&self, message: &T) -> io::Result<()> {
        self.send_with(message, &[]).await
    }

    /// Sends a message and file descriptors.
    pub(super) async fn send_with<T: Serialize>(
        &self,
        message: &T,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let length = u32::try_from(text.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend(text);
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the other gateway does not read");
        tokio::time::timeout(SENT_WITHIN, self.write(&frame, fds)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn write(&self, mut bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let mut along = if numbers.is_empty() { &[][..] } else { &rights[..] };
        while !bytes.is_empty() {
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            let send = || Ok(sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(bytes)], along, flags, None)?);
            let sent = self.0.async_io(Interest::WRITABLE, send).await?;
            // They go with the first byte, once.
            along = &[];
            bytes = &bytes[sent..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::fd::AsFd};

    use super::*;

    #[tokio::test]
    async fn messages_and_descriptors_arrive_whole() {
        let (a, b) = UnixStream::pair().expect("a pair");
        let (a, mut b) = (Channel::new(a), Channel::new(b));
        let (mut one, other) = std::io::pipe().map(|(read, write)| (write, read)).expect("a pipe");
        let long = "x".repeat(300_000);
        let send = async {
            a.writer.send_with(&("first", 1), &[other.as_fd()]).await.expect("sent");
            a.writer.send(&long).await.expect("sent");
        };
        let receive = async {
            let first: Option<(String, u8)> = b.reader.receive().await.expect("received");
            let second: Option<String> = b.reader.receive().await.expect("received");
            (first, second)
        };
        let ((), (first, second)) = tokio::join!(send, receive);
        assert_eq!(first, Some(("first".into(), 1)));
        assert_eq!(second.map(|text| text.len()), Some(300_000));
        let fds = b.reader.take_fds();
        assert_eq!(fds.len(), 1);
        one.write_all(b"through").expect("written");
        drop((one, a));
        let mut said = String::new();
        let mut file = std::fs::File::from(fds.into_iter().next().expect("one"));
        std::io::Read::read_to_string(&mut file, &mut said).expect("read");
        assert_eq!(said, "through");
        assert_eq!(b.reader.receive::<String>().await.expect("an end"), None);
    }
}
