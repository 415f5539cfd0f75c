//! From bytes to a checked value.
//!
//! The pipeline: file > [`load`] > `tree` (keys and values with places) > `merge` (figment: the environment over the
//! file) > `decode` and `raw` (the table of keys) > `check` (ranges, references, defaults) > [`model::Model`], or
//! [`Problems`]: all of them at once, each with file, line and column. [`diff`] compares two models.

pub mod address;
mod advice;
mod check;
pub mod constraint;
mod decode;
mod describe;
mod diff;
mod endpoint;
mod env;
mod files;
pub mod hashed;
mod load;
mod merge;
pub mod model;
pub mod name;
mod notes;
mod problem;
mod raw;
mod revision;
mod schema;
pub mod spec;
mod template;
mod tree;
pub mod units;
pub mod written;

pub use describe::{Described, Description, HIDDEN, Settings, describe, describe_gateway, describe_service};
pub use diff::{Change, diff};
pub use load::{Format, load, parse};
pub use notes::notes;
pub use problem::{Also, Excerpt, Place, Problem, Problems};
pub use revision::{revision, same_revision};
pub use schema::{configuration_markdown, json_schema};
pub use template::TEMPLATE;
