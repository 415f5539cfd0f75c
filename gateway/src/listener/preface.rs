//! Which version of HTTP a client speaks in clear text: HTTP/2 begins with words that are no request (RFC 9113, 3.4).

use std::{future::poll_fn, io};

use crate::http1::{input::Input, server::Line};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads until it is clear whether the client greets in HTTP/2. What was read stays in `input`.
pub(super) async fn greets(line: &mut Line, input: &mut Input) -> io::Result<bool> {
    loop {
        let read = poll_fn(|cx| input.poll_fill(cx, line)).await?;
        let length = input.bytes.len().min(PREFACE.len());
        if length == PREFACE.len() || read == 0 || input.bytes[..length] != PREFACE[..length] {
            return Ok(input.bytes.starts_with(PREFACE));
        }
    }
}
