//! Which of the things that carry an instance's name belong to nobody any more. Pure: what was seen and who lives come
//! in. Holds: nothing of a replica that has a record, and nothing of an instance that lives, is ever named, but for what
//! this instance itself left; in doubt a thing is kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::super::{network, task::Pid};

/// Everything on this machine that is named as ours.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Control groups.
    pub groups: Vec<Group>,
    /// Processes that watch over a replica.
    pub shims: Vec<Shim>,
    /// File systems mounted in replicas' folders, with the replica's folder.
    pub mounts: Vec<(PathBuf, PathBuf)>,
    /// What the network knows of.
    pub network: Vec<network::Leftover>,
    /// Replicas' folders without a record, old enough that nobody is making or removing them.
    pub folders: Vec<PathBuf>,
    /// Instances that said where their folder is, and whether it is still there.
    pub owners: BTreeMap<String, Owner>,
}

/// Where an instance said that its folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    /// The engine's folder.
    pub folder: PathBuf,
    /// Whether it is still there, and still that instance's.
    pub lives: bool,
}

/// A control group below `/tidegate-<instance>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// The first 8 digits of the instance's id.
    pub instance: String,
    /// A replica's id, `shims`, or nothing for the group above those.
    pub name: String,
    /// Processes in it, those below included.
    pub processes: usize,
}

/// A process that watches over a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shim {
    /// Whose.
    pub instance: String,
    /// The process.
    pub pid: Pid,
    /// The replica's folder, as its command line names it.
    pub folder: Option<PathBuf>,
}

/// The instance whose state directory is looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Own {
    /// The first 8 digits of its id.
    pub instance: String,
    /// Its engine's folder.
    pub folder: PathBuf,
    /// Replicas that have a record.
    pub replicas: BTreeSet<String>,
    /// Whether a gateway runs on the state directory.
    pub gateway: bool,
}

/// Something that belongs to nobody any more.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Whose it was.
    pub instance: String,
    /// What it is.
    pub thing: Thing,
}

/// What is left over, in the order in which it can be removed.
#[derive(Debug, Clone)]
pub(super) enum Thing {
    /// A process.
    Shim(Shim),
    /// A mounted file system.
    Mount(PathBuf),
    /// A control group and what runs in it.
    Group(Group),
    /// Something of the network.
    Network(network::Leftover),
    /// A replica's folder.
    Folder(PathBuf),
}

/// Who is asked about.
enum Standing<'a> {
    /// The instance whose state directory is looked at.
    Own(&'a Own),
    /// One that lives: it looks after its things itself.
    Lives,
    /// One whose folder is gone.
    Dead,
    /// One that nobody knows; whether any of its processes run.
    Unknown { runs: bool },
}

/// What belongs to nobody.
pub(super) fn leftovers(seen: &Seen, own: Option<&Own>) -> Vec<Found> {
    let standing = |instance: &str| standing(instance, seen, own);
    let found = |instance: &str, thing| Found { instance: instance.to_owned(), thing };
    let shims = seen.shims.iter().filter(|shim| is_left_shim(shim, &standing(&shim.instance)));
    let mut all: Vec<_> = shims.map(|shim| found(&shim.instance, Thing::Shim(shim.clone()))).collect();
    for (mount, folder) in &seen.mounts {
        let owner = seen.owners.iter().find(|(_, owner)| folder.starts_with(&owner.folder));
        let named = owner.map(|(instance, _)| instance.as_str());
        let named =
            named.or(own.filter(|own| folder.starts_with(&own.folder)).map(|own| own.instance.as_str()));
        let Some(instance) = named else { continue };
        if is_left_mount(folder, &standing(instance)) {
            all.push(found(instance, Thing::Mount(mount.clone())));
        }
    }
    let mut groups: Vec<_> =
        seen.groups.iter().filter(|group| is_left_group(group, &standing(&group.instance), seen)).collect();
    // What is within another one goes first.
    groups.sort_by_key(|group| group.name.is_empty());
    all.extend(groups.into_iter().map(|group| found(&group.instance, Thing::Group(group.clone()))));
    let mut network: Vec<_> =
        seen.network.iter().filter(|thing| is_left_network(&standing(&thing.instance), seen)).collect();
    network.sort_by_key(|thing| thing.kind);
    all.extend(network.into_iter().map(|thing| found(&thing.instance, Thing::Network(thing.clone()))));
    if let Some(own) = own {
        all.extend(seen.folders.iter().map(|folder| found(&own.instance, Thing::Folder(folder.clone()))));
    }
    all
}

/// Names of the network may be cut off: what they begin with tells whose they are.
fn standing<'a>(instance: &str, seen: &Seen, own: Option<&'a Own>) -> Standing<'a> {
    if let Some(own) = own.filter(|own| own.instance.starts_with(instance)) {
        return Standing::Own(own);
    }
    let mut owners = seen.owners.iter().filter(|(name, _)| name.starts_with(instance)).peekable();
    if owners.peek().is_none() {
        let groups = seen.groups.iter().filter(|group| group.instance.starts_with(instance));
        return Standing::Unknown { runs: groups.into_iter().any(|group| group.processes > 0) };
    }
    if owners.any(|(_, owner)| owner.lives) { Standing::Lives } else { Standing::Dead }
}

fn is_left_shim(shim: &Shim, standing: &Standing<'_>) -> bool {
    match standing {
        // Without a folder to go by it is not understood, and kept.
        Standing::Own(own) => shim.folder.as_deref().is_some_and(|folder| {
            let name = folder.file_name().and_then(|name| name.to_str());
            folder.starts_with(&own.folder) && name.is_some_and(|name| !own.replicas.contains(name))
        }),
        Standing::Dead => true,
        Standing::Lives | Standing::Unknown { .. } => false,
    }
}

fn is_left_mount(folder: &std::path::Path, standing: &Standing<'_>) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str());
    match standing {
        Standing::Own(own) => name.is_some_and(|name| !own.replicas.contains(name)),
        Standing::Dead => true,
        Standing::Lives | Standing::Unknown { .. } => false,
    }
}

fn is_left_group(group: &Group, standing: &Standing<'_>, seen: &Seen) -> bool {
    match standing {
        Standing::Own(own) => match &*group.name {
            // Kept for the replicas that there are, and by the gateway for the next one.
            "" | "shims" => is_deserted(own, seen),
            name => !own.replicas.contains(name),
        },
        Standing::Dead => true,
        Standing::Unknown { runs } => !runs,
        Standing::Lives => false,
    }
}

fn is_left_network(standing: &Standing<'_>, seen: &Seen) -> bool {
    match standing {
        // What is ready for the next replica is no leftover as long as somebody may start one.
        Standing::Own(own) => is_deserted(own, seen),
        Standing::Dead => true,
        Standing::Unknown { runs } => !runs,
        Standing::Lives => false,
    }
}

/// Whether neither a gateway nor a replica of the own instance is there.
fn is_deserted(own: &Own, seen: &Seen) -> bool {
    let kept = |shim: &Shim| shim.instance == own.instance && !is_left_shim(shim, &Standing::Own(own));
    !own.gateway && own.replicas.is_empty() && !seen.shims.iter().any(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "aaaaaaaa";
    const LIVES: &str = "bbbbbbbb";
    const DEAD: &str = "cccccccc";
    const UNKNOWN: &str = "dddddddd";

    fn own(replicas: &[&str], gateway: bool) -> Own {
        let replicas = replicas.iter().map(|name| (*name).to_owned()).collect();
        Own { instance: OWN.into(), folder: "/s/embedded".into(), replicas, gateway }
    }

    fn group(instance: &str, name: &str, processes: usize) -> Group {
        Group { instance: instance.into(), name: name.into(), processes }
    }

    fn shim(instance: &str, folder: Option<&str>) -> Shim {
        Shim { instance: instance.into(), pid: Pid { pid: 7, started: 9 }, folder: folder.map(PathBuf::from) }
    }

    fn seen() -> Seen {
        let owner = |folder: &str, lives| Owner { folder: folder.into(), lives };
        Seen {
            owners: [
                (OWN.to_owned(), owner("/s/embedded", true)),
                (LIVES.to_owned(), owner("/t/embedded", true)),
                (DEAD.to_owned(), owner("/gone/embedded", false)),
            ]
            .into(),
            ..Seen::default()
        }
    }

    fn said(seen: &Seen, own: Option<&Own>) -> Vec<String> {
        let text = |found: Found| {
            let thing = match found.thing {
                Thing::Shim(shim) => format!("shim {}", shim.folder.unwrap_or_default().display()),
                Thing::Mount(path) => format!("mount {}", path.display()),
                Thing::Group(group) => format!("group {}", group.name),
                Thing::Network(thing) => format!("network {}", thing.what),
                Thing::Folder(path) => format!("folder {}", path.display()),
            };
            format!("{} {thing}", found.instance)
        };
        leftovers(seen, own).into_iter().map(text).collect()
    }

    #[test]
    fn what_belongs_to_a_replica_with_a_record_is_kept() {
        let seen = Seen {
            groups: vec![
                group(OWN, "", 4),
                group(OWN, "shims", 2),
                group(OWN, "api-1-1", 1),
                group(OWN, "api-1-2", 1),
            ],
            shims: vec![
                shim(OWN, Some("/s/embedded/replicas/api-1-1")),
                shim(OWN, Some("/s/embedded/replicas/api-1-2")),
                shim(OWN, Some("/elsewhere/api-1-3")),
                shim(OWN, None),
            ],
            mounts: ["api-1-1", "api-1-2"]
                .map(|name| {
                    let folder = PathBuf::from(format!("/s/embedded/replicas/{name}"));
                    (folder.join("scratch"), folder)
                })
                .into(),
            ..seen()
        };
        for gateway in [true, false] {
            assert_eq!(
                said(&seen, Some(&own(&["api-1-1"], gateway))),
                [
                    "aaaaaaaa shim /s/embedded/replicas/api-1-2",
                    "aaaaaaaa mount /s/embedded/replicas/api-1-2/scratch",
                    "aaaaaaaa group api-1-2",
                ]
            );
        }
    }

    #[test]
    fn an_instance_goes_only_when_its_folder_has_gone() {
        let rows: [(&str, usize, bool); 5] =
            [(OWN, 1, true), (LIVES, 1, false), (DEAD, 1, true), (UNKNOWN, 1, false), (UNKNOWN, 0, true)];
        for (instance, processes, goes) in rows {
            let seen = Seen { groups: vec![group(instance, "web-1-1", processes)], ..seen() };
            let wanted = goes.then(|| format!("{instance} group web-1-1"));
            let found = said(&seen, Some(&own(&[], true)));
            assert_eq!(found.first().filter(|said| said.contains("group")).cloned(), wanted, "{found:?}");
        }
        // Whose state directory nobody looks at is known by its owner alone.
        let seen = Seen { groups: vec![group(OWN, "web-1-1", 1)], ..seen() };
        assert_eq!(said(&seen, None), Vec::<String>::new());
    }

    #[test]
    fn what_waits_for_the_next_replica_is_kept_while_there_may_be_one() {
        let seen = Seen { groups: vec![group(OWN, "", 0), group(OWN, "shims", 0)], ..seen() };
        let kept = Vec::<String>::new();
        assert_eq!(said(&seen, Some(&own(&[], true))), kept);
        assert_eq!(said(&seen, Some(&own(&["api-1-1"], false))), kept);
        let all = ["aaaaaaaa group shims", "aaaaaaaa group "];
        assert_eq!(said(&seen, Some(&own(&[], false))), all);
        let unclear = Seen { shims: vec![shim(OWN, None)], ..seen };
        assert_eq!(said(&unclear, Some(&own(&[], false))), kept);
    }

    #[test]
    fn names_that_were_cut_off_are_recognised() {
        let seen = seen();
        for (instance, own_is) in [("aaaaaa", true), ("bbbbbb", false), ("cccccc", false)] {
            let own = own(&[], true);
            assert_eq!(
                matches!(standing(instance, &seen, Some(&own)), Standing::Own(_)),
                own_is,
                "{instance}"
            );
        }
        assert!(matches!(standing("bbbbbb", &seen, None), Standing::Lives));
        assert!(matches!(standing("cccccc", &seen, None), Standing::Dead));
    }
}
