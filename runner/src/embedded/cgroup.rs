//! A replica's control group, on cgroup v1 and v2: its limits, freezing, killing, what it uses.
//! Used by the shim, which makes it and joins it, and by the engine. Absent: systemd, controllers that no limit needs.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use tidegate_config::units::Bytes;

use crate::{Cpu, Stats};

mod limits;

pub(crate) use limits::Limits;

/// Where control groups are mounted.
pub(crate) const ROOT: &str = "/sys/fs/cgroup";
/// The controllers that a replica is in (v1). `cpuset` is none of them: a group of its own there has no cores at first.
const CONTROLLERS: [&str; 5] = ["memory", "cpu", "cpuacct", "pids", "freezer"];
/// Looked at by programs that want to know how many cores there are.
const SEEN: &str = "cpuset";
/// How long the kernel may take to freeze, kill or let go of a group, in steps.
const STEP: Duration = Duration::from_millis(1);
const STEPS: u32 = 5000;

/// How the machine has its control groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Each controller's own tree, where it is mounted.
    V1(BTreeMap<&'static str, PathBuf>),
    /// One tree.
    V2(PathBuf),
}

/// A replica's control group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cgroup {
    layout: Layout,
    path: PathBuf,
}

impl Layout {
    /// This machine's, as it was at the first look.
    pub(crate) fn here() -> &'static Self {
        static HERE: OnceLock<Layout> = OnceLock::new();
        HERE.get_or_init(|| {
            let unified = Path::new(ROOT).join("cgroup.controllers").exists();
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            if unified { Self::V2(ROOT.into()) } else { Self::V1(mounted(&mounts)) }
        })
    }
}

/// Where the controllers are mounted, by /proc/self/mountinfo.
fn mounted(mountinfo: &str) -> BTreeMap<&'static str, PathBuf> {
    let mut found = BTreeMap::new();
    for line in mountinfo.lines() {
        let Some((mount, source)) = line.split_once(" - ") else { continue };
        let (mut mount, mut source) = (mount.split(' '), source.split(' '));
        let (Some("/"), Some(point)) = (mount.nth(3), mount.next()) else { continue };
        let (Some("cgroup"), Some(options)) = (source.next(), source.nth(1)) else { continue };
        for controller in CONTROLLERS.into_iter().chain([SEEN]) {
            if options.split(',').any(|option| option == controller) {
                found.entry(controller).or_insert_with(|| point.into());
            }
        }
    }
    found
}

impl Cgroup {
    /// The group at `path`, below every controller's root.
    pub(crate) fn of(path: &str) -> Self {
        Self::at(Layout::here().clone(), path)
    }

    /// The same where the trees are found elsewhere.
    pub(crate) fn at(layout: Layout, path: &str) -> Self {
        Self { layout, path: path.trim_start_matches('/').into() }
    }

    /// Its folders: one on v2; on v1 one for each tree.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        match &self.layout {
            Layout::V2(root) => vec![root.join(&self.path)],
            Layout::V1(mounts) => {
                let ours = mounts.iter().filter(|(name, _)| **name != SEEN);
                let mut folders: Vec<_> = ours.map(|(_, mount)| mount.join(&self.path)).collect();
                folders.sort_unstable();
                folders.dedup();
                folders
            }
        }
    }

    /// The names of the groups in it, in whichever tree.
    pub(crate) fn children(&self) -> std::collections::BTreeSet<String> {
        let entries =
            self.folders().into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// A file of a controller's.
    fn file(&self, controller: &str, name: &str) -> io::Result<PathBuf> {
        match &self.layout {
            Layout::V2(root) => Ok(root.join(&self.path).join(name)),
            Layout::V1(mounts) => match mounts.get(controller) {
                Some(mount) => Ok(mount.join(&self.path).join(name)),
                None => Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    format!(
                        "this machine has no control group controller `{controller}` mounted below {ROOT}"
                    ),
                )),
            },
        }
    }

    fn v2(&self) -> bool {
        matches!(self.layout, Layout::V2(_))
    }

    /// Makes it, with its limits.
    pub(crate) fn create(&self, limits: &Limits) -> io::Result<()> {
        for folder in self.folders() {
            fs::create_dir_all(&folder).map_err(|error| told(&folder, &error))?;
        }
        if let Layout::V2(root) = &self.layout {
            delegate(root, &self.path)?;
        }
        for (controller, name, value) in limits.settings(self.v2()) {
            let file = self.file(controller, name)?;
            match fs::write(&file, &value) {
                // The kernel counts no swap here, so there is none to be limited.
                Err(error) if error.kind() == io::ErrorKind::NotFound && limits::about_swap(name) => {}
                other => other.map_err(|error| told(&file, &error))?,
            }
        }
        Ok(())
    }

    /// Makes it without limits, for the shims themselves.
    pub(crate) fn create_plain(&self) -> io::Result<()> {
        for folder in self.folders() {
            fs::create_dir_all(&folder).map_err(|error| told(&folder, &error))?;
        }
        Ok(())
    }

    /// Moves the calling process into it.
    pub(crate) fn join(&self) -> io::Result<()> {
        for folder in self.folders() {
            let file = folder.join("cgroup.procs");
            fs::write(&file, "0").map_err(|error| told(&file, &error))?;
        }
        Ok(())
    }

    /// Stops every process in it, and ends when the last one has.
    pub(crate) async fn freeze(&self) -> io::Result<()> {
        self.set_frozen(true)?;
        for _ in 0..STEPS {
            if self.frozen()? {
                return Ok(());
            }
            tokio::time::sleep(STEP).await;
        }
        self.set_frozen(false)?;
        Err(io::Error::new(io::ErrorKind::TimedOut, "its processes did not freeze in time"))
    }

    /// Lets its processes go on.
    pub(crate) fn thaw(&self) -> io::Result<()> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> io::Result<()> {
        let (name, value) = match (self.v2(), frozen) {
            (true, true) => ("cgroup.freeze", "1"),
            (true, false) => ("cgroup.freeze", "0"),
            (false, true) => ("freezer.state", "FROZEN"),
            (false, false) => ("freezer.state", "THAWED"),
        };
        fs::write(self.file("freezer", name)?, value)
    }

    /// Whether all of its processes are stopped. What does not exist is not frozen.
    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen().unwrap_or(false)
    }

    fn frozen(&self) -> io::Result<bool> {
        if self.v2() {
            let events = fs::read_to_string(self.file("freezer", "cgroup.events")?)?;
            Ok(value(&events, "frozen") == Some(1))
        } else {
            Ok(fs::read_to_string(self.file("freezer", "freezer.state")?)?.trim() == "FROZEN")
        }
    }

    /// Ends every process in it at once, frozen ones too. None are left when this ends without an error.
    pub(crate) async fn kill(&self) -> io::Result<()> {
        for _ in 0..STEPS {
            if self.kill_once()? == 0 {
                return Ok(());
            }
            tokio::time::sleep(STEP).await;
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "its processes did not end in time"))
    }

    /// How many processes were in it and have been sent SIGKILL.
    pub(crate) fn kill_once(&self) -> io::Result<usize> {
        let found = fs::read_to_string(self.file("freezer", "cgroup.procs")?);
        let processes = match found {
            Err(error) if vanished(&error) => return Ok(0),
            other => other?,
        };
        let processes: Vec<i32> = processes.lines().filter_map(|line| line.parse().ok()).collect();
        if processes.is_empty() {
            return Ok(0);
        }
        if self.v2() && fs::write(self.file("freezer", "cgroup.kill")?, "1").is_ok() {
            return Ok(processes.len());
        }
        for pid in &processes {
            // Another one may have ended it, which is as well.
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::SIGKILL).ok();
        }
        // On v1 what is frozen does not even die. Its shim may have removed the group in this moment.
        match self.set_frozen(false) {
            Err(error) if !vanished(&error) => Err(error),
            _ => Ok(processes.len()),
        }
    }

    /// What its processes use.
    pub(crate) fn stats(&self) -> io::Result<Stats> {
        let read = |controller, name| fs::read_to_string(self.file(controller, name)?);
        let number = |text: String| text.trim().parse::<u64>().map_err(io::Error::other);
        let (cpu, used, droppable) = if self.v2() {
            let cpu = value(&read("cpuacct", "cpu.stat")?, "usage_usec").unwrap_or(0);
            let memory = number(read("memory", "memory.current")?)?;
            (Duration::from_micros(cpu), memory, value(&read("memory", "memory.stat")?, "inactive_file"))
        } else {
            let cpu = number(read("cpuacct", "cpuacct.usage")?)?;
            let memory = number(read("memory", "memory.usage_in_bytes")?)?;
            (Duration::from_nanos(cpu), memory, value(&read("memory", "memory.stat")?, "total_inactive_file"))
        };
        Ok(Stats { cpu: Cpu::Time(cpu), memory: Bytes(used.saturating_sub(droppable.unwrap_or(0))) })
    }

    /// How many processes the kernel has killed in it for want of memory.
    pub(crate) fn killed_for_memory(&self) -> u64 {
        let name = if self.v2() { "memory.events" } else { "memory.oom_control" };
        let text = self.file("memory", name).and_then(fs::read_to_string).unwrap_or_default();
        value(&text, "oom_kill").unwrap_or(0)
    }

    /// Removes it, once nothing is in it any more; it is not an error if it does not exist.
    pub(crate) async fn remove(&self) -> io::Result<()> {
        for _ in 0..STEPS {
            if self.try_remove()? {
                return Ok(());
            }
            tokio::time::sleep(STEP).await;
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "its control group is still in use"))
    }

    /// The same for a caller that can wait itself: whether it is gone.
    pub(crate) fn try_remove(&self) -> io::Result<bool> {
        let mut gone = true;
        for folder in self.folders() {
            match fs::remove_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => gone = false,
                Err(error) if !vanished(&error) => return Err(told(&folder, &error)),
                _ => {}
            }
        }
        Ok(gone)
    }
}

/// Whether the group is gone, or went while its file was open.
pub(crate) fn vanished(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

/// On v2 a group has the controllers that the groups above it give it.
fn delegate(root: &Path, path: &Path) -> io::Result<()> {
    let mut folder = root.to_path_buf();
    for part in path {
        let file = folder.join("cgroup.subtree_control");
        let has = fs::read_to_string(&file).unwrap_or_default();
        for controller in ["cpu", "memory", "pids"] {
            if !has.split_whitespace().any(|has| has == controller) {
                fs::write(&file, format!("+{controller}")).map_err(|error| told(&file, &error))?;
            }
        }
        folder.push(part);
    }
    Ok(())
}

/// A number in a file of lines of names and numbers.
fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn told(file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_found_where_they_are_mounted() {
        let mountinfo = "25 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                         30 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                         31 25 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                         32 25 0:28 /docker/x /elsewhere rw - cgroup cgroup rw,pids\n\
                         33 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = mounted(mountinfo);
        let expected = [("cpu", "cpu,cpuacct"), ("cpuacct", "cpu,cpuacct"), ("memory", "memory")];
        let expected: BTreeMap<_, _> =
            expected.into_iter().map(|(name, folder)| (name, Path::new(ROOT).join(folder))).collect();
        assert_eq!(found, expected);
        let folders = Cgroup::at(Layout::V1(found), "/a/b").folders();
        assert_eq!(folders, ["cpu,cpuacct/a/b", "memory/a/b"].map(|folder| Path::new(ROOT).join(folder)));
    }

    #[test]
    fn numbers_are_found_by_their_names() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        for (name, expected) in [("oom_kill", Some(3)), ("under_oom", Some(0)), ("oom", None)] {
            assert_eq!(value(text, name), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn the_second_version_freezes_and_kills_too() {
        let root = Path::new("/sys/fs/cgroup/unified");
        let root = if root.join("cgroup.procs").exists() { root } else { Path::new(ROOT) };
        let layout = Layout::V2(root.into());
        let group = Cgroup::at(layout, &format!("/tidegate-test-{}", std::process::id()));
        group.create_plain().expect("made");
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("it runs");
        for folder in group.folders() {
            fs::write(folder.join("cgroup.procs"), child.id().to_string()).expect("moved");
        }
        group.freeze().await.expect("frozen");
        assert!(group.is_frozen());
        group.thaw().expect("thawed");
        group.freeze().await.expect("frozen");
        assert_eq!(group.kill_once().expect("killed"), 1);
        child.wait().expect("it ended");
        group.remove().await.expect("removed");
        assert!(group.folders().iter().all(|folder| !folder.exists()));
    }
}
