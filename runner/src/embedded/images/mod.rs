//! (being built)

mod config;
mod reference;
mod source;
mod unpack;
