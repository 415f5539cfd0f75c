//! Which images go. Pure: times and sizes are arguments.
