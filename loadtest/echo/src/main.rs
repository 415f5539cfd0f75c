//! The sample service of the demo, the tests and the benches: one small static binary, one thread, ready in a few
//! milliseconds. Speaks HTTP/1.1 and prior-knowledge HTTP/2 on `$PORT` (8080).
//!
//! `START_DELAY_MS` listens later, `FAIL_START=1` never starts, `SERVICE_MS` makes each answer take that long,
//! `UNREADY_MS` answers 503 at first, `IDLE_CLOSE_MS` closes idle connections early, `IGNORE_TERM=1` does not end when
//! told to, `ECHO_NAME` is the name that it calls itself. Paths: see [`routes`]. `SIGTERM` finishes running requests, then ends.

mod body;
mod frames;
mod routes;
mod server;
mod settings;
mod upgrade;

use std::process::ExitCode;

use settings::Settings;

fn main() -> ExitCode {
    let settings = match Settings::from_env() {
        Ok(settings) => settings,
        Err(reason) => {
            eprintln!("echo: cannot start: {reason}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(server::run(settings))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}
