//! Plays a case against a gateway: does what its client does, and notes what came back and what the origin got.

use std::{net::SocketAddr, time::Duration};

use tokio::net::TcpStream;

use super::{
    Act, Case, End, Message,
    origin::{Origin, PROBE},
    wire::{self, Framing, Reader},
};

/// Far more than any case takes.
const BOUND: Duration = Duration::from_secs(15);

/// What was seen of a case.
#[derive(Debug, Default)]
pub struct Seen {
    /// The answers at the client, in order.
    pub answers: Vec<Message>,
    /// The requests at the origin, in order.
    pub views: Vec<Message>,
    /// What became of the client's connection, and what came behind the answers.
    pub end: Option<End>,
    /// Bytes that are no answer.
    pub rest: Vec<u8>,
    /// It did not come to its end in time.
    pub stalled: bool,
}

/// Plays a case. The origin must be the gateway's only one, and no other case may run at the same time.
pub async fn play(case: &Case, gateway: SocketAddr, origin: &Origin) -> Seen {
    origin.follow(&case.origin);
    let mut seen = Seen::default();
    let played = tokio::time::timeout(BOUND, client(case, gateway, origin, &mut seen)).await;
    seen.stalled = played.is_err() || tokio::time::timeout(BOUND, origin.settled()).await.is_err();
    seen.views = origin.seen();
    seen
}

async fn client(case: &Case, gateway: SocketAddr, origin: &Origin, seen: &mut Seen) {
    let Ok(stream) = TcpStream::connect(gateway).await else { return };
    drop(stream.set_nodelay(true));
    let mut talk = Talk { reader: Reader::new(stream), interim: Vec::new(), case, seen };
    let mut heads = 0;
    for act in &case.client {
        match act {
            Act::Send(bytes) => talk.reader.send(bytes).await,
            Act::AwaitInterim => talk.interim().await,
            Act::AwaitAnswer => drop(talk.answer().await),
            Act::AwaitOrigin => {
                heads += 1;
                origin.heads(heads).await;
            }
            Act::Finish => drop(tokio::io::AsyncWriteExt::shutdown(&mut talk.reader.stream).await),
            Act::Reset => {
                drop(talk.reader.stream.set_zero_linger());
                return;
            }
        }
    }
    while talk.seen.answers.len() < case.answers.len() && talk.answer().await {}
    if matches!(case.end, Some(End::Kept | End::Either)) {
        let probe = format!("GET {PROBE} HTTP/1.1\r\nHost: api.localhost\r\n\r\n");
        talk.reader.send(probe.as_bytes()).await;
        let before = talk.seen.answers.len();
        if talk.answer().await && talk.seen.answers.len() > before {
            let answer = talk.seen.answers.pop().unwrap_or_default();
            if answer.line == "200" && answer.body == b"ok" {
                talk.seen.end = Some(End::Kept);
                return;
            }
            talk.seen.rest = format!("to a further request: {answer:?}").into_bytes();
        }
    }
    let rest = talk.reader.rest().await;
    seen.rest.extend(rest);
    seen.end = Some(End::Closed);
}

struct Talk<'c> {
    reader: Reader,
    /// Interim answers since the last one.
    interim: Vec<u16>,
    case: &'c Case,
    seen: &'c mut Seen,
}

impl Talk<'_> {
    /// Reads one head; whether it was an interim answer's.
    async fn head(&mut self) -> Option<(u16, Message)> {
        match self.reader.head().await {
            Ok(Some(head)) => {
                let (line, mut message) = wire::head(&head);
                // RFC 9112, 2.3 would have us say 1.1 to whoever said 1.0; some are happier with their own.
                let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
                let status = rest.and_then(|rest| rest.get(..3)?.parse().ok());
                if status.is_none() {
                    message.fault.get_or_insert(format!("a first line {line:?}"));
                }
                Some((status.unwrap_or(0), message))
            }
            Ok(None) => None,
            Err(fault) => {
                self.seen.rest.extend(fault.into_bytes());
                None
            }
        }
    }

    async fn interim(&mut self) {
        if let Some((status, message)) = self.head().await {
            if (100..200).contains(&status) {
                self.interim.push(status);
            } else {
                self.body(status, message).await;
            }
        }
    }

    /// Reads an answer to its end; false if there is none.
    async fn answer(&mut self) -> bool {
        while let Some((status, message)) = self.head().await {
            if (100..200).contains(&status) && status != 101 {
                self.interim.push(status);
            } else {
                self.body(status, message).await;
                return true;
            }
        }
        false
    }

    async fn body(&mut self, status: u16, mut message: Message) {
        let wanted = self.case.answers.get(self.seen.answers.len());
        let without = wanted.is_some_and(|answer| answer.head) || matches!(status, 101 | 204 | 304);
        let mut framing = match without {
            true => Framing::None,
            false => wire::framing(&mut message, Framing::Close),
        };
        while let Some(piece) = self.reader.piece(&mut framing, &mut message).await {
            message.body.extend(piece);
        }
        message.line = status.to_string();
        message.interim = std::mem::take(&mut self.interim);
        self.seen.answers.push(message);
    }
}
