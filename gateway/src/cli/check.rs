//! `tidegate check`: everything that is wrong with a file, without running it.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use serde::Serialize;
use serde_json::json;
use tidegate_config::model::Model;
use tidegate_runner::kubernetes::Kubernetes;

use super::{
    client::wait_for,
    config_file, environment,
    output::{print, print_json},
};
use crate::{notes, tls};

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The configuration file [default: tidegate.toml, or else .yaml, .yml or .json, in the current folder]
    #[arg(env = "TIDEGATE_CONFIG")]
    file: Option<PathBuf>,
    /// The same, as `up` takes it
    #[arg(short, long, value_name = "FILE", hide = true, conflicts_with = "file")]
    config: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Check) -> anyhow::Result<ExitCode> {
    let file = config_file(args.config.as_deref().or(args.file.as_deref()))?;
    let name = file.display().to_string();
    match tidegate_config::load(&file, environment()) {
        Ok(model) => {
            let services: Vec<&str> = model.services.keys().map(|name| name.as_str()).collect();
            let troubles = Troubles { certificates: tls::trouble(&model), clusters: clusters(&model)? };
            if troubles != Troubles::default() {
                return bad(args, &name, &troubles);
            }
            let notes = notes::notes(&model);
            if args.json {
                print_json(&json!({ "file": name, "ok": true, "services": services, "notes": notes }))?;
            } else {
                let plural = if services.len() == 1 { "" } else { "s" };
                let notes = notes::lines(&notes);
                print(&format!("{name}: ok, {} service{plural}\n{notes}", services.len()))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            if args.json {
                print_json(&json!({ "file": name, "ok": false, "problems": problems }))?;
            } else {
                // Whoever reads may have closed the pipe.
                drop(writeln!(std::io::stderr(), "{problems}"));
            }
            Ok(ExitCode::from(2))
        }
    }
}

/// What is wrong with files that the file names.
#[derive(Default, PartialEq, Serialize)]
struct Troubles {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificates: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    clusters: Vec<String>,
}

/// Kubeconfigs that keep the gateway from starting. One that the file does not name may be another machine's affair.
fn clusters(model: &Model) -> anyhow::Result<Vec<String>> {
    let named = model.hosts.iter().filter(|host| host.kubernetes.kubeconfig.is_some());
    let mut troubles = Vec::new();
    for host in named {
        if let Err(error) = wait_for(Kubernetes::check(&host.kubernetes))? {
            troubles.push(format!("hosts.{}.kubernetes: {error}", host.name));
        }
    }
    Ok(troubles)
}

/// The file is fine, but not what it names.
fn bad(args: &Check, name: &str, troubles: &Troubles) -> anyhow::Result<ExitCode> {
    if args.json {
        let mut said = json!(troubles);
        said["file"] = json!(name);
        said["ok"] = json!(false);
        print_json(&said)?;
    } else {
        let lines = [&troubles.certificates[..], &troubles.clusters].concat();
        drop(writeln!(std::io::stderr(), "{}", lines.join("\n")));
    }
    Ok(ExitCode::from(2))
}
