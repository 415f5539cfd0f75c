//! Mounts. Named volumes are the engine's own and fine; folders of the host must be below one that the operator allowed,
//! and some are refused whatever is allowed, because they hand over the machine. What a Kubernetes mounts by name is
//! checked as far as spelling goes.

use std::path::{Path, PathBuf};

use super::{World, kubernetes, value};
use crate::{
    decode::{
        At, Named,
        leaf::{Size, Text},
    },
    problem::Draft,
    raw::{Mount, MountTable, SecretFile},
    spec::{Disk, SECRETS, Source, Tmpfs, Volume},
    units::Bytes,
};

/// Refused with everything below them; so is everything that contains one of them.
const NEVER: &[&str] =
    &["/etc", "/proc", "/sys", "/dev", "/boot", "/run", "/var/run", "/var/lib/docker", "/var/lib/tidegate"];

/// A page: below it nothing fits.
const LEAST_TMPFS: Bytes = Bytes(4096);
/// The same on a disk.
const LEAST_DISK: Bytes = Bytes::mib(1);

/// The folders that may be mounted.
pub(super) struct Allowed(Vec<PathBuf>);

impl Allowed {
    pub(super) fn new(raw: Option<&At<Vec<At<Text>>>>, world: &World<'_>, problems: &mut Vec<Draft>) -> Self {
        let mut allowed = Vec::new();
        for folder in raw.iter().flat_map(|folders| &folders.value) {
            let path = world.path(&folder.value);
            if !folder.value.starts_with('/') {
                problems.push(folder.problem("not absolute").allowed("a folder, as in \"/srv\""));
            } else if let Some(reason) = forbidden(&path) {
                problems.push(folder.problem(reason).allowed(not_those()));
            } else {
                allowed.push(world.files.resolve(&path));
                allowed.push(path);
            }
        }
        Self(allowed)
    }

    fn contains(&self, path: &Path) -> bool {
        self.0.iter().any(|folder| path.starts_with(folder))
    }

    fn list(&self) -> String {
        let mut folders: Vec<_> = self.0.iter().map(|folder| folder.display().to_string()).collect();
        folders.dedup();
        folders.join(", ")
    }
}

/// Why a path is never mounted, if so.
fn forbidden(path: &Path) -> Option<String> {
    const SOCKETS: &[&str] = &["docker.sock", "podman.sock", "containerd.sock", "crio.sock"];
    let name = path.file_name().and_then(|name| name.to_str());
    if name.is_some_and(|name| SOCKETS.contains(&name)) || NEVER.iter().any(|never| path.starts_with(never)) {
        return Some(format!("{} is never mounted", path.display()));
    }
    let inside = NEVER.iter().find(|never| Path::new(never).starts_with(path))?;
    Some(format!("{} contains {inside}, which is never mounted", path.display()))
}

fn not_those() -> String {
    format!("folders outside of {}, and no engine's socket", NEVER.join(", "))
}

/// What is mounted, each of its kind.
#[derive(Default)]
pub(super) struct Mounts {
    pub(super) volumes: Vec<Volume>,
    pub(super) tmpfs: Vec<Tmpfs>,
    pub(super) disks: Vec<Disk>,
}

pub(super) fn check(
    raw: Option<&At<Vec<At<Mount>>>>,
    secrets: Option<&At<Named<At<SecretFile>>>>,
    world: &World<'_>,
    allowed: &Allowed,
    problems: &mut Vec<Draft>,
) -> Mounts {
    let mut mounts = Mounts::default();
    let mut targets: Vec<String> = Vec::new();
    for mount in raw.iter().flat_map(|mounts| &mounts.value) {
        let target = match &mount.value {
            Mount::Table(table) if is_given(&table.tmpfs, "tmpfs", table) => {
                let Some((target, size)) = empty(table, mount, &IN_MEMORY, problems) else { continue };
                mounts.tmpfs.push(Tmpfs { target: target.clone(), size });
                target
            }
            Mount::Table(table) if is_given(&table.disk, "disk", table) => {
                let Some((target, size)) = empty(table, mount, &ON_DISK, problems) else { continue };
                mounts.disks.push(Disk { target: target.clone(), size });
                target
            }
            Mount::Table(_) | Mount::Text(_) => {
                let Some(mut volume) = parts(mount, problems) else { continue };
                volume.target = check_target(&volume.target, mount, problems);
                let target = volume.target.clone();
                mounts.volumes.extend(check_source(volume, mount, world, allowed, problems));
                target
            }
        };
        if targets.contains(&target) {
            problems.push(mount.problem(format!("{target} is mounted twice")).allowed("each target once"));
        }
        if let Some(secrets) = secrets.filter(|_| Path::new(&target).starts_with(SECRETS)) {
            let draft = mount.problem(format!("{SECRETS} is where the secret files are"));
            problems.push(draft.allowed("another target").also(&secrets.at, "secret_files"));
        }
        targets.push(target);
    }
    mounts
}

/// Whether a key is there, be it with a value that was refused.
fn is_given<T>(value: &Option<T>, key: &str, table: &MountTable) -> bool {
    value.is_some() || table.refused.contains(&key)
}

/// What is empty at first and goes with its replica.
struct Empty {
    words: &'static str,
    allowed: &'static str,
    /// How large it is, and what it is not.
    size: fn(&MountTable) -> [&Option<At<Size>>; 2],
    least: Bytes,
}

const IN_MEMORY: Empty = Empty {
    words: "what is in memory is empty at first and one replica's alone",
    allowed: "{ target = \"/cache\", tmpfs = \"64MiB\" }",
    size: |table| [&table.tmpfs, &table.disk],
    least: LEAST_TMPFS,
};

const ON_DISK: Empty = Empty {
    words: "what has a disk is empty at first and one replica's alone",
    allowed: "{ target = \"/work\", disk = \"1GiB\" }",
    size: |table| [&table.disk, &table.tmpfs],
    least: LEAST_DISK,
};

/// A target and a size, nothing else.
fn empty(
    table: &MountTable,
    mount: &At<Mount>,
    kind: &Empty,
    problems: &mut Vec<Draft>,
) -> Option<(String, Bytes)> {
    let [size, other] = (kind.size)(table);
    if table.source.is_some() || table.read_only.is_some() || table.shared.is_some() || other.is_some() {
        problems.push(mount.problem(kind.words).allowed(kind.allowed));
    }
    let Some(target) = &table.target else {
        problems.push(mount.problem("needs a target").allowed(kind.allowed));
        return None;
    };
    let target = check_target(&target.value, mount, problems);
    Some((target, value::size(size.clone(), kind.least, kind.least, problems)))
}

fn parts(mount: &At<Mount>, problems: &mut Vec<Draft>) -> Option<Volume> {
    const ALLOWED: &str = "\"SOURCE:TARGET\" or \"SOURCE:TARGET:ro\", as in \"data:/var/lib/app\"";
    let text = match &mount.value {
        Mount::Table(table) => return from_table(table, mount, problems),
        Mount::Text(text) => text,
    };
    let fields: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match fields[..] {
        [source, target] => (source, target, "rw"),
        [source, target, mode] => (source, target, mode),
        _ => {
            problems.push(mount.problem("not a volume").allowed(ALLOWED));
            return None;
        }
    };
    if !matches!(mode, "ro" | "rw") {
        problems.push(mount.problem(format!("{mode:?} is not a mode")).allowed(ALLOWED));
    }
    Some(Volume {
        source: source.to_owned(),
        target: target.to_owned(),
        read_only: mode == "ro",
        shared: false,
    })
}

fn from_table(table: &MountTable, mount: &At<Mount>, problems: &mut Vec<Draft>) -> Option<Volume> {
    let (Some(source), Some(target)) = (&table.source, &table.target) else {
        problems.push(mount.problem("needs a source and a target").allowed(MountTable::KEYS.join(", ")));
        return None;
    };
    let read_only = value::of(table.read_only.clone(), false);
    let shared = value::of(table.shared.clone(), false);
    Some(Volume { source: source.value.clone(), target: target.value.clone(), read_only, shared })
}

fn check_target(target: &str, mount: &At<Mount>, problems: &mut Vec<Draft>) -> String {
    let place = target.trim_end_matches('/').to_owned();
    if !place.starts_with('/') || place.split('/').any(|part| part == ".." || part == ".") {
        let draft = mount.problem(format!("{target:?} is not a place in the container"));
        problems.push(draft.allowed("an absolute path below '/', without '..'"));
    }
    place
}

fn check_source(
    volume: Volume,
    mount: &At<Mount>,
    world: &World<'_>,
    allowed: &Allowed,
    problems: &mut Vec<Draft>,
) -> Option<Volume> {
    if !volume.source.starts_with(['/', '.']) {
        match volume.source() {
            Source::ConfigMap(name) => of_kubernetes("configmap", name, &volume, mount, problems),
            Source::Secret(name) => of_kubernetes("secret", name, &volume, mount, problems),
            Source::Folder(_) | Source::Named(_) => check_name(&volume.source, mount, problems),
        }
        return Some(volume);
    }
    let path = world.path(&volume.source);
    let real = world.files.resolve(&path);
    if let Some(reason) = forbidden(&path).or_else(|| forbidden(&real)) {
        problems.push(mount.problem(reason).allowed(not_those()));
    } else if !allowed.contains(&path) || !allowed.contains(&real) {
        let folders = if allowed.0.is_empty() { "none yet".to_owned() } else { allowed.list() };
        let draft = mount.problem(format!("{} is not below a folder that may be mounted", path.display()));
        let help =
            format!("the operator can allow it: [gateway] allow_mounts = [{:?}]", path.display().to_string());
        problems.push(
            draft
                .allowed(format!("what is in gateway.allow_mounts: {folders}; or a named volume"))
                .help(help),
        );
    }
    Some(Volume { source: path.display().to_string(), ..volume })
}

fn check_name(name: &str, mount: &At<Mount>, problems: &mut Vec<Draft>) {
    const ALLOWED: &str = "a name of letters, digits, '_', '.' and '-', a path that starts with / or ./, or in a Kubernetes \
        configmap/NAME or secret/NAME";
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.is_empty() || !name.chars().all(inner) {
        let draft = mount.problem(format!("{name:?} is neither a volume's name nor a path"));
        problems.push(draft.allowed(ALLOWED));
    }
}

/// A ConfigMap or a Secret by its name: nobody writes into one.
fn of_kubernetes(kind: &str, name: &str, volume: &Volume, mount: &At<Mount>, problems: &mut Vec<Draft>) {
    if !kubernetes::is_name(name, kubernetes::SUBDOMAIN) {
        let draft = mount.problem(format!("{name:?} is not a name in Kubernetes"));
        problems.push(draft.allowed(kubernetes::names(kubernetes::SUBDOMAIN)));
    }
    if !volume.read_only {
        let draft = mount.problem(format!("{kind}/{name} is read-only: nobody writes into one"));
        problems.push(draft.allowed(format!("\"{kind}/{name}:{}:ro\"", volume.target)));
    }
}
