//! What the embedded engine has on this machine for one instance: everything that carries the instance's name, looked for
//! where the kernel keeps it. The engine's own clean-up is asked to remove it and not believed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tidegate_runner::{InstanceId, embedded};

/// The engine's own folder below the state directory.
pub const FOLDER: &str = "embedded";

/// Has everything removed that the embedded engine made for this instance; no gateway may run.
///
/// # Errors
/// When something could not be.
pub async fn purge(state: &Path, instance: &InstanceId) -> anyhow::Result<()> {
    Ok(embedded::doctor::purge(&state.join(FOLDER), instance).await?)
}

/// What there is.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Remains {
    /// Pinned network namespaces, and whatever else is in /run.
    pub namespaces: Vec<String>,
    /// In the host's mount namespace.
    pub mounts: Vec<String>,
    /// Below any controller.
    pub cgroups: Vec<String>,
    /// The bridge and what hangs on it.
    pub links: Vec<String>,
    /// Shims, and what they run.
    pub processes: Vec<String>,
    /// Of the packet filter.
    pub rules: Vec<String>,
}

impl Remains {
    /// Looks.
    #[must_use]
    pub fn of(instance: &InstanceId, state: &Path) -> Self {
        let name = instance.short().to_string();
        let state = state.display().to_string();
        let cgroups = cgroups(&name);
        Self {
            namespaces: files(&Path::new("/run/tidegate").join(&name)),
            mounts: lines("/proc/self/mountinfo", |line| line.contains(&name) || line.contains(&state)),
            processes: processes(&cgroups, &name, &state),
            cgroups: cgroups.iter().map(|path| path.display().to_string()).collect(),
            links: links(&name),
            rules: rules(&name),
        }
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// How many things there are.
    #[must_use]
    pub fn count(&self) -> usize {
        [&self.namespaces, &self.mounts, &self.cgroups, &self.links, &self.processes, &self.rules]
            .map(Vec::len)
            .iter()
            .sum()
    }
}

/// The processes of an instance's replicas, their shims included.
#[must_use]
pub fn pids(instance: &InstanceId) -> Vec<u32> {
    let mut found: Vec<u32> = cgroups(instance.short()).iter().flat_map(|group| members(group)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn cgroups(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let root = Path::new("/sys/fs/cgroup");
    let tops: Vec<PathBuf> = paths(root).into_iter().chain([root.to_owned()]).collect();
    for top in tops {
        let ours = paths(&top).into_iter().filter(|path| is_ours(path, name));
        let mut next: Vec<PathBuf> = ours.collect();
        while let Some(folder) = next.pop() {
            next.extend(paths(&folder));
            found.push(folder);
        }
    }
    found.sort();
    found.dedup();
    found
}

fn is_ours(path: &Path, name: &str) -> bool {
    path.file_name().is_some_and(|file| file.to_string_lossy() == format!("tidegate-{name}"))
}

fn members(group: &Path) -> Vec<u32> {
    let listed = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    listed.lines().filter_map(|line| line.parse().ok()).collect()
}

fn processes(cgroups: &[PathBuf], name: &str, state: &str) -> Vec<String> {
    let own = std::process::id();
    let mut found: Vec<u32> = cgroups.iter().flat_map(|group| members(group)).collect();
    let all = names(Path::new("/proc")).into_iter().filter_map(|name| name.parse::<u32>().ok());
    found.extend(all.filter(|pid| *pid != own).filter(|pid| {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let group = String::from_utf8_lossy(&read("cgroup")).into_owned();
        line.contains(state) || group.contains(&format!("tidegate-{name}"))
    }));
    found.sort_unstable();
    found.dedup();
    let told = found.into_iter().map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{pid} {}", name.trim())
    });
    told.collect()
}

/// Every link whose name holds the instance's, and what hangs on its bridge.
fn links(name: &str) -> Vec<String> {
    let all = names(Path::new("/sys/class/net")).into_iter().filter(|link| {
        let master = fs::read_link(format!("/sys/class/net/{link}/master"));
        let master = master.map(|path| path.display().to_string()).unwrap_or_default();
        link.contains(name) || master.contains(name)
    });
    all.collect()
}

fn rules(name: &str) -> Vec<String> {
    let sources: [&[&str]; 2] = [&["iptables-save"], &["nft", "list", "ruleset"]];
    let mut found = Vec::new();
    for source in sources {
        // Where a tool is missing nothing was made with it.
        let path = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
        let Ok(output) = Command::new(source[0]).args(&source[1..]).env("PATH", path).output() else {
            continue;
        };
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        found.extend(listed.lines().filter(|line| line.contains(name)).map(str::to_owned));
    }
    found
}

fn lines(file: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter(|line| wanted(line)).map(str::to_owned).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The files in a folder and below, and the folder itself.
fn files(folder: &Path) -> Vec<String> {
    let (mut found, mut next) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(path) = next.pop() {
        if fs::symlink_metadata(&path).is_ok() {
            found.push(path.display().to_string());
        }
        next.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
    }
    found
}

/// The folders in a folder.
fn paths(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
