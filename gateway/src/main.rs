//! The `tidegate` program: an allocator and a command line. Everything else is in the library.

use std::process::ExitCode;

/// Requests are short-lived allocations on many threads, which the system's allocator does slowly.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidegate::cli::main()
}
