//! A file that holds a file system of a limited size, for what a replica writes to disk.

use std::{fs::File, path::Path, process::Command};

use tidegate_config::units::Bytes;

use super::failure::{Context, Failure, Result};

/// Where programs of the system are; the shim has no PATH of its own.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Mounts the file at `at`; it is made first if it is absent.
pub(super) fn mount(file: &Path, limit: Bytes, at: &Path) -> Result<()> {
    if !file.exists() {
        let new = file.with_extension("new");
        make(&new, limit)?;
        std::fs::rename(&new, file).context(|| file.display().to_string())?;
    }
    // The loop device goes with the mount, and the mount with the shim.
    let options = "loop,nodev,noatime";
    let mut command = command("mount");
    command.args(["-t", "ext4", "-o", options]).arg(file).arg(at);
    run(command, "mount", "loop devices (the kernel module `loop`)")
}

fn make(file: &Path, limit: Bytes) -> Result<()> {
    let sparse = File::create(file).and_then(|made| made.set_len(limit.0));
    sparse.context(|| file.display().to_string())?;
    let mut command = command("mkfs.ext4");
    command
        .args(["-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard"])
        .arg(file);
    run(command, "mkfs.ext4", "the package e2fsprogs")
}

fn command(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env_clear().env("PATH", PATH);
    command
}

fn run(mut command: Command, name: &str, needs: &str) -> Result<()> {
    let instead = "or set `scratch = \"memory\"`, or no `disk`";
    let output = command.output().map_err(|error| {
        Failure::permanent(format!(
            "a limit for the replica's disk needs `{name}`: {error}; install {needs}, {instead}"
        ))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let words = format!(
        "a limit for the replica's disk: `{name}` says: {}; it needs {needs}, {instead}",
        said.trim()
    );
    Err(Failure::permanent(words))
}
