//! Tidegate's own engine: OCI images run on this machine, with no daemon between.

pub mod cgroup;
mod images;
mod network;
mod options;
mod process;
pub mod shim;
mod task;

pub use options::{Options, ShimProgram};
