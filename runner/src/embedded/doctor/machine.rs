//! What this machine offers, as far as the engine cares. Blocking; a look takes some tens of milliseconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    super::cgroup::{Cgroup, Layout},
    attempt::{self, Outcome},
};

/// How long Docker may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Where Docker listens if nobody says otherwise.
const SOCKET: &str = "/var/run/docker.sock";

/// What this machine offers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Machine {
    /// The kernel's release, as in `6.1.0-13-amd64`.
    pub kernel: String,
    /// The user that asks.
    pub user: u32,
    /// Its effective capabilities, a bit each.
    pub capabilities: u64,
    /// Kinds of namespaces that the kernel knows.
    pub namespaces: BTreeSet<String>,
    /// Its control groups.
    pub cgroups: Cgroups,
    /// Whether system calls can be filtered.
    pub seccomp: bool,
    /// Mounting an overlay, in memory and (where there is one) on the state directory's disk; `None`: not tried.
    pub overlay: Option<(Outcome, Option<Outcome>)>,
    /// Making bridges and cards; `None`: not tried.
    pub network: Option<Outcome>,
    /// The packet filter's program; `None`: not tried.
    pub filter: Option<Result<&'static str, String>>,
    /// What limits of disk lack.
    pub disk_lacks: Vec<&'static str>,
    /// Where the state is, and what is free there.
    pub free: Option<(PathBuf, u64)>,
    /// Files that a process may have open: soft and hard limit.
    pub open_files: (u64, u64),
    /// Docker's socket, and whether somebody answers there.
    pub docker: (PathBuf, bool),
    /// Engines that were chosen for good, by host.
    pub chosen: BTreeMap<String, String>,
}

/// Control groups.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cgroups {
    /// 1 or 2; 0: none are mounted.
    pub version: u8,
    /// What can be limited.
    pub controllers: BTreeSet<String>,
    /// Making one; `None`: not tried.
    pub writable: Option<Outcome>,
}

impl Machine {
    /// Looks around. `state`: the state directory, if there is one to look at.
    pub(super) fn look(state: Option<&Path>) -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let user = nix::unistd::geteuid();
        let root = user.is_root();
        let room = state.and_then(existing);
        let tried = root.then(|| {
            let disk = room.as_deref().map(|room| attempt::overlay(Some(room)));
            (attempt::overlay(None), disk)
        });
        Self {
            kernel: read("/proc/sys/kernel/osrelease"),
            user: user.as_raw(),
            capabilities: field(&status, "CapEff")
                .and_then(|hex| u64::from_str_radix(hex, 16).ok())
                .unwrap_or(0),
            namespaces: names("/proc/self/ns"),
            cgroups: cgroups(root),
            seccomp: field(&status, "Seccomp").is_some()
                && read("/proc/sys/kernel/seccomp/actions_avail").contains("errno"),
            overlay: tried,
            network: root.then(attempt::network),
            filter: root.then(attempt::packet_filter),
            disk_lacks: disk_lacks(),
            free: room.and_then(|room| Some((room.clone(), free(&room)?))),
            open_files: nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
                .unwrap_or((0, 0)),
            docker: docker(),
            chosen: state.map(chosen).unwrap_or_default(),
        }
    }
}

fn cgroups(root: bool) -> Cgroups {
    let roots = Cgroup::of("/").folders();
    let (version, controllers) = match Layout::here() {
        Layout::V2(folder) => {
            let text = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
            let mut controllers: BTreeSet<String> = text.split_whitespace().map(String::from).collect();
            // Part of the kernel's own there, without a controller.
            controllers.insert("freezer".to_owned());
            (2, controllers)
        }
        Layout::V1(mounts) if mounts.is_empty() => (0, BTreeSet::new()),
        Layout::V1(mounts) => (1, mounts.keys().map(|name| (*name).to_owned()).collect()),
    };
    let tried = root && version > 0;
    let writable = tried.then(|| roots.iter().try_for_each(|root| attempt::group(root)));
    Cgroups { version, controllers, writable }
}

fn disk_lacks() -> Vec<&'static str> {
    let tool = attempt::program("mkfs.ext4").is_none().then_some("mkfs.ext4 (package e2fsprogs)");
    let device = (!Path::new("/dev/loop-control").exists()).then_some("loop devices (/dev/loop-control)");
    let known = read("/proc/filesystems").lines().any(|line| line.trim_start() == "ext4");
    tool.into_iter().chain(device).chain((!known).then_some("ext4 in the kernel")).collect()
}

/// The folder, or the nearest one above it that is there.
fn existing(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().find(|folder| folder.is_dir()).map(Path::to_owned)
}

fn free(folder: &Path) -> Option<u64> {
    let found = nix::sys::statvfs::statvfs(folder).ok()?;
    Some(found.blocks_available() * found.fragment_size())
}

/// Docker's socket, and whether it answers.
fn docker() -> (PathBuf, bool) {
    let named = std::env::var("DOCKER_HOST").ok();
    let path = named.as_deref().and_then(|host| host.strip_prefix("unix://")).unwrap_or(SOCKET);
    let asked = || {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        std::io::Result::Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    (path.into(), asked().unwrap_or(false))
}

/// What earlier starts recorded: a file `engine-HOST` each.
fn chosen(state: &Path) -> BTreeMap<String, String> {
    let files = names(state);
    let hosts = files.iter().filter_map(|name| name.strip_prefix("engine-"));
    hosts.map(|host| (host.to_owned(), read(state.join(format!("engine-{host}"))))).collect()
}

fn names(folder: impl AsRef<Path>) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn read(file: impl AsRef<Path>) -> String {
    fs::read_to_string(file).unwrap_or_default().trim_end().to_owned()
}

fn field<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
