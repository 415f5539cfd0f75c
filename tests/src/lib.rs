//! What the suites, the benches and the demo share.

pub mod eventually;
pub mod process;
