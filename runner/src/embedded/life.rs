//! Starting, stopping and removing a replica.
//! Holds: a start that fails leaves nothing behind; the folder is the first thing that is made and the first that goes, so
//! that a control group or a place in the network without one is nobody's. What exists already is a state, not an error.

use std::{io, path::Path, sync::Arc, time::Duration, time::SystemTime};

use nix::mount::{MntFlags, MsFlags};
use tidegate_config::{
    name::ReplicaId,
    spec::{Scratch, StartSpec, Target},
};
use tokio::time::timeout;

use super::{
    build,
    cgroup::vanished,
    inner::Inner,
    process::Running,
    record::{Doing, Record},
    task::{self, Folder, Task},
    volumes,
};
use crate::{Error, Event, Kind, Result, docker::mounts::check_sources};

/// How long the kernel may take to end what was killed.
const KILL_WITHIN: Duration = Duration::from_secs(10);
const SIGKILL: i32 = 9;

/// Makes and starts a replica, and tells where it is reached.
pub(super) async fn start(inner: &Arc<Inner>, spec: &StartSpec) -> Result<()> {
    if let Target::Host(host) = &spec.target
        && *host != inner.options.host
    {
        let words = format!("{} is to run on {host}, and this engine is {}'s", spec.id, inner.options.host);
        return Err(Error::new(Kind::Permanent, words));
    }
    let _alone = inner.alone(&spec.id).await;
    if let Some(record) = inner.find(&spec.id)? {
        return start_again(inner, record).await;
    }
    let image = inner.store.image(&spec.digest).await?.ok_or_else(|| {
        let words = format!("no such image: {} ({})", spec.launch.image, spec.digest.short());
        Error::new(Kind::NoImage, words)
    })?;
    check_sources(&spec.launch)?;
    let mounts = volumes::mounts(&inner.options.folder, &spec.launch.volumes)?;
    let record = Record::new(spec, &image.config, SystemTime::now());
    let folder = inner.folders.make(&record).map_err(|error| unmakeable(&spec.id, error))?;
    let started = async {
        let place = inner.network().take(&spec.id).await?;
        let task = build::task(&inner.options.instance, spec, &image, &place, mounts, &inner.servers())?;
        task::write(&folder.task(), &task).map_err(|error| unmakeable(&spec.id, error))?;
        launch(inner, &record, &folder, &task).await
    };
    if let Err(error) = started.await {
        if let Err(left) = clear(inner, &spec.id).await {
            tracing::warn!(id = %spec.id, error = %left, "a start failed and could not be undone");
        }
        return Err(error);
    }
    Ok(())
}

/// Starts a replica whose process ended.
pub(super) async fn restart(inner: &Arc<Inner>, id: &ReplicaId) -> Result<()> {
    let _alone = inner.alone(id).await;
    let record = inner.ours(id)?;
    if let Doing::Running(_) = inner.doing(id) {
        thaw(inner, id)?;
        let doing = inner.doing(id);
        inner.tell_of(record, &doing);
        return Ok(());
    }
    let folder = inner.folders.of(id);
    let task: Option<Task> =
        task::read(&folder.task()).map_err(|error| super::inner::unreadable(id, error))?;
    let mut task = task.ok_or_else(|| Error::new(Kind::Gone, format!("{id} was never started")))?;
    let place = inner.network().take(id).await?;
    // After a restart of the machine it may be another one, and another gateway may answer names.
    (task.namespace, task.hosts) = (place.namespace.clone(), build::hosts(&place, id));
    task.resolv_conf = build::resolv_conf(&inner.servers());
    let folder = inner.folders.begin_again(id, &task).map_err(|error| unmakeable(id, error))?;
    launch(inner, &record, &folder, &task).await
}

/// A start of what is there: by an earlier call, or by one that was cut off.
async fn start_again(inner: &Arc<Inner>, record: Record) -> Result<()> {
    let doing = inner.doing(&record.id);
    if let Doing::Nothing = doing {
        clear(inner, &record.id).await?;
        let words = format!("{} was half made and is removed; start it again", record.id);
        return Err(Error::new(Kind::Retryable, words));
    }
    inner.tell_of(record, &doing);
    Ok(())
}

async fn launch(inner: &Arc<Inner>, record: &Record, folder: &Folder, task: &Task) -> Result<()> {
    if task.resources.scratch == Scratch::Memory {
        mount_scratch(folder, task).map_err(|error| unmakeable(&record.id, error))?;
    }
    let running = inner.shims.start(folder).await?;
    inner.watch(&record.id, running);
    let doing = inner.doing(&record.id);
    inner.tell_of(record.clone(), &doing);
    Ok(())
}

/// Asks the replica's process to end, ends it if it does not within `grace`, and removes it unless it is to be kept.
pub(super) async fn stop(inner: &Arc<Inner>, id: &ReplicaId, grace: Duration, keep: bool) -> Result<()> {
    let _alone = inner.alone(id).await;
    if !inner.has_traces(id) {
        return Ok(());
    }
    // Where the record is gone, nobody knows how to ask.
    let record = inner.find(id).unwrap_or_default();
    if let (Some(record), Doing::Running(running)) = (record, inner.doing(id)) {
        running.signal(record.stop_signal).map_err(|error| stubborn(id, error))?;
        // What is frozen hears nothing.
        thaw(inner, id)?;
        if timeout(grace, running.ended()).await.is_err() {
            kill(inner, id, &running).await?;
        }
    }
    if keep { Ok(()) } else { clear(inner, id).await }
}

/// Removes a replica, whatever it is doing.
pub(super) async fn remove(inner: &Arc<Inner>, id: &ReplicaId) -> Result<()> {
    let _alone = inner.alone(id).await;
    if !inner.has_traces(id) {
        return Ok(());
    }
    clear(inner, id).await
}

/// Ends and removes everything of a replica. The folder goes first: a shim that is just beginning then finds nothing to
/// begin with.
pub(super) async fn clear(inner: &Arc<Inner>, id: &ReplicaId) -> Result<()> {
    if let Doing::Running(running) = inner.doing(id) {
        kill(inner, id, &running).await?;
    }
    let left = inner.folders.take_away(id).map_err(|error| unmakeable(id, error))?;
    let cgroup = inner.cgroup(id);
    // A shim that was ended from outside may have left something.
    cgroup.kill().await.map_err(|error| stubborn(id, error))?;
    cgroup.remove().await.map_err(|error| stubborn(id, error))?;
    inner.network().release(id).await?;
    inner.events.tell(Event::Gone(id.clone()));
    if let Some(left) = left {
        inner.tasks.spawn_blocking(move || delete(&left));
    }
    Ok(())
}

async fn kill(inner: &Inner, id: &ReplicaId, running: &Running) -> Result<()> {
    running.signal(SIGKILL).map_err(|error| stubborn(id, error))?;
    thaw(inner, id)?;
    match timeout(KILL_WITHIN, running.ended()).await {
        Ok(ended) => ended.map_err(|error| stubborn(id, error)),
        Err(_) => {
            let words = format!("{id} was killed and has not ended within {} s", KILL_WITHIN.as_secs());
            Err(Error::new(Kind::Retryable, words))
        }
    }
}

/// Lets the replica's processes go on, if there are any.
fn thaw(inner: &Inner, id: &ReplicaId) -> Result<()> {
    match inner.cgroup(id).thaw() {
        Err(error) if !vanished(&error) => Err(stubborn(id, error)),
        _ => Ok(()),
    }
}

/// Deletes a folder of which nobody knows any more.
pub(super) fn delete(folder: &Path) {
    unmount_scratch(&Folder(folder.to_owned()));
    if let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "cannot delete what is left of a replica");
    }
}

/// What a replica writes outside of volumes, in memory: here and not in the shim, so that it outlives a stop.
fn mount_scratch(folder: &Folder, task: &Task) -> io::Result<()> {
    if folder.scratch().join("upper").exists() {
        return Ok(());
    }
    let limit = task.resources.disk.unwrap_or(task.resources.memory);
    let options = format!("mode=0700,size={}", limit.0);
    let none: Option<&str> = None;
    nix::mount::mount(
        Some("tidegate"),
        &folder.scratch(),
        Some("tmpfs"),
        MsFlags::MS_NODEV,
        Some(&*options),
    )?;
    // No copy of it in namespaces that others make from ours: it would outlive the replica there.
    nix::mount::mount(none, &folder.scratch(), none, MsFlags::MS_PRIVATE, none)?;
    std::fs::create_dir(folder.scratch().join("work"))?;
    std::fs::create_dir(folder.scratch().join("upper"))
}

fn unmount_scratch(folder: &Folder) {
    // Most replicas have none.
    while nix::mount::umount2(&folder.scratch(), MntFlags::MNT_DETACH).is_ok() {}
}

fn unmakeable(id: &ReplicaId, error: io::Error) -> Error {
    Error::because(Kind::Retryable, format!("the files of replica {id} cannot be written: {error}"), error)
}

fn stubborn(id: &ReplicaId, error: io::Error) -> Error {
    Error::because(
        Kind::Retryable,
        format!("the processes of replica {id} cannot be reached: {error}"),
        error,
    )
}
