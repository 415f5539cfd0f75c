//! What the environment asks for, read once at the start.

use std::{env, fs, time::Duration};

/// The settings of one run.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where to listen.
    pub(crate) port: u16,
    /// How long to wait before listening.
    pub(crate) start_delay: Duration,
    /// How long each answer takes.
    pub(crate) service_time: Duration,
    /// How long all answers are 503, from when it listens.
    pub(crate) unready: Duration,
    /// How long a connection may be idle before it is closed, without a word; 0: for ever.
    pub(crate) idle_close: Duration,
    /// Whether it goes on when it is told to end.
    pub(crate) ignore_term: bool,
    /// The name in the answer to `/`.
    pub(crate) name: String,
    /// The machine's name: in a container, the container's.
    pub(crate) hostname: String,
}

impl Settings {
    /// Reads the environment; the error says which variable is wrong, or that failing was asked for.
    pub(crate) fn from_env() -> Result<Self, String> {
        if env::var("FAIL_START").is_ok_and(|value| value == "1") {
            return Err("FAIL_START=1 asks for a failed start".to_owned());
        }
        Ok(Self {
            port: number("PORT", 8080)?,
            start_delay: Duration::from_millis(number("START_DELAY_MS", 0)?),
            service_time: Duration::from_millis(number("SERVICE_MS", 0)?),
            unready: Duration::from_millis(number("UNREADY_MS", 0)?),
            idle_close: Duration::from_millis(number("IDLE_CLOSE_MS", 0)?),
            ignore_term: env::var("IGNORE_TERM").is_ok_and(|value| value == "1"),
            name: env::var("ECHO_NAME").unwrap_or_else(|_| "echo".to_owned()),
            hostname: fs::read_to_string("/proc/sys/kernel/hostname")
                .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned()),
        })
    }
}

fn number<N: std::str::FromStr>(name: &str, default: N) -> Result<N, String> {
    match env::var(name) {
        Ok(text) => text.parse().map_err(|_| format!("{name}={text:?}: expected a whole number")),
        Err(_) => Ok(default),
    }
}
