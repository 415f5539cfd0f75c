//! Removes what was left over, and all of an instance. Holds: what is gone is no error; what got a record since it was
//! found is left alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    super::{cgroup::Cgroup, network, process::started},
    Installation,
    leftovers::{Found, Group, Shim, Thing},
    look,
};
use crate::{Error, Kind, Result};

/// Removes one thing.
pub(super) async fn remove(found: &Found, own: Option<&Installation>) -> Result<()> {
    let kept = own.filter(|own| own.instance.short() == found.instance && has_owner_now(&found.thing, own));
    if kept.is_some() {
        return Ok(());
    }
    match &found.thing {
        Thing::Shim(shim) => end(shim),
        Thing::Mount(point) => unmount(point),
        Thing::Group(group) => remove_group(group).await,
        Thing::Network(thing) => thing.remove().await,
        Thing::Folder(folder) => remove_folder(folder),
    }
}

/// Whether a replica of this name was made since.
fn has_owner_now(thing: &Thing, own: &Installation) -> bool {
    let name = match thing {
        Thing::Group(group) => Some(&*group.name),
        Thing::Shim(shim) => shim.folder.as_deref().and_then(last),
        Thing::Folder(folder) => last(folder),
        Thing::Mount(point) => {
            let below = point.strip_prefix(own.folder.join("replicas")).ok();
            below.and_then(|below| below.components().next()?.as_os_str().to_str())
        }
        Thing::Network(_) => None,
    };
    name.is_some_and(|name| !name.is_empty() && look::has_record(&own.folder, name))
}

fn last(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// All of an instance whose gateway has ended. What that was starting just then may still be in no group.
pub(super) async fn purge(folder: &Path, instance: &str, run: &Path) -> Result<()> {
    remove_all(folder, instance, run).await?;
    let late = look::shims_of(instance, folder);
    if late.is_empty() {
        return Ok(());
    }
    late.iter().try_for_each(end)?;
    remove_all(folder, instance, run).await
}

async fn remove_all(folder: &Path, instance: &str, run: &Path) -> Result<()> {
    let mut groups: Vec<_> = look::groups().into_iter().filter(|group| group.instance == instance).collect();
    // Replicas first, so that their shims see their end; the group above all last.
    groups.sort_by_key(|group| (group.name.is_empty(), group.name == "shims"));
    for group in &groups {
        remove_group(group).await?;
    }
    for (point, _) in look::mounts(&[folder.to_owned()]) {
        unmount(&point)?;
    }
    network::purge(run, instance).await?;
    remove_folder(&folder.join("replicas"))?;
    remove_folder(&run.join(instance))
}

/// Ends a shim: its mounts go with it, and what it watched over is in a group of its own.
fn end(shim: &Shim) -> Result<()> {
    // The number may be another process's by now.
    if started(shim.pid.pid).ok().flatten() != Some(shim.pid.started) {
        return Ok(());
    }
    match kill(Pid::from_raw(shim.pid.pid), Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(failed(format!("end process {}", shim.pid.pid), error.into())),
    }
}

fn unmount(point: &PathBuf) -> Result<()> {
    match umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        // Not mounted, or gone.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(error) => Err(failed(format!("unmount {}", point.display()), error.into())),
    }
}

/// Ends what runs in a group and in those that were made below it, and removes them all.
async fn remove_group(group: &Group) -> Result<()> {
    let path = look::path(&group.instance, &group.name);
    for path in look::below(&path) {
        let group = Cgroup::of(&path);
        let gone = async {
            group.kill().await?;
            group.remove().await
        };
        gone.await.map_err(|error| failed(format!("remove the control group {path}"), error))?;
    }
    Ok(())
}

fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed(format!("remove {}", folder.display()), error))
        }
        _ => Ok(()),
    }
}

fn failed(what: String, error: io::Error) -> Error {
    Error::because(Kind::Retryable, format!("{what}: {error}"), error)
}
