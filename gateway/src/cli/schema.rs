//! `tidegate schema`: what editors check a file against.

use std::process::ExitCode;

use super::output::print_json;

pub(super) fn run() -> anyhow::Result<ExitCode> {
    print_json(&tidegate_config::json_schema())?;
    Ok(ExitCode::SUCCESS)
}
