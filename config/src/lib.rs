//! From bytes to a checked value.
//!
//! The pipeline: file > `load` (figment: defaults < file < environment) > [`raw`] > [`check`] > [`model::Model`], or all
//! problems at once, each with file, line and column.

pub mod model;
pub mod name;
pub mod spec;
pub mod units;
