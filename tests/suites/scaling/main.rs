//! How many replicas there are, and what becomes of those that fail: a real gateway over a scripted engine.

mod asked;
mod engine;
mod failing;
mod image;
mod load;
