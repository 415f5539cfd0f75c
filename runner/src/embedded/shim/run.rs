//! From a task to a process that runs: the steps in order.

use std::{
    fs::File,
    io::Read,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    time::SystemTime,
};

use libcontainer::{container::builder::ContainerBuilder, syscall::syscall::SyscallType};
use nix::{
    sched::{CloneFlags, setns},
    unistd::Pid as Process,
};
use serde::Serialize;

use super::{
    failure::{Context, Failure, Result},
    files, fill, init,
    log::Log,
    root, spec,
    user::User,
};
use crate::embedded::{
    cgroup::{Cgroup, Layout, Limits},
    process::started,
    task::{Folder, Mount, Pid, Run, Task},
};
use crate::error::chain;

/// A replica whose process runs, or could not be run.
pub(super) struct Replica {
    pub init: Process,
    pub cgroup: Cgroup,
    /// Where this process belongs from now on. Going there takes some milliseconds, which nobody has to wait for.
    pub shims: Cgroup,
    pub log: Log,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    /// Why its program could not be run.
    pub complaint: Option<String>,
    /// Held while the shim lives, so that there is only one in a folder.
    pub lock: File,
}

/// What the first part of the work leaves for the second.
struct Started {
    init: Process,
    cgroup: Cgroup,
    shims: Cgroup,
    pipes: Pipes,
    complaint: Option<String>,
}

/// Where the first process reports to, and where it prints.
struct Pipes {
    notice: (OwnedFd, OwnedFd),
    stdout: (OwnedFd, OwnedFd),
    stderr: (OwnedFd, OwnedFd),
}

/// Makes the replica's surroundings and starts its process in them.
pub(super) fn start(folder: &Folder) -> Result<Replica> {
    let lock = root::settle(folder)?;
    let task: Task = read(&folder.task())?;
    let log = Log::open(folder.log());
    // The first process is born into the group that this one is in.
    let outside = Cgroup::of(&task.cgroup);
    drop(outside.try_remove());
    let limits = Limits::of(&task.resources, task.profile);
    outside
        .create(&limits)
        .and_then(|()| outside.join())
        .context(|| "the control group cannot be made".into())?;
    let here = File::open("/proc/self/ns/mnt").context(|| "this process's mounts".into())?;
    let started = within(folder, &task);
    let Started { init, cgroup, shims, pipes, complaint } =
        started.inspect_err(|_| leave(&here, &outside, &task))?;
    Ok(Replica { init, cgroup, shims, log, stdout: pipes.stdout.0, stderr: pipes.stderr.0, complaint, lock })
}

/// After a failure: nothing may stay. From where the control groups are at their usual places.
fn leave(outside: &File, cgroup: &Cgroup, task: &Task) {
    setns(outside, CloneFlags::CLONE_NEWNS).ok();
    drop(shims(&task.cgroup, Layout::here()).and_then(|shims| shims.join()));
    drop(cgroup.kill_once());
    root::remove(cgroup);
}

fn within(folder: &Folder, task: &Task) -> Result<Started> {
    let layout = root::namespace(folder, Layout::here())?;
    root::file_system(folder, task)?;
    let user = User::within(&folder.bundle().join("rootfs"), &task.user)?;
    root::working_folder(&folder.bundle().join("rootfs"), &task.cwd, &user)?;
    for mount in &task.mounts {
        let Mount::Bind { source, target, fill, .. } = mount else { continue };
        if !source.exists() {
            let words = format!("there is no {} to be mounted at {target}", source.display());
            return Err(Failure::permanent(words));
        }
        if *fill {
            fill::fill(&folder.bundle().join("rootfs"), target, source)?;
        }
    }
    let env = files::environment(task, &user)?;
    files::write(folder, task, &user)?;
    let spec = spec::spec(task, &user, &env, folder, &layout, open_files()?)?;
    write(&folder.bundle().join("config.json"), &spec)?;
    write(&folder.bundle().join("process.json"), spec.process())?;
    let pipes = Pipes::new(&user)?;
    let (init, pipes, complaint) = build(folder, task, env, pipes)?;
    let cgroup = Cgroup::at(layout.clone(), &task.cgroup);
    let shims = shims(&task.cgroup, &layout).context(|| "the shims' control group cannot be made".into())?;
    Ok(Started { init, cgroup, shims, pipes, complaint })
}

/// How many open files this machine allows.
fn open_files() -> Result<u64> {
    let limits = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    limits.map(|(_, hard)| hard).context(|| "the limit of open files".into())
}

/// The group of the shims themselves: they survive their replicas' limits, and the gateway.
fn shims(path: &str, layout: &Layout) -> std::io::Result<Cgroup> {
    let parent = Path::new(path).parent().unwrap_or(Path::new("/"));
    let shims = Cgroup::at(layout.clone(), &parent.join("shims").to_string_lossy());
    shims.create_plain().map(|()| shims)
}

/// Has the process made, writes down which it is, lets it go, and hears whether its program could be run.
fn build(
    folder: &Folder,
    task: &Task,
    env: Vec<String>,
    pipes: Pipes,
) -> Result<(Process, Pipes, Option<String>)> {
    let first = init::Init::new(task, env, pipes.notice.1.as_fd())?;
    let duplicate = |fd: &OwnedFd| fd.try_clone().context(|| "a pipe cannot be duplicated".into());
    let container = ContainerBuilder::new(task.id.to_string(), SyscallType::default())
        .with_executor(first)
        .with_stdout(duplicate(&pipes.stdout.1)?)
        .with_stderr(duplicate(&pipes.stderr.1)?)
        .with_root_path(folder.bundle().join("state"))
        .map(|builder| builder.as_init(folder.bundle()).with_systemd(false).with_detach(true))
        .and_then(|builder| builder.build());
    let mut container = container.map_err(|error| refused(task, &chain(&error)))?;
    let Some(pid) = container.pid() else { return Err(Failure::retryable("the replica has no process")) };
    let init = Process::from_raw(pid.as_raw());
    write_run(folder, init)?;
    // Not before: the first process would have it as well.
    root::unkillable();
    container.start().map_err(|error| refused(task, &chain(&error)))?;
    let Pipes { notice: (notice, end), stdout: (stdout, out), stderr: (stderr, err) } = pipes;
    // What is left open here would be taken for the replica's.
    drop((end, out, err));
    let mut complaint = String::new();
    drop(
        File::from(notice.try_clone().context(|| "a pipe cannot be duplicated".into())?)
            .read_to_string(&mut complaint),
    );
    let null = || File::open("/dev/null").map(OwnedFd::from).context(|| "/dev/null".into());
    let pipes = Pipes { notice: (notice, null()?), stdout: (stdout, null()?), stderr: (stderr, null()?) };
    Ok((init, pipes, (!complaint.is_empty()).then_some(complaint)))
}

fn refused(task: &Task, why: &str) -> Failure {
    Failure::retryable(format!(
        "the process of {} cannot be made: {why} (shim.err in its folder says more)",
        task.id
    ))
}

fn write_run(folder: &Folder, init: Process) -> Result<()> {
    let pid = |number: i32| {
        let started = started(number).context(|| "a process cannot be looked at".into())?;
        started.map(|started| Pid { pid: number, started }).ok_or_else(|| {
            Failure::retryable("the replica's first process ended before it was let go".to_owned())
        })
    };
    let run = Run {
        shim: pid(i32::try_from(std::process::id()).unwrap_or(0))?,
        init: pid(init.as_raw())?,
        at: SystemTime::now(),
    };
    replace(&folder.run(), &run)
}

impl Pipes {
    fn new(user: &User) -> Result<Self> {
        let pipe = || {
            let (reader, writer) = std::io::pipe().context(|| "a pipe cannot be made".into())?;
            Ok((OwnedFd::from(reader), OwnedFd::from(writer)))
        };
        let pipes = Self { notice: pipe()?, stdout: pipe()?, stderr: pipe()? };
        for (_, writer) in [&pipes.stdout, &pipes.stderr] {
            // So that /dev/stdout can be opened again by who does not run as root.
            let (uid, gid) = (rustix::fs::Uid::from_raw(user.uid), rustix::fs::Gid::from_raw(user.gid));
            rustix::fs::fchown(writer, Some(uid), Some(gid))
                .context(|| "a pipe cannot be given away".into())?;
        }
        Ok(pipes)
    }
}

pub(super) fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).context(|| path.display().to_string())?;
    serde_json::from_slice(&bytes).context(|| path.display().to_string())
}

fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(value).context(|| path.display().to_string())?;
    std::fs::write(path, text).context(|| path.display().to_string())
}

/// Whoever reads sees the old file or the new one.
pub(super) fn replace(path: &Path, value: &impl Serialize) -> Result<()> {
    let aside = path.with_extension("new");
    write(&aside, value)?;
    std::fs::rename(&aside, path).context(|| path.display().to_string())
}
