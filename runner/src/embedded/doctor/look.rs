//! Finds everything on this machine that is named as ours, of whatever instance. Blocking, but for the network.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{
    super::{
        cgroup::Cgroup,
        process::{self, started},
        task::Pid,
    },
    leftovers::{Group, Own, Owner, Seen, Shim},
};

/// What the names of control groups begin with.
const PREFIX: &str = "tidegate-";
/// A folder without a record that is younger than this may be about to get one, or to go.
const SETTLED: Duration = Duration::from_secs(60);

/// Everything but the network's things.
pub(super) fn look(run: &Path, own: Option<&Path>) -> Seen {
    let owners = owners(run);
    let mut folders: Vec<PathBuf> = owners.values().map(|owner| owner.folder.clone()).collect();
    folders.extend(own.map(Path::to_owned));
    let groups = groups();
    Seen {
        shims: shims(&groups),
        groups,
        mounts: mounts(&folders),
        network: Vec::new(),
        folders: own.map(|folder| folders_without_record(folder, SystemTime::now())).unwrap_or_default(),
        owners,
    }
}

/// The own instance, from its engine's folder. Looked at after [`look`]: what was there by then and has no record now is
/// nobody's.
pub(super) fn own(instance: &str, folder: &Path, gateway: bool) -> Own {
    let names = names(&folder.join("replicas"));
    let replicas = names.into_iter().filter(|name| has_record(folder, name)).collect();
    Own { instance: instance.to_owned(), folder: folder.to_owned(), replicas, gateway }
}

/// Whether a replica of this name has a record.
pub(super) fn has_record(folder: &Path, name: &str) -> bool {
    let record = folder.join("replicas").join(name).join("record.json");
    // An empty one is what a crash of the machine may leave.
    !name.starts_with('.') && fs::metadata(record).is_ok_and(|record| record.len() > 0)
}

fn owners(run: &Path) -> BTreeMap<String, Owner> {
    let owner = |name: String| {
        let text = fs::read_to_string(run.join(&name).join("owner")).ok()?;
        let folder = PathBuf::from(text.trim_end());
        let lives = is_instances(&folder, &name);
        Some((name, Owner { folder, lives }))
    };
    names(run).into_iter().filter_map(owner).collect()
}

/// Whether an engine's folder is there and still this instance's.
fn is_instances(folder: &Path, short: &str) -> bool {
    let id = folder.parent().map(|state| fs::read_to_string(state.join("instance")).unwrap_or_default());
    let id = id.unwrap_or_default();
    folder.join("replicas").is_dir() && (id.is_empty() || id.starts_with(short))
}

/// Every group of ours: the one above all of an instance (without a name), and those directly below it.
pub(super) fn groups() -> Vec<Group> {
    let mut found = BTreeSet::new();
    for root in Cgroup::of("/").folders() {
        for folder in names(&root) {
            let Some(instance) = folder.strip_prefix(PREFIX).filter(|short| is_short(short)) else {
                continue;
            };
            found.insert((instance.to_owned(), String::new()));
            let below = folders(&root.join(&folder)).into_iter();
            found.extend(below.map(|name| (instance.to_owned(), name)));
        }
    }
    let group = |(instance, name): (String, String)| {
        let processes = processes(&Cgroup::of(&path(&instance, &name))).len();
        Group { instance, name, processes }
    };
    found.into_iter().map(group).collect()
}

/// The path of a group, below every controller's root.
pub(super) fn path(instance: &str, name: &str) -> String {
    format!("/{PREFIX}{instance}/{name}").trim_end_matches('/').to_owned()
}

/// A group's path and those of the groups below it, what is within first.
pub(super) fn below(path: &str) -> Vec<String> {
    let inner: BTreeSet<String> =
        Cgroup::of(path).folders().iter().flat_map(|folder| folders(folder)).collect();
    let mut all: Vec<_> = inner.iter().flat_map(|name| below(&format!("{path}/{name}"))).collect();
    all.push(path.to_owned());
    all
}

/// The processes in a group and in those below it.
fn processes(group: &Cgroup) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    let mut rest = group.folders();
    while let Some(folder) = rest.pop() {
        let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        rest.extend(folders(&folder).into_iter().map(|name| folder.join(name)));
    }
    found
}

fn shims(groups: &[Group]) -> Vec<Shim> {
    let mut found = Vec::new();
    for group in groups.iter().filter(|group| group.name == "shims") {
        let all = processes(&Cgroup::of(&path(&group.instance, &group.name)));
        found.extend(all.into_iter().filter_map(|pid| shim(&group.instance, pid)));
    }
    found
}

/// The shims of an instance's replicas, wherever they are: one that has just begun is in no group yet.
pub(super) fn shims_of(instance: &str, folder: &Path) -> Vec<Shim> {
    let replicas = folder.join("replicas");
    let pids = names(Path::new("/proc")).into_iter().filter_map(|name| name.parse().ok());
    let is_shim = |line: &[u8]| line.split(|byte| *byte == 0).next() == Some(process::NAME.as_bytes());
    let all = pids.filter(|pid| is_shim(&command_line(*pid))).filter_map(|pid| shim(instance, pid));
    all.filter(|shim| shim.folder.as_ref().is_some_and(|folder| folder.starts_with(&replicas))).collect()
}

fn shim(instance: &str, pid: i32) -> Option<Shim> {
    let started = started(pid).ok()??;
    let folder = folder_in(&command_line(pid));
    Some(Shim { instance: instance.to_owned(), pid: Pid { pid, started }, folder })
}

fn command_line(pid: i32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// The folder in a shim's command line: what follows `start` or `exec`.
fn folder_in(line: &[u8]) -> Option<PathBuf> {
    let mut words = line.split(|byte| *byte == 0).skip_while(|word| !matches!(*word, b"start" | b"exec"));
    words.next()?;
    let folder = std::str::from_utf8(words.next()?).ok()?;
    folder.starts_with('/').then(|| folder.into())
}

/// File systems below `FOLDER/replicas/REPLICA`, with that folder.
pub(super) fn mounts(folders: &[PathBuf]) -> Vec<(PathBuf, PathBuf)> {
    mounts_in(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(), folders)
}

fn mounts_in(mountinfo: &str, folders: &[PathBuf]) -> Vec<(PathBuf, PathBuf)> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    let replica = |point: PathBuf| {
        let replicas = folders.iter().map(|folder| folder.join("replicas"));
        let found = replicas.filter_map(|above| {
            let mut below = point.strip_prefix(&above).ok()?.components();
            let folder = above.join(below.next()?);
            // The folder itself is never mounted on.
            below.next().map(|_| folder)
        });
        let folder = found.into_iter().next()?;
        Some((point, folder))
    };
    let mut all: Vec<_> = points.filter_map(replica).collect();
    // The last one that was mounted goes first.
    all.reverse();
    all.dedup();
    all
}

/// A path as /proc writes it: a space is `\040`.
fn unescaped(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                whole.push(char::from(code));
                whole.push_str(&part[3..]);
            }
            None => whole.push_str(part),
        }
    }
    // What a deleted folder's mount is called.
    whole.strip_suffix("//deleted").unwrap_or(&whole).into()
}

fn folders_without_record(folder: &Path, now: SystemTime) -> Vec<PathBuf> {
    let replicas = folder.join("replicas");
    let settled = |path: &PathBuf| {
        let changed = fs::symlink_metadata(path).and_then(|found| found.modified());
        changed.is_ok_and(|changed| now.duration_since(changed).is_ok_and(|age| age >= SETTLED))
    };
    let left = names(&replicas).into_iter().filter(|name| !has_record(folder, name));
    left.map(|name| replicas.join(name)).filter(settled).collect()
}

fn is_short(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn folders(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.filter(is_folder).filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shims_folder_is_in_its_command_line() {
        for (line, folder) in [
            (
                &b"tidegate\0shim\0start\0/s/embedded/replicas/api-1-1\0"[..],
                Some("/s/embedded/replicas/api-1-1"),
            ),
            (b"tidegate\0shim\0exec\0/s/api-1-1\0--\0sh\0", Some("/s/api-1-1")),
            (b"tidegate\0shim\0start\0", None),
            (b"sh\0", None),
            (b"x\0start\0relative\0", None),
        ] {
            assert_eq!(folder_in(line), folder.map(PathBuf::from), "{line:?}");
        }
    }

    #[test]
    fn mounts_below_replicas_are_found_last_first() {
        let info = "\
22 1 0:20 / /proc rw - proc proc rw
30 1 0:40 / /s\\040x/embedded/replicas/api-1-1/scratch rw shared:1 - tmpfs tmpfs rw
31 1 0:41 / /s\\040x/embedded/replicas/api-1-2/scratch//deleted rw - tmpfs tmpfs rw
32 1 0:42 / /s\\040x/embedded/images/x rw - tmpfs tmpfs rw
33 1 0:43 / /other/embedded/replicas/api-1-1/scratch rw - tmpfs tmpfs rw";
        let replica = |name: &str| PathBuf::from(format!("/s x/embedded/replicas/{name}"));
        let row = |name: &str| (replica(name).join("scratch"), replica(name));
        assert_eq!(mounts_in(info, &["/s x/embedded".into()]), [row("api-1-2"), row("api-1-1")]);
    }

    #[test]
    fn folders_without_a_record_are_left_once_they_are_old() {
        let room = tempfile::tempdir().expect("a folder");
        let replicas = room.path().join("replicas");
        for name in ["api-1-1", "api-1-2", ".new-7-0-api-1-3"] {
            fs::create_dir_all(replicas.join(name)).expect("made");
        }
        fs::write(replicas.join("api-1-1/record.json"), "{}").expect("written");
        let now = SystemTime::now();
        assert_eq!(folders_without_record(room.path(), now), Vec::<PathBuf>::new());
        let left = folders_without_record(room.path(), now + 2 * SETTLED);
        assert_eq!(left, [replicas.join(".new-7-0-api-1-3"), replicas.join("api-1-2")]);
        assert_eq!(own("a", room.path(), false).replicas, ["api-1-1".to_owned()].into());
    }

    #[test]
    fn an_owner_lives_with_its_folder() {
        let room = tempfile::tempdir().expect("a folder");
        let (run, state) = (room.path().join("run"), room.path().join("state"));
        let folder = state.join("embedded");
        fs::create_dir_all(run.join("aaaaaaaa")).expect("made");
        fs::write(run.join("aaaaaaaa/owner"), folder.to_str().expect("text")).expect("written");
        let lives = || owners(&run)["aaaaaaaa"].lives;
        assert!(!lives());
        fs::create_dir_all(folder.join("replicas")).expect("made");
        assert!(lives());
        for (id, alive) in [("aaaaaaaa00000000", true), ("bbbbbbbb00000000", false)] {
            fs::write(state.join("instance"), id).expect("written");
            assert_eq!(lives(), alive, "{id}");
        }
    }
}
