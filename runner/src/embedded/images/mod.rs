//! (being built)

mod config;
