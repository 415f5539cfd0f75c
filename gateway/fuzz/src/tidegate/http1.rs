//! HTTP/1.1 as bytes, without what reads and writes.

#[path = "../../../src/http1/bad.rs"]
mod bad;
#[path = "../../../src/http1/chunked.rs"]
pub(crate) mod chunked;
#[path = "../../../src/http1/encode.rs"]
pub(crate) mod encode;
#[path = "../../../src/http1/fields.rs"]
pub(crate) mod fields;
#[path = "../../../src/http1/framing.rs"]
pub(crate) mod framing;
#[path = "../../../src/http1/request.rs"]
pub(crate) mod request;
#[path = "../../../src/http1/response.rs"]
pub(crate) mod response;

pub(crate) use bad::Bad;
