//! Parts fail, replicas sleep, versions follow each other, and clients see nothing of it.

mod clusters;
mod data;
mod hosts;
mod sleep;
mod update;
