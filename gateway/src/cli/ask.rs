//! `tidegate wake`, `sleep` and `restart`: ask for it, wait until it is so.

use std::{process::ExitCode, time::Duration};

use anyhow::anyhow;
use clap::Args;
use tokio::time::timeout;

use super::{
    Gateway,
    client::Client,
    output::{print, print_json},
};

#[derive(Debug, Args)]
pub(super) struct Ask {
    /// The service
    service: String,
    /// How long to wait for it
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Print the gateway's answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gateway: Gateway,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wish {
    Wake,
    Sleep,
    Restart,
}

impl Wish {
    /// Below the service in the admin API.
    fn path(self) -> &'static str {
        match self {
            Self::Wake => "/wake",
            Self::Sleep => "/sleep",
            Self::Restart => "/restart",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Wake => "ready",
            Self::Sleep => "asleep",
            Self::Restart => "restarted",
        }
    }
}

pub(super) async fn run(wish: Wish, args: Ask) -> anyhow::Result<ExitCode> {
    let Ask { service, timeout: patience, .. } = &args;
    let client = Client::new(&args.gateway);
    let answer = timeout(*patience, client.ask(service, wish.path())).await.map_err(|_| {
        let patience = humantime::format_duration(*patience);
        anyhow!("{service} was not {} within {patience}; `tidegate explain {service}` says why", wish.done())
    })??;
    if args.json {
        print_json(&answer)?;
    } else {
        print(&format!("{service}: {}\n", wish.done()))?;
    }
    Ok(ExitCode::SUCCESS)
}
