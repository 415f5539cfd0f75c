//! HTTP/1.1 messages from a connection, byte by byte and strictly: what breaks the rules for what a gateway may send is a
//! fault, not a variation. Used for what the gateway sends to either side.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::Message;

/// Read at once, about.
const PIECE: usize = 64 << 10;

/// Where a message's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(usize),
    Chunked,
    /// With the connection.
    Close,
}

/// A connection, with what was read and not yet looked at.
pub(super) struct Reader {
    pub(super) stream: TcpStream,
    buffer: Vec<u8>,
    /// Nothing more comes.
    ended: bool,
}

impl Reader {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::with_capacity(PIECE), ended: false }
    }

    /// Sends bytes, and takes in meanwhile what comes, so that neither side waits for the other. The other end may have gone.
    pub(super) async fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.buffer.reserve(PIECE);
            let (mut read, mut write) = self.stream.split();
            // Cancel-safe: what is not read or written stays where it is.
            tokio::select! {
                sent = write.write(bytes) => match sent {
                    Ok(sent) => bytes = &bytes[sent..],
                    Err(_) => return,
                },
                got = read.read_buf(&mut self.buffer), if !self.ended => self.ended = !matches!(got, Ok(1..)),
            }
        }
    }

    /// Everything that still comes.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.buffer)
    }

    /// A message's head with its empty line; `None` at the connection's end, or what came of it.
    pub(super) async fn head(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = self.buffer.split_off(at + 4);
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            if !self.more().await {
                return match &self.buffer[..] {
                    [] => Ok(None),
                    some => Err(format!("no head: {:?}", String::from_utf8_lossy(some))),
                };
            }
        }
    }

    /// The next piece of a body; `None` at its end, which leaves trailers in `message`.
    pub(super) async fn piece(&mut self, framing: &mut Framing, message: &mut Message) -> Option<Vec<u8>> {
        match framing {
            Framing::None | Framing::Length(0) => {
                message.whole = true;
                None
            }
            Framing::Length(left) => {
                if self.buffer.is_empty() && !self.more().await {
                    return None;
                }
                let rest = self.buffer.split_off((*left).min(self.buffer.len()));
                let piece = std::mem::replace(&mut self.buffer, rest);
                *left -= piece.len();
                Some(piece)
            }
            Framing::Close => {
                if self.buffer.is_empty() && !self.more().await {
                    message.whole = true;
                    return None;
                }
                Some(std::mem::take(&mut self.buffer))
            }
            Framing::Chunked => self.chunk(message).await,
        }
    }

    async fn chunk(&mut self, message: &mut Message) -> Option<Vec<u8>> {
        let line = self.line().await?;
        let Ok(size) = usize::from_str_radix(&line, 16) else {
            message.fault.get_or_insert(format!("a chunk of size {line:?}"));
            return None;
        };
        if size > 0 {
            while self.buffer.len() < size + 2 {
                if !self.more().await {
                    return None;
                }
            }
            let rest = self.buffer.split_off(size + 2);
            let mut piece = std::mem::replace(&mut self.buffer, rest);
            if piece.split_off(size) != b"\r\n" {
                message.fault.get_or_insert("a chunk without its end".into());
                return None;
            }
            return Some(piece);
        }
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                message.whole = true;
                return None;
            }
            match field(&line) {
                Ok(field) => message.trailers.push(field),
                Err(fault) => drop(message.fault.get_or_insert(fault)),
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let rest = self.buffer.split_off(at + 2);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.truncate(at);
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn more(&mut self) -> bool {
        self.buffer.reserve(PIECE);
        self.ended = self.ended || !matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..));
        !self.ended
    }
}

/// A head's first line, and its fields as a message. Faults are kept in it, the first one wins.
pub(super) fn head(bytes: &[u8]) -> (String, Message) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let mut message = Message::default();
    for line in lines {
        match field(line) {
            Ok(field) => message.fields.push(field),
            Err(fault) => drop(message.fault.get_or_insert(fault)),
        }
    }
    if first.contains(['\r', '\n', '\0']) {
        message.fault.get_or_insert(format!("a first line {first:?}"));
    }
    (first, message)
}

fn field(line: &str) -> Result<(String, String), String> {
    let fault = || format!("a field {line:?}");
    let (name, value) = line.split_once(':').ok_or_else(fault)?;
    let is_token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    if name.is_empty() || !name.bytes().all(is_token) || value.contains(['\r', '\n', '\0']) {
        return Err(fault());
    }
    Ok((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()))
}

/// How a message is framed: by exactly one means.
pub(super) fn framing(message: &mut Message, otherwise: Framing) -> Framing {
    let (codings, lengths) = (message.all("transfer-encoding"), message.all("content-length"));
    let (framing, fault) = match (&codings[..], &lengths[..]) {
        ([], []) => (otherwise, None),
        (["chunked"], []) => (Framing::Chunked, None),
        ([], [length]) => match length.parse() {
            Ok(size) if length.bytes().all(|c| c.is_ascii_digit()) => (Framing::Length(size), None),
            _ => (Framing::None, Some(format!("a length of {length:?}"))),
        },
        _ => (Framing::None, Some(format!("framed as {codings:?} and {lengths:?}"))),
    };
    if let Some(fault) = fault {
        message.fault.get_or_insert(fault);
    }
    framing
}
