//! The origin of the corpus: notes every request as it came and answers with the bytes of the case that is played.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{
    Message, Move,
    wire::{self, Framing, Reader},
};

/// The request by which a connection is found to be alive; answered and not noted.
pub(super) const PROBE: &str = "/-/probe";

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const OK_WITHOUT_BODY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";

/// An origin that is told what to do.
#[derive(Clone)]
pub struct Origin(Arc<Inner>);

struct Inner {
    /// Where the last connection came in.
    address: Mutex<Option<SocketAddr>>,
    script: Mutex<Vec<Move>>,
    /// What came since the last [`Origin::follow`].
    seen: watch::Sender<Vec<Message>>,
}

impl Default for Origin {
    fn default() -> Self {
        let (address, script) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { address, script, seen: watch::Sender::default() }))
    }
}

impl Origin {
    /// Listens on a free port of this machine's own.
    ///
    /// # Errors
    /// When there is none.
    pub async fn listen(&self) -> std::io::Result<(SocketAddr, impl Future<Output = ()> + use<>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, origin) = (listener.local_addr()?, self.clone());
        let accept = async move {
            let mut connections = tokio::task::JoinSet::new();
            // Cancel-safe: a connection is taken and handed to its task in one step.
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(origin.clone().talk(stream));
            }
        };
        Ok((address, accept))
    }

    /// Forgets what came, and does so from now on.
    pub(super) fn follow(&self, script: &[Move]) {
        *self.0.script.lock() = script.to_vec();
        self.0.seen.send_replace(Vec::new());
    }

    /// The requests that came.
    pub(super) fn seen(&self) -> Vec<Message> {
        self.0.seen.borrow().clone()
    }

    /// Waits until this many heads have come.
    pub(super) async fn heads(&self, count: usize) {
        let mut seen = self.0.seen.subscribe();
        // An error means that the origin has gone, and we hold it.
        drop(seen.wait_for(|seen| seen.len() >= count).await);
    }

    /// Waits until what was sent has come, and the requests that came have ended, whole or not.
    pub(super) async fn settled(&self) {
        // What a gateway has sent before it gave up may not have been read; a request of our own comes behind it.
        let address = *self.0.address.lock();
        if let Some(address) = address
            && let Ok(stream) = TcpStream::connect(address).await
        {
            let mut reader = Reader::new(stream);
            reader.send(format!("GET {PROBE} HTTP/1.1\r\nHost: origin\r\n\r\n").as_bytes()).await;
            drop(reader.head().await);
        }
        let mut seen = self.0.seen.subscribe();
        drop(seen.wait_for(|seen| seen.iter().all(|message| !message.open)).await);
    }

    /// Serves a connection to its end.
    pub async fn talk(self, stream: TcpStream) {
        *self.0.address.lock() = stream.local_addr().ok();
        let mut reader = Reader::new(stream);
        loop {
            let head = match reader.head().await {
                Ok(Some(head)) => head,
                Ok(None) => return,
                Err(fault) => {
                    self.note(Message { fault: Some(fault), ..Message::default() });
                    return;
                }
            };
            let (line, mut message) = wire::head(&head);
            message.line = match line.strip_suffix(" HTTP/1.1") {
                Some(line) => line.to_owned(),
                None => {
                    message.fault.get_or_insert(format!("a first line {line:?}"));
                    line
                }
            };
            if message.line.ends_with(PROBE) {
                reader.send(OK).await;
                continue;
            }
            if message.all("host").len() != 1 {
                message.fault.get_or_insert(format!("{} Host fields", message.all("host").len()));
            }
            let framing = wire::framing(&mut message, Framing::None);
            if !self.request(&mut reader, message, framing).await {
                return;
            }
        }
    }

    /// Follows the script for one request; whether the connection goes on.
    async fn request(&self, reader: &mut Reader, mut message: Message, mut framing: Framing) -> bool {
        let mut script = self.0.script.lock().clone();
        if script.is_empty() {
            let is_head = message.line.starts_with("HEAD ");
            script.push(Move::Send(if is_head { OK_WITHOUT_BODY } else { OK }.into()));
        }
        if !matches!(script[0], Move::Head | Move::Body | Move::Echo) {
            script.insert(0, Move::Body);
        }
        message.whole = framing == Framing::None;
        let index = self.note(Message { open: true, ..message.clone() });
        let mut goes_on = true;
        for step in &script {
            match step {
                Move::Head => {}
                Move::Body => read(reader, &mut message, &mut framing).await,
                Move::Send(bytes) => reader.send(bytes).await,
                Move::Echo => echo(reader, &mut message, &mut framing).await,
                Move::Silent => drop(reader.rest().await),
                Move::Reset => drop(reader.stream.set_zero_linger()),
                Move::Close => {
                    drop(reader.stream.shutdown().await);
                    read(reader, &mut message, &mut framing).await;
                    drop(reader.rest().await);
                }
                Move::Drop => {}
            }
            goes_on &= !matches!(step, Move::Silent | Move::Reset | Move::Close | Move::Drop);
        }
        if goes_on {
            read(reader, &mut message, &mut framing).await;
        }
        goes_on &= message.whole;
        self.0.seen.send_modify(|seen| {
            // Another case may have begun, which has forgotten this one.
            if let Some(noted) = seen.get_mut(index) {
                *noted = message;
            }
        });
        goes_on
    }

    fn note(&self, message: Message) -> usize {
        let mut index = 0;
        self.0.seen.send_modify(|seen| {
            index = seen.len();
            seen.push(message);
        });
        index
    }
}

async fn read(reader: &mut Reader, message: &mut Message, framing: &mut Framing) {
    while !message.whole
        && let Some(piece) = reader.piece(framing, message).await
    {
        message.body.extend(piece);
    }
}

async fn echo(reader: &mut Reader, message: &mut Message, framing: &mut Framing) {
    reader.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    while let Some(piece) = reader.piece(framing, message).await {
        reader.send(format!("{:x}\r\n", piece.len()).as_bytes()).await;
        reader.send(&piece).await;
        reader.send(b"\r\n").await;
        message.body.extend(piece);
    }
    if message.whole {
        reader.send(b"0\r\n\r\n").await;
    }
}
