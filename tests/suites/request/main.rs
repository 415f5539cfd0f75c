//! The request path over real sockets: what clients and replicas see of each other through the gateway.

mod framing;
mod gate;
mod headers;
mod http1;
mod http2;
mod retry;
mod route;
mod stream;
mod upgrade;
