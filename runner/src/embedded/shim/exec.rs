//! Runs a command beside a replica's program: as the same user, with the same environment and the same limits.

use std::{fs::File, io, os::fd::AsFd, process::ExitCode};

use libcontainer::{
    container::builder::ContainerBuilder, oci_spec::runtime::Process as Description,
    syscall::syscall::SyscallType,
};
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::wait::{WaitStatus, waitpid},
};

use super::{
    failure::{Context, Failure, Result},
    init::Init,
    run::read,
};
use crate::embedded::{
    cgroup::Cgroup,
    process::started,
    task::{Folder, Run, Task},
};
use crate::error::chain;

/// What says that the command could not even be tried.
const CANNOT: u8 = 126;

/// The command's exit code becomes this process's.
pub(super) fn exec(folder: &Folder, command: &[String]) -> ExitCode {
    match run(folder, command) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(Failure { message, .. }) => {
            eprintln!("{message}");
            ExitCode::from(CANNOT)
        }
    }
}

fn run(folder: &Folder, command: &[String]) -> Result<i32> {
    let task: Task = read(&folder.task())?;
    let run: Run = read(&folder.run())?;
    // Opened first: what is compared below is what was opened.
    let opened = File::open(format!("/proc/{}/ns/mnt", run.shim.pid));
    let alive = started(run.shim.pid).context(|| "the shim".into())? == Some(run.shim.started);
    let (Ok(namespace), true) = (opened, alive) else {
        return Err(Failure::retryable(format!("{} does not run", task.id)));
    };
    let cgroup = Cgroup::of(&task.cgroup);
    if cgroup.is_frozen() {
        return Err(Failure::retryable(format!("{} is frozen", task.id)));
    }
    cgroup.join().context(|| "the replica's control group".into())?;
    // Where the shim is, there is what libcontainer keeps of the replica.
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS)
        .context(|| "the shim's mounts cannot be entered".into())?;
    let description: Description = read(&folder.bundle().join("process.json"))?;
    let env = description.env().clone().unwrap_or_default();
    let process = tailored(folder, description, command)?;
    let pid = ContainerBuilder::new(task.id.to_string(), SyscallType::default())
        .with_executor(Init::becoming(command, env)?)
        .with_root_path(folder.bundle().join("state"))
        .and_then(|builder| builder.as_tenant().with_process(Some(&process)).with_detach(true).build());
    drop(std::fs::remove_file(&process));
    let pid =
        pid.map_err(|error| Failure::retryable(format!("the command cannot be run: {}", chain(&error))))?;
    loop {
        match waitpid(nix::unistd::Pid::from_raw(pid.as_raw()), None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(io::Error::from(error)).context(|| "the command".into()),
        }
    }
}

/// The program's own description with the command in its place, where only this process looks for it.
fn tailored(folder: &Folder, mut description: Description, command: &[String]) -> Result<std::path::PathBuf> {
    description.set_args(Some(command.to_vec()));
    let path = folder.bundle().join(format!("process-{}.json", std::process::id()));
    let text = serde_json::to_vec(&description).context(|| "the command's description".into())?;
    std::fs::write(&path, text).context(|| path.display().to_string())?;
    Ok(path)
}
