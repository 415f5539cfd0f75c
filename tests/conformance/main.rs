//! The parts of `make conformance` that are programs of this package, each started by `tests/conformance/NAME/run` with its
//! name. Each ends with `cases=N failed=M`, and with exit code 1 if M is not 0.

mod differential;
mod http1;
mod upgrades;

use std::{io::Write, net::SocketAddr, process::ExitCode};

use anyhow::bail;
use tempfile::NamedTempFile;

/// How many cases there were, and how many failed.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    cases: usize,
    failed: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let part = std::env::args().nth(1).unwrap_or_default();
    let Tally { cases, failed } = match part.as_str() {
        "differential" => differential::run().await?,
        "http1" => http1::run().await?,
        "upgrades" => upgrades::run().await?,
        // As `cargo bench` would start it.
        "" | "--bench" => bail!("scripts/conformance starts this"),
        other => bail!("there is no part {other} here"),
    };
    println!("cases={cases} failed={failed}");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A file for a gateway; it ends with a service, which is at this address.
fn file(start: &str, service: SocketAddr) -> anyhow::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile()?;
    writeln!(file, "{start}upstreams = [\"{service}\"]")?;
    Ok(file)
}
