//! The shim alone, for the tests of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidegate_runner::embedded::shim::main(std::env::args_os().skip(1))
}
