//! The shim's own place on the machine: its session, its mount namespace, and in it the replica's root file system.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    poll::poll,
    sched::{CloneFlags, unshare},
    sys::{
        signal::{SigSet, SigmaskHow, sigprocmask},
        stat::{Mode, umask},
    },
};
use rustix::fs::{CWD, FlockOperation, OFlags, ResolveFlags, flock, mkdirat, openat2};
use tidegate_config::spec::Scratch;

use super::{
    copy,
    failure::{Context, Failure, Result},
    image, overlay,
    user::User,
};
use crate::embedded::{
    cgroup::{Cgroup, Layout, ROOT},
    task::{Folder, Task},
};

/// How often the kernel is asked to let go of a control group, and how long in between, in milliseconds.
const TRIES: u32 = 500;
const STEP: u16 = 10;

/// A session of its own, no signal but at the place for them, and the folder's lock.
pub(super) fn settle(folder: &Folder) -> Result<File> {
    // It is not there if the shim was started by hand.
    nix::unistd::setsid().ok();
    umask(Mode::from_bits_truncate(0o022));
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), None).context(|| "signals".into())?;
    // The gateway's groups are nothing to its replicas.
    nix::unistd::setgroups(&[]).context(|| "groups".into())?;
    nix::sys::prctl::set_child_subreaper(true).context(|| "subreaper".into())?;
    nix::sys::prctl::set_dumpable(false).context(|| "not dumpable".into())?;
    nix::sys::prctl::set_name(c"tidegate-shim").ok();
    let lock = File::open(folder.path()).context(|| folder.path().display().to_string())?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let words = format!("another shim is at work in {}", folder.path().display());
            Err(Failure::retryable(words))
        }
        other => other.map(|()| lock).context(|| "the folder's lock".into()),
    }
}

/// What the gateway reads is at its end.
pub(super) fn close_output() -> io::Result<()> {
    let null = File::options().write(true).open("/dev/null")?;
    Ok(nix::unistd::dup2_stdout(null)?)
}

/// The kernel ends the replica's processes before this one when memory runs out.
pub(super) fn unkillable() {
    // Not allowed everywhere, and no more than good to have.
    drop(fs::write("/proc/self/oom_score_adj", "-999"));
}

/// Removes a control group as soon as the kernel lets go of it.
pub(super) fn remove(cgroup: &Cgroup) {
    for _ in 0..TRIES {
        match cgroup.try_remove() {
            Ok(false) => drop(poll(&mut [], STEP)),
            _ => return,
        }
    }
}

/// A mount namespace of its own, where the control groups are found at other places: what makes the replica would
/// otherwise put it into a dozen groups, one after the other, which takes longer than everything else together.
pub(super) fn namespace(folder: &Folder, layout: &Layout) -> Result<Layout> {
    unshare(CloneFlags::CLONE_NEWNS).context(|| "a mount namespace cannot be made".into())?;
    let none: Option<&str> = None;
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(none, "/", none, flags, none).context(|| "mounts cannot be kept apart".into())?;
    let bundle = folder.bundle();
    memory(&bundle, "mode=0700,size=16m")?;
    for name in ["rootfs", "etc", "secrets", "state", "cgroup"] {
        fs::create_dir(bundle.join(name)).context(|| name.to_owned())?;
    }
    let elsewhere = elsewhere(&bundle.join("cgroup"), layout)?;
    umount2(ROOT, MntFlags::MNT_DETACH).context(|| ROOT.to_owned())?;
    memory(Path::new(ROOT), "mode=0555,size=4k")?;
    Ok(elsewhere)
}

/// The control groups' trees, bound below a folder under names that are no controllers'.
fn elsewhere(folder: &Path, layout: &Layout) -> Result<Layout> {
    let bound = |from: &Path, name: String| {
        let to = folder.join(name);
        fs::create_dir_all(&to).and_then(|()| Ok(bind(from, &to)?)).context(|| from.display().to_string())?;
        Ok(to)
    };
    Ok(match layout {
        Layout::V2(root) => Layout::V2(bound(root, "tree".into())?),
        Layout::V1(mounts) => {
            let mut places: BTreeMap<&'static str, PathBuf> = BTreeMap::new();
            let mut known: Vec<(&Path, PathBuf)> = Vec::new();
            for (number, (controller, from)) in mounts.iter().enumerate() {
                let place = match known.iter().find(|(seen, _)| seen == from) {
                    Some((_, place)) => place.clone(),
                    None => bound(from, format!("tree{number}"))?,
                };
                known.push((from, place.clone()));
                places.insert(controller, place);
            }
            Layout::V1(places)
        }
    })
}

/// An empty file system in memory.
pub(super) fn memory(at: &Path, options: &str) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options)).context(|| at.display().to_string())
}

pub(super) fn bind(from: &Path, to: &Path) -> nix::Result<()> {
    let none: Option<&str> = None;
    mount(Some(from), to, none, MsFlags::MS_BIND, none)
}

/// The replica's root file system at `rootfs` in the bundle.
pub(super) fn file_system(folder: &Folder, task: &Task) -> Result<()> {
    let (scratch, rootfs) = (folder.scratch(), folder.bundle().join("rootfs"));
    if let Some(absent) = task.layers.iter().find(|layer| !layer.is_dir()) {
        return Err(Failure::retryable(format!(
            "the image's layer {} is not there any more",
            absent.display()
        )));
    }
    if let (Scratch::Disk, Some(limit)) = (task.resources.scratch, task.resources.disk) {
        image::mount(&folder.path().join("scratch.img"), limit, &scratch)?;
    }
    let places = [scratch.join("upper"), scratch.join("work")];
    for place in &places {
        match fs::create_dir(place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.context(|| place.display().to_string())?,
        }
    }
    let [upper, work] = &places;
    if overlay::mount(&task.layers, upper, work, &rootfs)? {
        return Ok(());
    }
    let words = "this kernel has no overlayfs: the image's layers are copied, which takes time and room for every replica";
    eprintln!("{words}");
    copy::layers(&task.layers, upper, work).context(|| "the layers cannot be copied".into())?;
    let none: Option<&str> = None;
    bind(upper, &rootfs)
        .and_then(|()| {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NODEV;
            mount(none, &rootfs, none, flags, none)
        })
        .context(|| rootfs.display().to_string())
}

/// Sees to it that the working folder exists, whatever links the image has on the way to it.
pub(super) fn working_folder(rootfs: &Path, cwd: &str, user: &User) -> Result<()> {
    if !cwd.starts_with('/') {
        return Err(Failure::permanent(format!("the working folder {cwd} is not an absolute path")));
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, rootfs, flags | OFlags::DIRECTORY, rustix::fs::Mode::empty());
    let root = root.context(|| rootfs.display().to_string())?;
    let open = |path: &Path| {
        openat2(&root, path, flags | OFlags::DIRECTORY, rustix::fs::Mode::empty(), ResolveFlags::IN_ROOT)
    };
    let told = |error: rustix::io::Errno| {
        Failure::permanent(format!("the working folder {cwd} cannot be made in the image: {error}"))
    };
    let (mut path, mut at) = (PathBuf::from("/"), open(Path::new("/")).map_err(told)?);
    for part in Path::new(cwd).components().filter(|part| matches!(part, std::path::Component::Normal(_))) {
        path.push(part);
        at = match open(&path) {
            Err(rustix::io::Errno::NOENT) => {
                mkdirat(&at, part.as_os_str(), rustix::fs::Mode::from_raw_mode(0o755)).map_err(told)?;
                let made = open(&path).map_err(told)?;
                let (uid, gid) = (rustix::fs::Uid::from_raw(user.uid), rustix::fs::Gid::from_raw(user.gid));
                let here = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(&at, part.as_os_str(), Some(uid), Some(gid), here).map_err(told)?;
                made
            }
            other => other.map_err(told)?,
        };
    }
    Ok(())
}
