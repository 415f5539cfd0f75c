//! What the suites, the benches and the demo share.

pub mod chaos;
pub mod client;
pub mod eventually;
pub mod origin;
pub mod process;
pub mod sim;
pub mod targets;
pub mod world;
