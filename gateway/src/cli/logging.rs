//! Sets up the gateway's log: standard error, as text or JSON, as much as `TIDEGATE_LOG` says. Records of the `log` crate
//! (pingora's) come in by `tracing-subscriber`'s bridge, and quietly.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use super::{LogFormat, output::Misuse};

/// Unless it is named, what runs below the data plane only speaks up when something is wrong.
const QUIET: &str = "pingora=warn,pingora_core=warn";

/// Sets up the log of this process.
///
/// # Errors
/// When `TIDEGATE_LOG` cannot be understood.
pub(super) fn set_up(format: LogFormat) -> anyhow::Result<()> {
    let wanted = std::env::var("TIDEGATE_LOG").ok().filter(|text| !text.trim().is_empty());
    let filter = filter(wanted.as_deref().unwrap_or("info"))?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    match format {
        LogFormat::Text => {
            registry.with(layer.with_target(false).with_ansi(io::stderr().is_terminal())).try_init()?
        }
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init()?,
    }
    Ok(())
}

fn filter(wanted: &str) -> Result<EnvFilter, Misuse> {
    let text = if wanted.contains("pingora") { wanted.to_owned() } else { format!("{wanted},{QUIET}") };
    EnvFilter::try_new(&text).map_err(|error| {
        Misuse(format!(
            "TIDEGATE_LOG={wanted:?} is not understood ({error}); give a level, as in info or debug, or levels by module, as in info,tidegate::control=debug"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pingora_is_quiet_unless_named() {
        for (wanted, has, lacks) in [
            ("info", "pingora_core=warn", "pingora_core=debug"),
            ("debug,pingora_core=debug", "pingora_core=debug", "pingora_core=warn"),
        ] {
            let filter = filter(wanted).expect("a filter").to_string();
            assert!(filter.contains(has) && !filter.contains(lacks), "{wanted}: {filter}");
        }
        assert!(filter("tidegate=loud").is_err());
    }
}
