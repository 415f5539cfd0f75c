//! The head of an answer in HTTP/1.1: its code, how its body ends, and what the server says about itself. `[P]`

use std::time::Duration;

use crate::record::Told;

/// Headers at most.
const MOST: usize = 100;

/// What the head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) code: u16,
    pub(crate) framing: Framing,
    /// Whether the connection stays open behind the answer.
    pub(crate) keeps: bool,
    pub(crate) told: Told,
}

/// How the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After so many bytes.
    Length(u64),
    Chunked,
    /// With the connection.
    UntilClose,
}

/// Not an answer in HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads a head and says how long it is; `None` if more bytes are needed.
pub(crate) fn parse(bytes: &[u8], to_head_request: bool) -> Result<Option<(Head, usize)>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; MOST];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Malformed),
    };
    let code = response.code.ok_or(Malformed)?;
    let mut said = Said { keeps: response.version == Some(1), ..Said::default() };
    for header in response.headers.iter() {
        said.note(header.name, header.value)?;
    }
    let framing = match (to_head_request, code) {
        (true, _) | (_, 100..200 | 204 | 304) => Framing::Length(0),
        (false, _) if said.chunked => Framing::Chunked,
        (false, _) => said.length.map_or(Framing::UntilClose, Framing::Length),
    };
    Ok(Some((
        Head { code, framing, keeps: said.keeps && framing != Framing::UntilClose, told: said.told },
        length,
    )))
}

#[derive(Default)]
struct Said {
    length: Option<u64>,
    chunked: bool,
    keeps: bool,
    told: Told,
}

impl Said {
    fn note(&mut self, name: &str, value: &[u8]) -> Result<(), Malformed> {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            10 if is("connection") => {
                let text = std::str::from_utf8(value).map_err(|_| Malformed)?;
                let has = |word: &str| text.split(',').any(|part| part.trim().eq_ignore_ascii_case(word));
                self.keeps = !has("close") && (self.keeps || has("keep-alive"));
            }
            13 if is("server-timing") => tell(&mut self.told, value),
            14 if is("content-length") => self.length = Some(number(value).ok_or(Malformed)?),
            15 if is("x-tidegate-cold") => self.told.cold = value == b"1",
            17 if is("transfer-encoding") => {
                self.chunked = value.len() >= 7 && value[value.len() - 7..].eq_ignore_ascii_case(b"chunked");
            }
            _ => {}
        }
        Ok(())
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Notes `queue;dur=1.5, start;dur=0, upstream;dur=20`, in milliseconds; other names are the server's business.
pub(crate) fn tell(told: &mut Told, timing: &[u8]) {
    let Ok(timing) = std::str::from_utf8(timing) else { return };
    for metric in timing.split(',') {
        let mut parts = metric.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let length = parts.find_map(|part| part.strip_prefix("dur=")?.parse::<f64>().ok());
        let length = length.and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok());
        match name {
            "queue" => told.queue = length,
            "start" => told.start = length,
            "upstream" => told.upstream = length,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str, to_head_request: bool) -> Option<(u16, Framing, bool)> {
        let (head, length) = parse(text.as_bytes(), to_head_request).expect(text)?;
        assert_eq!(length, text.len(), "{text}");
        Some((head.code, head.framing, head.keeps))
    }

    #[test]
    fn how_bodies_end() {
        use Framing::{Chunked, Length, UntilClose};
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", (200, Length(5), true)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", (200, Chunked, true)),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, Chunked\r\nconnection: close\r\n\r\n",
                (200, Chunked, false),
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", (200, UntilClose, false)),
            ("HTTP/1.1 204 No Content\r\n\r\n", (204, Length(0), true)),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", (304, Length(0), true)),
            ("HTTP/1.1 103 Early Hints\r\n\r\n", (103, Length(0), true)),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", (200, Length(5), false)),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n\r\n",
                (200, Length(5), true),
            ),
            ("HTTP/1.1 503 \r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n", (503, Length(0), false)),
        ] {
            assert_eq!(head(text, false), Some(expected), "{text}");
        }
        assert_eq!(head("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true), Some((200, Length(0), true)));
    }

    #[test]
    fn half_a_head_and_none() {
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(parse(&whole.as_bytes()[..end], false), Ok(None), "{end}");
        }
        for text in ["hello world, this is no head\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n"]
        {
            assert_eq!(parse(text.as_bytes(), false), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn what_the_server_says_about_itself() {
        let text = "HTTP/1.1 200 OK\r\nServer-Timing: queue;dur=1.5, start;desc=\"x\";dur=20, cdn;dur=3, upstream;dur=x\r\n\
                    X-Tidegate-Cold: 1\r\ncontent-length: 0\r\n\r\n";
        let (head, _) = parse(text.as_bytes(), false).expect(text).expect("whole");
        let us = |us| Some(Duration::from_micros(us));
        assert_eq!(head.told, Told { cold: true, queue: us(1500), start: us(20_000), upstream: None });
    }
}
