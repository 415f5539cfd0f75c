//! HTTP/1.1 as a client, on one connection and one request at a time, without an allocation per request: the request is
//! bytes already, and of the answer only the head is understood; the body is counted as it goes by. `[IO]`
//! Absent: connecting, retries, and the choice of what to send.

mod body;
pub(crate) mod head;

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::{body::Body, head::Head};
use crate::{
    record::{Answer, Failure, Told},
    send::deadline::Deadline,
};

/// Room for what was read and not yet understood.
const ROOM: usize = 8 << 10;
/// The longest head.
const LONGEST_HEAD: usize = 256 << 10;

/// A connection that speaks HTTP/1.1.
#[derive(Debug)]
pub(crate) struct Http1<S> {
    stream: S,
    buffer: Vec<u8>,
    /// What of the buffer is filled.
    filled: usize,
}

/// A request, as bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) bytes: &'a [u8],
    /// Its method is HEAD: the answer has no body.
    pub(crate) to_head: bool,
}

/// An answer that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) answer: Answer,
    pub(crate) told: Told,
    /// Whether the connection can be used again.
    pub(crate) keeps: bool,
}

/// No answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) failure: Failure,
    /// Nothing of an answer was seen: the server may have closed the connection before the request reached it.
    pub(crate) unseen: bool,
    pub(crate) why: Why,
}

/// What was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Closed,
    Broke(io::ErrorKind),
    Malformed,
    TooLong,
    Late,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the server closed the connection before the answer's end"),
            Self::Broke(kind) => write!(f, "the connection broke: {kind}"),
            Self::Malformed => f.write_str("what came is not HTTP/1.1; does the server speak that here?"),
            Self::TooLong => write!(f, "the answer's head is longer than {LONGEST_HEAD} bytes"),
            Self::Late => f.write_str("no whole answer within the timeout"),
        }
    }
}

/// How far one exchange is.
struct Exchange {
    written: usize,
    head: Option<Head>,
    body: Body,
    /// Whether any byte came back.
    seen: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http1<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: vec![0; ROOM], filled: 0 }
    }

    /// Sends a request and reads the answer to its end. Both at once: a server that answers while it is still being sent
    /// to would else wait for us, and we for it.
    pub(crate) async fn exchange(
        &mut self,
        wanted: Wanted<'_>,
        deadline: &mut Deadline,
    ) -> Result<Received, Broken> {
        let mut state =
            Exchange { written: 0, head: None, body: Body::new(head::Framing::Length(1)), seen: false };
        poll_fn(|cx| match self.poll(&mut state, wanted, cx) {
            Poll::Pending => deadline
                .poll(cx)
                .map(|()| Err(Broken { failure: Failure::Timeout, unseen: false, why: Why::Late })),
            ready => ready,
        })
        .await
    }

    /// Whether the server has closed the connection, or sent what nobody asked for. Asks the kernel only if there is news.
    pub(crate) async fn is_stale(&mut self) -> bool {
        poll_fn(|cx| {
            let mut room = [0; 1];
            let mut room = ReadBuf::new(&mut room);
            Poll::Ready(Pin::new(&mut self.stream).poll_read(cx, &mut room).is_ready())
        })
        .await
    }

    fn poll(
        &mut self,
        state: &mut Exchange,
        wanted: Wanted<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Received, Broken>> {
        if state.written < wanted.bytes.len() && self.write(state, wanted.bytes, cx).is_err() {
            // The server may have answered before it closed; what it said is read below.
            state.written = wanted.bytes.len();
        }
        loop {
            let broken = |state: &Exchange, why| Broken { failure: Failure::Reset, unseen: !state.seen, why };
            let read = match ready!(self.read(cx)) {
                Ok(read) => read,
                Err(why) => return Poll::Ready(Err(broken(state, why))),
            };
            if read == 0 {
                return Poll::Ready(match state.head {
                    Some(head) if state.body.ends_with_connection() => Ok(received(head, &state.body, false)),
                    Some(_) | None => Err(broken(state, Why::Closed)),
                });
            }
            state.seen = true;
            match self.advance(state, wanted.to_head) {
                Ok(None) => {}
                Ok(Some(head)) => {
                    // What nobody asked for, or a request that was not read to its end, spoils the connection.
                    let keeps = head.keeps && self.filled == 0 && state.written == wanted.bytes.len();
                    return Poll::Ready(Ok(received(head, &state.body, keeps)));
                }
                Err(head::Malformed) => {
                    return Poll::Ready(Err(Broken {
                        failure: Failure::Reset,
                        unseen: false,
                        why: Why::Malformed,
                    }));
                }
            }
        }
    }

    fn write(&mut self, state: &mut Exchange, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), ()> {
        while state.written < bytes.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &bytes[state.written..]) {
                Poll::Ready(Ok(0) | Err(_)) => return Err(()),
                Poll::Ready(Ok(written)) => state.written += written,
                Poll::Pending => return Ok(()),
            }
        }
        // Streams of TLS keep back what is not flushed; a flush that cannot end now ends with the next write or read.
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Err(_)) => Err(()),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Why>> {
        if self.filled == self.buffer.len() {
            if self.buffer.len() >= LONGEST_HEAD {
                return Poll::Ready(Err(Why::TooLong));
            }
            self.buffer.resize(self.buffer.len() * 4, 0);
        }
        let mut room = ReadBuf::new(&mut self.buffer[self.filled..]);
        match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room)) {
            Ok(()) => {
                let read = room.filled().len();
                self.filled += read;
                Poll::Ready(Ok(read))
            }
            Err(error) => Poll::Ready(Err(Why::Broke(error.kind()))),
        }
    }

    /// Understands what was read; tells the head once the answer has ended.
    fn advance(&mut self, state: &mut Exchange, to_head: bool) -> Result<Option<Head>, head::Malformed> {
        let mut used = 0;
        while state.head.is_none() {
            let Some((head, length)) = head::parse(&self.buffer[used..self.filled], to_head)? else { break };
            used += length;
            // 100 and 103 come before the answer.
            if head.code >= 200 {
                state.body = Body::new(head.framing);
                state.head = Some(head);
            }
        }
        if state.head.is_some() {
            used += state.body.take(&self.buffer[used..self.filled])?;
        }
        self.buffer.copy_within(used..self.filled, 0);
        self.filled -= used;
        Ok(state.head.filter(|_| state.body.is_done()))
    }
}

fn received(head: Head, body: &Body, keeps: bool) -> Received {
    Received {
        answer: Answer::Status { code: head.code, grpc: None, bytes: body.bytes },
        told: head.told,
        keeps,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const GET: Wanted<'_> = Wanted { bytes: b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", to_head: false };

    fn pair() -> (Http1<DuplexStream>, DuplexStream, Deadline) {
        let (near, far) = duplex(1 << 10);
        let mut deadline = Deadline::new();
        deadline.set(tokio::time::Instant::now() + Duration::from_secs(5));
        (Http1::new(near), far, deadline)
    }

    #[tokio::test(start_paused = true)]
    async fn answers_in_pieces_and_one_after_the_other() {
        let (mut http, mut far, mut deadline) = pair();
        let server = async {
            let mut request = vec![0; GET.bytes.len()];
            for answer in [
                &b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"[..],
                b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            ] {
                far.read_exact(&mut request).await.expect("a request");
                assert_eq!(request, GET.bytes);
                for byte in answer {
                    far.write_all(&[*byte]).await.expect("taken");
                    tokio::task::yield_now().await;
                }
            }
        };
        let client = async {
            for (code, bytes) in [(200, 3), (404, 2)] {
                let received = http.exchange(GET, &mut deadline).await.expect("an answer");
                assert_eq!(received.answer, Answer::Status { code, grpc: None, bytes });
                assert!(received.keeps);
            }
            assert!(!http.is_stale().await);
        };
        tokio::join!(server, client);
        drop(far);
        assert!(http.is_stale().await);
    }

    #[tokio::test(start_paused = true)]
    async fn ends_that_are_none() {
        let reset = |unseen, why| Broken { failure: Failure::Reset, unseen, why };
        for (answer, expected) in [
            ("", reset(true, Why::Closed)),
            ("HTTP/1.1 200 OK\r\ncontent-le", reset(false, Why::Closed)),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab", reset(false, Why::Closed)),
            ("hello\r\n\r\n", reset(false, Why::Malformed)),
        ] {
            let (mut http, mut far, mut deadline) = pair();
            far.write_all(answer.as_bytes()).await.expect("room");
            far.shutdown().await.expect("closed");
            assert_eq!(http.exchange(GET, &mut deadline).await.map(drop), Err(expected), "{answer:?}");
        }
        let (mut http, mut far, mut deadline) = pair();
        far.write_all(b"HTTP/1.0 200 OK\r\n\r\nabc").await.expect("room");
        far.shutdown().await.expect("closed");
        let received = http.exchange(GET, &mut deadline).await.expect("the connection's end is the body's");
        assert!(!received.keeps);
        let (mut http, _far, mut deadline) = pair();
        let late = http.exchange(GET, &mut deadline).await.expect_err("nobody answers");
        assert_eq!(late.failure, Failure::Timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_sends_back_what_it_reads_is_read_meanwhile() {
        let (mut http, far, mut deadline) = pair();
        let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n";
        let request: Vec<u8> = head.iter().copied().chain(std::iter::repeat_n(b'x', 100_000)).collect();
        let (mut reader, mut writer) = tokio::io::split(far);
        let server = async move {
            reader.read_exact(&mut vec![0; head.len()]).await.expect("a head");
            writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await.expect("taken");
            let mut body = reader.take(100_000);
            tokio::io::copy(&mut body, &mut writer).await.expect("carried");
        };
        let wanted = Wanted { bytes: &request, to_head: false };
        let ((), received) = tokio::join!(server, http.exchange(wanted, &mut deadline));
        let received = received.expect("an answer");
        assert_eq!(received.answer, Answer::Status { code: 200, grpc: None, bytes: 100_000 });
    }
}
