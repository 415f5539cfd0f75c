//! How one gateway takes over from another without a gap: listening sockets pass from process to process, the old one
//! finishes its requests beside the new one and each knows what the other runs.

pub(crate) mod share;
pub mod wire;
