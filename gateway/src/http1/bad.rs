//! What is wrong with bytes that should be HTTP/1.1. Pure.

/// What came is no HTTP/1.1, or leaves open where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Bad {
    /// The parser's word for it.
    #[error("a malformed head: {0}")]
    Head(httparse::Error),
    /// What does not begin as HTTP does.
    #[error("not HTTP/1.1")]
    Alien,
    /// A line that does not end with CR and LF.
    #[error("a line that ends with LF alone")]
    BareLineFeed,
    /// A name or value that no field may have.
    #[error("a malformed field")]
    Field,
    /// A target that is none.
    #[error("a malformed target")]
    Target,
    /// More than we read of it.
    #[error("a head that is too large")]
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
    #[error("too many interim responses")]
    Interim,
}
