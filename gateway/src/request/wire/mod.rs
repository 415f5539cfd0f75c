//! HTTP/1.1 towards replicas, spoken in the task of the client's own connection: no task for a connection, no channel
//! between the two, and no copy of a head. [`Home::send`] takes a kept connection or opens one, writes the head (with the
//! first bytes of the body, where they are there), and reads until the response's head is whole; the body is then read by
//! whoever polls the [`Reply`], which goes on with the upload meanwhile and takes the connection home at its end.
//!
//! [`encode`], [`head`], [`fields`], [`framing`] and [`chunked`] are pure: bytes in, values out. They take a response whose
//! end could be read in two ways for a broken one (RFC 9112, 6.3). Absent: retries, HTTP/2, and what fields mean.

mod chunked;
mod connection;
mod encode;
mod fields;
mod framing;
mod head;
mod home;
mod output;
mod reply;
mod upload;

pub(crate) use self::{
    home::Home,
    reply::{Reply, Tunnel},
};

/// What a replica said is no HTTP/1.1, or leaves open where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Bad {
    /// The parser's word for it.
    #[error("a malformed head: {0}")]
    Head(httparse::Error),
    /// A line that does not end with CR and LF.
    #[error("a line that ends with LF alone")]
    BareLineFeed,
    /// A name or value that no field may have.
    #[error("a malformed field")]
    Field,
    /// More than we read of it.
    #[error("a head of more than {} bytes", head::MOST_BYTES)]
    TooLarge,
    /// The length is no number, or two of them.
    #[error("a Content-Length that is not one number")]
    Length,
    /// Another coding than `chunked`, or one in HTTP/1.0.
    #[error("a Transfer-Encoding other than chunked")]
    Coding,
    /// Both a length and a coding.
    #[error("both Content-Length and Transfer-Encoding")]
    TwoFramings,
    /// Not a chunk's size line, or no line's end behind its data.
    #[error("a malformed chunk")]
    Chunk,
    /// The connection ended before the body did.
    #[error("the connection ended within the body")]
    Truncated,
    /// An endless row of interim responses.
    #[error("more than {} interim responses", connection::MOST_INTERIM)]
    Interim,
}
