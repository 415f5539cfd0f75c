//! The request path over real sockets: what clients and replicas see of each other through the gateway.

mod connect;
mod framing;
mod gate;
mod grpc;
mod h2c;
mod headers;
mod http1;
mod http2;
mod limits;
mod replica;
mod retry;
mod route;
mod stream;
mod upgrade;
mod uploads;
