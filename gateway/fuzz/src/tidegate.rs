//! The gateway's own source.
#![allow(dead_code, unused_imports, reason = "the gateway uses more of it")]

#[path = "../../src/request/headers.rs"]
pub(crate) mod headers;
pub(crate) mod http1;
#[path = "../../src/request/path.rs"]
pub(crate) mod path;
#[path = "../../src/proxy_protocol.rs"]
pub(crate) mod proxy_protocol;
#[path = "../../src/router.rs"]
pub(crate) mod router;
