//! `tidegate rollback`: go back to an earlier version of a service, and wait until it serves.

use std::{process::ExitCode, time::Duration};

use anyhow::anyhow;
use clap::Args;
use tokio::time::timeout;

use super::{Gateway, client::Client, output::print};
use crate::control::status::Explanation;

#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// The service
    service: String,
    /// The revision to go back to [default: the one before the current one]; `tidegate explain` lists them
    revision: Option<String>,
    /// How long to wait for it
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    gateway: Gateway,
}

pub(super) async fn run(args: Rollback) -> anyhow::Result<ExitCode> {
    let Rollback { service, revision, timeout: patience, .. } = &args;
    let client = Client::new(&args.gateway);
    let hexadecimal = |text: &String| !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit());
    if let Some(strange) = revision.as_ref().filter(|revision| !hexadecimal(revision)) {
        return Err(anyhow!("{strange:?} is not a revision; `tidegate explain {service}` lists them"));
    }
    let query = revision.as_ref().map(|revision| format!("?to={revision}")).unwrap_or_default();
    timeout(*patience, client.ask(service, &format!("/rollback{query}"))).await.map_err(|_| {
        let patience = humantime::format_duration(*patience);
        anyhow!("{service} does not serve it after {patience}; `tidegate explain {service}` says why")
    })??;
    let now: Explanation = client.service(service).await?;
    let revision = now.status.revision.unwrap_or_default();
    print(&format!(
        "{service}: runs revision {revision}; `tidegate restart {service}` goes forward again\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}
