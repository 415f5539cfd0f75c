//! HTTP/1.1 as bytes: heads, framings and bodies, read and written. Towards clients it is spoken by [`server`], towards
//! replicas by [`wire`](crate::request::wire); what both need is here, and pure but for [`input`] and [`output`]: bytes in,
//! values out.
//!
//! Holds: a message whose end could be read in two ways is refused (RFC 9112, 6.3), and what is written is canonical. Absent:
//! what fields mean, HTTP/2, and tasks, timers or copies of its own for a request.

mod bad;
pub(crate) mod chunked;
pub(crate) mod encode;
pub(crate) mod fields;
pub(crate) mod framing;
pub(crate) mod input;
pub(crate) mod output;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod rewound;
pub(crate) mod server;

pub(crate) use self::bad::Bad;
