//! `tidegate init`: a first file, with comments.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Args;
use tidegate_config::Format;

use super::output::{Misuse, print};

/// The file when none is named.
const DEFAULT: &str = "tidegate.toml";

#[derive(Debug, Args)]
pub(super) struct Init {
    /// The file to write
    #[arg(default_value = DEFAULT)]
    file: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Init) -> anyhow::Result<ExitCode> {
    let file = &args.file;
    if Format::of(file) != Format::Toml {
        let toml = file.with_extension("toml");
        return Err(Misuse(format!("what init writes is TOML; name it {}", toml.display())).into());
    }
    write(file, args.force)?;
    let config =
        if file == Path::new(DEFAULT) { String::new() } else { format!(" --config {}", file.display()) };
    print(&format!(
        "wrote {}\nnext: set the image of the service in it, then run `tidegate up{config}`\n",
        file.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, force: bool) -> anyhow::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).create_new(!force);
    let mut file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{} is there already; use --force to replace it, or name another file", path.display())
        }
        opened => opened.with_context(|| format!("cannot write {}", path.display()))?,
    };
    file.write_all(tidegate_config::TEMPLATE.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}
