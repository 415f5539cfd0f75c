//! `tidegate plan`: what a file would change in the running gateway. The file is loaded here, with the same errors as
//! `check`; the gateway tells what it runs with; [`compare`] says what differs and [`text`] puts it into words.

mod compare;
mod text;

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use serde_json::json;
use tidegate_config::{Description, describe};

use super::{
    Gateway,
    client::Client,
    config_file, environment,
    output::{print, print_json},
};
use crate::{control::status::ServiceStatus, notes};

#[derive(Debug, Args)]
pub(super) struct Plan {
    /// The configuration file [default: tidegate.toml, or else .yaml, .yml or .json, in the current folder]
    #[arg(env = "TIDEGATE_CONFIG")]
    file: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gateway: Gateway,
}

pub(super) async fn run(args: Plan) -> anyhow::Result<ExitCode> {
    let file = config_file(args.file.as_deref())?;
    let name = file.display().to_string();
    let model = match tidegate_config::load(&file, environment()) {
        Ok(model) => model,
        Err(problems) if args.json => {
            print_json(&json!({ "file": name, "ok": false, "problems": problems }))?;
            return Ok(ExitCode::from(2));
        }
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(ExitCode::from(2));
        }
    };
    let client = Client::new(&args.gateway);
    let running: Description = client.configuration().await?;
    let services: Vec<ServiceStatus> = client.services().await?;
    let changes = compare::compare(&running, &describe(&model), &services);
    let notes = notes::notes(&model);
    if args.json {
        print_json(&json!({ "file": name, "ok": true, "changes": changes, "notes": notes }))?;
    } else {
        print(&(text::text(&changes) + &notes::lines(&notes)))?;
    }
    Ok(ExitCode::SUCCESS)
}
