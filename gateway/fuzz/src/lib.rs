//! What the fuzz targets hold the gateway's pure files to. They are compiled by themselves: the rest of the gateway is
//! not built for it.

pub mod config;
pub mod forwarded;
pub mod http1;
pub mod proxy;
pub mod router;
mod tidegate;
