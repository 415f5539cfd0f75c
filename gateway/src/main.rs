//! The `tidegate` program: an allocator and a command line. Everything else is in the library. The same program, started
//! as `tidegate shim`, watches over one replica of the embedded engine.

use std::process::ExitCode;

/// Requests are short-lived allocations on many threads, which the system's allocator does slowly.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else: a shim has one thread and little memory, and there are many.
    if std::env::args_os().nth(1).is_some_and(|word| word == tidegate::cli::SHIM) {
        return tidegate_runner::embedded::shim::main(std::env::args_os().skip(2));
    }
    tidegate::cli::main()
}
