//! What the suites, the benches and the demo share.

pub mod chaos;
pub mod client;
pub mod corpus;
pub mod debian;
pub mod engine;
pub mod eventually;
pub mod h2c;
pub mod nameserver;
pub mod origin;
pub mod outside;
pub mod process;
pub mod remains;
pub mod secure;
pub mod sim;
pub mod site;
pub mod targets;
pub mod world;
