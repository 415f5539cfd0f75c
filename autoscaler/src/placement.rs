//! On which host the next replica runs. Asked by [`plan`](crate::plan), and by [`refuse`](crate::refuse) whether any
//! takes it. Holds: a host is chosen only if it is up and open, permitted, has the version, and has room for its
//! reserve. A capacity of zero means that nobody knows it: it does not limit.
//! Absent: real use of hosts; what is counted is what services reserve.

use std::{cmp::Ordering, collections::BTreeMap, fmt};

use tidegate_config::{
    constraint::Constraint,
    model::{Placement, Service},
    name::HostName,
    spec::{Reserve, Version},
    units::{Bytes, Count},
};

use crate::snapshot::{Host, HostOrder, HostState, Image, Replica, Snapshot};

/// No host takes another replica.
#[derive(Debug, Clone, PartialEq)]
pub struct NoFit {
    /// Each host, and why not.
    pub hosts: Vec<(HostName, Misfit)>,
}

/// Why a host does not take a replica.
#[derive(Debug, Clone, PartialEq)]
pub enum Misfit {
    /// Its engine does not answer, or does not do what it is asked and says this.
    Down(Option<String>),
    /// That has been so for so long that it counts as lost.
    Lost(Option<String>),
    /// The operator wants no new replicas there.
    Cordoned,
    /// The operator wants no replicas there.
    Draining,
    /// The service's data is on another host.
    Pinned {
        /// On that one.
        host: HostName,
    },
    /// The service is to run on others.
    NotNamed,
    /// Its engine, which places by itself, has no place.
    Full(String),
    /// It lacks a label that the service asks for.
    Label {
        /// The label.
        key: String,
        /// What it must be.
        wanted: Constraint,
        /// What it is.
        found: Option<String>,
    },
    /// The image cannot be had there.
    ImageFailed(String),
    /// The image is not there yet.
    ImageMissing,
    /// It has other versions of the image, but not this one.
    OtherRevision,
    /// Memory is short.
    Memory {
        /// What is free.
        free: Bytes,
        /// What there is.
        of: Bytes,
        /// What is needed.
        needed: Bytes,
    },
    /// Cores are short.
    Cpu {
        /// What is free.
        free: f64,
        /// What there is.
        of: f64,
        /// What is needed.
        needed: f64,
    },
    /// It has as many replicas as it may.
    Replicas {
        /// How many.
        of: Count,
    },
}

/// The host for the service's next replica of a version (`None`: nobody knows one); `own` are the service's replicas.
///
/// # Errors
/// [`NoFit`] if there is none, with each host's reason.
pub fn place(
    seen: &Snapshot,
    version: Option<&Version>,
    own: &[Replica],
    hosts: &[Host],
) -> Result<HostName, NoFit> {
    // Those that are about to go do not count, or what follows them would crowd where they are not.
    let stays = |r: &&Replica| {
        r.phase.is_live()
            && version.is_none_or(|version| version.revision == r.revision)
            && seen.asked.restart.is_none_or(|at| r.started >= at)
    };
    let own: Vec<&Replica> = own.iter().filter(stays).collect();
    let mut misfits = Vec::new();
    let mut best: Option<&Host> = None;
    for host in hosts {
        match misfit(seen, version, host) {
            Some(why) => misfits.push((host.name.clone(), why)),
            // Strictly better only: ties go to the host that stands first in the file.
            None if best.is_none_or(|b| prefer(&seen.service, &own, host, b).is_lt()) => {
                best = Some(host);
            }
            None => {}
        }
    }
    best.map(|host| host.name.clone()).ok_or(NoFit { hosts: misfits })
}

/// Whether the service's constraints and its data permit this host.
#[must_use]
pub fn permitted(seen: &Snapshot, host: &Host) -> bool {
    is_for(&seen.service, seen.pinned.as_ref(), host)
}

/// The same, of a service with its data on that host.
fn is_for(service: &Service, pinned: Option<&HostName>, host: &Host) -> bool {
    let misfit = pin_misfit(pinned, host).or_else(|| name_misfit(service, host));
    misfit.or_else(|| label_misfit(service, host)).is_none()
}

/// Whether a replica for which its cluster has no place may be had elsewhere, as far as anybody knows.
#[must_use]
pub fn may_go_elsewhere(service: &Service, pinned: Option<&HostName>, hosts: &[Host]) -> bool {
    let reserve = service.launch.resources.reserve;
    let can = |host: &Host| !matches!(host.image, Image::Failed { .. }) && takes_back(host, reserve);
    hosts.iter().any(|host| is_for(service, pinned, host) && can(host))
}

/// The labels that a cluster's nodes have to have: those that the host does not have itself.
#[must_use]
pub fn left_to_engine(service: &Service, host: &Host) -> BTreeMap<String, Constraint> {
    let open = |(key, _): &(&String, &Constraint)| !host.labels.contains_key(*key);
    service.constraints.iter().filter(open).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Whether a host takes anything new: it is up and open.
#[must_use]
pub fn is_open(host: &Host) -> bool {
    state_misfit(host).is_none()
}

/// Whether a stopped replica that reserves this much can be started again where it is.
pub(crate) fn takes_back(host: &Host, reserve: Reserve) -> bool {
    is_open(host) && room_misfit(reserve, host).is_none()
}

/// Whether somebody has to look if this host has the version.
pub(crate) fn is_unasked(version: &Version, host: &Host) -> bool {
    !is_present(version, host) && !host.has.contains_key(&version.revision)
}

/// `Less` if `a` is the better choice; `own` are the replicas that are to stay.
fn prefer(service: &Service, own: &[&Replica], a: &Host, b: &Host) -> Ordering {
    let rank = |host: &Host| service.run_on.iter().position(|name| *name == host.name);
    let by_rank = rank(a).cmp(&rank(b));
    let of_service = |host: &Host| own.iter().filter(|r| r.host == host.name).count();
    let by_share = reserved_share(a).total_cmp(&reserved_share(b));
    by_rank.then_with(|| match service.placement {
        Placement::Spread => of_service(a).cmp(&of_service(b)).then(by_share),
        Placement::Binpack => by_share.reverse(),
    })
}

fn misfit(seen: &Snapshot, version: Option<&Version>, host: &Host) -> Option<Misfit> {
    let reserve = version.map_or(&seen.service.launch, |version| &version.launch).resources.reserve;
    pin_misfit(seen.pinned.as_ref(), host)
        .or_else(|| name_misfit(&seen.service, host))
        .or_else(|| state_misfit(host))
        .or_else(|| label_misfit(&seen.service, host))
        .or_else(|| image_misfit(version, host))
        .or_else(|| room_misfit(reserve, host))
}

fn pin_misfit(pinned: Option<&HostName>, host: &Host) -> Option<Misfit> {
    let pinned = pinned.filter(|pinned| **pinned != host.name)?;
    Some(Misfit::Pinned { host: pinned.clone() })
}

fn name_misfit(service: &Service, host: &Host) -> Option<Misfit> {
    (!service.runs_on(&host.name)).then_some(Misfit::NotNamed)
}

/// Why a host takes nothing new at all.
pub(crate) fn state_misfit(host: &Host) -> Option<Misfit> {
    match (host.state, host.order) {
        (HostState::Silent, _) => Some(Misfit::Down(host.said.clone())),
        (HostState::Lost, _) => Some(Misfit::Lost(host.said.clone())),
        (HostState::Up, HostOrder::Cordoned) => Some(Misfit::Cordoned),
        (HostState::Up, HostOrder::Draining) => Some(Misfit::Draining),
        (HostState::Up, HostOrder::Open) => None,
    }
}

fn label_misfit(service: &Service, host: &Host) -> Option<Misfit> {
    // A cluster looks for the label on its nodes, unless the host itself has another.
    let fits = |key: &String, wanted: &Constraint| {
        let found = host.labels.get(key).map(String::as_str);
        wanted.allows(found) || found.is_none() && host.can.places
    };
    let (key, wanted) = service.constraints.iter().find(|(key, wanted)| !fits(key, wanted))?;
    Some(Misfit::Label { key: key.clone(), wanted: wanted.clone(), found: host.labels.get(key).cloned() })
}

fn is_present(version: &Version, host: &Host) -> bool {
    matches!(&host.image, Image::Present { revision, .. } if *revision == version.revision)
}

fn image_misfit(version: Option<&Version>, host: &Host) -> Option<Misfit> {
    let has = version.and_then(|version| host.has.get(&version.revision)).copied();
    if has == Some(true) || version.is_some_and(|version| is_present(version, host)) {
        return None;
    }
    match (&host.image, has) {
        (Image::Unknown | Image::Pulling, _) => Some(Misfit::ImageMissing),
        // Looked for by the plan of this same evaluation.
        _ if version.is_some_and(|version| is_unasked(version, host)) => Some(Misfit::ImageMissing),
        (Image::Failed { message, .. }, _) => Some(Misfit::ImageFailed(message.clone())),
        (Image::Present { .. }, _) => Some(Misfit::OtherRevision),
    }
}

fn room_misfit(needed: Reserve, Host { capacity, reserved, full, .. }: &Host) -> Option<Misfit> {
    if let Some(why) = full {
        return Some(Misfit::Full(why.clone()));
    }
    let free = Bytes(capacity.memory.0.saturating_sub(reserved.memory.0));
    if capacity.memory.0 > 0 && free < needed.memory {
        return Some(Misfit::Memory { free, of: capacity.memory, needed: needed.memory });
    }
    let free = (capacity.cpu - reserved.cpu).max(0.0);
    // Shares such as 0.1 do not add up exactly.
    if capacity.cpu > 0.0 && free + 1e-9 < needed.cpu {
        return Some(Misfit::Cpu { free, of: capacity.cpu, needed: needed.cpu });
    }
    let full = capacity.replicas > 0 && reserved.replicas >= capacity.replicas;
    full.then_some(Misfit::Replicas { of: capacity.replicas })
}

/// How full a host is: the scarcest thing decides.
#[expect(clippy::cast_precision_loss, reason = "a share for comparing")]
fn reserved_share(host: &Host) -> f64 {
    let share = |reserved: f64, capacity: f64| if capacity > 0.0 { reserved / capacity } else { 0.0 };
    share(host.reserved.memory.0 as f64, host.capacity.memory.0 as f64)
        .max(share(host.reserved.cpu, host.capacity.cpu))
        .max(share(f64::from(host.reserved.replicas), f64::from(host.capacity.replicas)))
}

impl Misfit {
    /// Whether it is only that the image has not arrived.
    #[must_use]
    pub fn is_image(&self) -> bool {
        matches!(self, Self::ImageMissing)
    }

    /// Whether it is for want of room.
    #[must_use]
    pub fn is_room(&self) -> bool {
        matches!(self, Self::Memory { .. } | Self::Cpu { .. } | Self::Replicas { .. } | Self::Full(_))
    }
}

impl NoFit {
    /// Whether room is what is missing somewhere.
    #[must_use]
    pub fn is_room(&self) -> bool {
        self.hosts.iter().any(|(_, misfit)| misfit.is_room())
    }

    /// Where memory is what is missing, and how much.
    #[must_use]
    pub fn lacks_memory(&self) -> BTreeMap<HostName, Bytes> {
        let lack = |(host, misfit): &(HostName, Misfit)| match misfit {
            Misfit::Memory { free, needed, .. } => {
                Some((host.clone(), Bytes(needed.0.saturating_sub(free.0))))
            }
            _ => None,
        };
        self.hosts.iter().filter_map(lack).collect()
    }
}

fn because(f: &mut fmt::Formatter<'_>, what: &str, said: Option<&str>) -> fmt::Result {
    match said {
        Some(said) => write!(f, "{what}: {said}"),
        None => f.write_str(what),
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down(said) => because(f, "its engine does not answer", said.as_deref()),
            Self::Lost(said) => because(f, "it is lost", said.as_deref()),
            Self::Cordoned => f.write_str("it is cordoned"),
            Self::Draining => f.write_str("it is being drained"),
            Self::Pinned { host } => write!(f, "its data is on {host}"),
            Self::NotNamed => f.write_str("the service is to run on others"),
            Self::Full(why) => write!(f, "no place: {why}"),
            Self::Label { key, wanted, found: None } => write!(f, "label {key} is missing, {wanted} needed"),
            Self::Label { key, wanted, found: Some(found) } => {
                write!(f, "label {key} is {found}, {wanted} needed")
            }
            Self::ImageFailed(message) => write!(f, "image: {message}"),
            Self::ImageMissing => f.write_str("the image is not there yet"),
            Self::OtherRevision => f.write_str("has other versions of the image, not this one"),
            Self::Memory { free, of, needed } => write!(f, "memory {free} free of {of}, {needed} needed"),
            Self::Cpu { free, of, needed } => write!(f, "cpu {free:.2} free of {of:.2}, {needed:.2} needed"),
            Self::Replicas { of } => write!(f, "full with {of} replicas"),
        }
    }
}

impl fmt::Display for NoFit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.hosts.is_empty() {
            return f.write_str("there is no host");
        }
        for (n, (host, why)) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}: {why}", if n == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::{
        fixture::{self, host_name},
        replica::Phase,
        snapshot::Room,
    };
    use tidegate_config::model::ScalingPolicy;

    /// A host with memory for so many MiB, some of it reserved.
    fn host(name: &str, of: u64, reserved: u64) -> Host {
        Host {
            capacity: Room { cpu: 4.0, memory: Bytes::mib(of), replicas: 10 },
            reserved: Room { memory: Bytes::mib(reserved), ..Room::default() },
            ..fixture::host(name)
        }
    }

    fn check(service: &Service, own: &[Replica], hosts: &[Host], expected: Result<&str, &str>) {
        check_pinned(service, None, own, hosts, expected);
    }

    fn check_pinned(
        service: &Service,
        pinned: Option<&str>,
        own: &[Replica],
        hosts: &[Host],
        expected: Result<&str, &str>,
    ) {
        let mut seen = fixture::snapshot(ScalingPolicy::default());
        (seen.service, seen.pinned) = (Arc::new(service.clone()), pinned.map(host_name));
        let version = Version { launch: service.launch.clone(), ..fixture::version("r1") };
        let found = place(&seen, Some(&version), own, hosts).map_err(|no_fit| no_fit.to_string());
        assert_eq!(found, expected.map(host_name).map_err(str::to_owned));
    }

    fn service() -> Service {
        let mut service = Service::of("api".parse().expect("a valid name"), "api:1");
        service.launch.resources.reserve.cpu = 0.5;
        service
    }

    #[test]
    fn spread_takes_the_fewest_then_the_emptiest_then_the_first() {
        let (a, b, c) = (host("a", 512, 256), host("b", 512, 128), host("c", 512, 128));
        let hosts = [a, b, c];
        check(&service(), &[], &hosts, Ok("b"));
        let on = |number, name| {
            let at = fixture::origin();
            Replica { host: host_name(name), ..fixture::replica(number, Phase::Ready, at) }
        };
        check(&service(), &[on(1, "b")], &hosts, Ok("c"));
        check(&service(), &[on(1, "b"), on(2, "c")], &hosts, Ok("a"));
        // What is on its way out does not count.
        let stopping = Replica { phase: Phase::Stopping, ..on(1, "b") };
        check(&service(), &[stopping], &hosts, Ok("b"));
    }

    #[test]
    fn binpack_takes_the_fullest_that_fits() {
        let service = Service { placement: Placement::Binpack, ..service() };
        check(&service, &[], &[host("a", 512, 128), host("b", 512, 448), host("c", 512, 480)], Ok("b"));
        // Replicas may be the scarcest thing.
        let mut many = host("a", 512, 0);
        many.reserved.replicas = 9;
        check(&service, &[], &[host("b", 512, 256), many], Ok("a"));
    }

    #[test]
    fn every_misfit_says_why() {
        let mut service = service();
        let one = |change: &dyn Fn(&mut Host)| {
            let mut host = host("local", 512, 0);
            change(&mut host);
            [host]
        };
        check(
            &service,
            &[],
            &[host("local", 512, 482)],
            Err("local: memory 30MiB free of 512MiB, 64MiB needed"),
        );
        check(
            &service,
            &[],
            &one(&|h| h.reserved.cpu = 3.75),
            Err("local: cpu 0.25 free of 4.00, 0.50 needed"),
        );
        check(&service, &[], &one(&|h| h.reserved.cpu = 3.5), Ok("local"));
        check(&service, &[], &one(&|h| h.reserved.replicas = 10), Err("local: full with 10 replicas"));
        check(
            &service,
            &[],
            &one(&|h| h.state = HostState::Silent),
            Err("local: its engine does not answer"),
        );
        check(&service, &[], &one(&|h| h.state = HostState::Lost), Err("local: it is lost"));
        check(&service, &[], &one(&|h| h.order = HostOrder::Cordoned), Err("local: it is cordoned"));
        check(&service, &[], &one(&|h| h.order = HostOrder::Draining), Err("local: it is being drained"));
        check_pinned(&service, Some("b"), &[], &one(&|_| ()), Err("local: its data is on b"));
        check(&service, &[], &one(&|h| h.image = Image::Pulling), Err("local: the image is not there yet"));
        check(
            &service,
            &[],
            &one(&|h| {
                h.image = Image::Failed { message: "no such image".into(), retry_at: None };
                h.has.insert(fixture::version("r1").revision, false);
            }),
            Err("local: image: no such image"),
        );
        // Nobody knows its capacity.
        let unknown = one(&|h| {
            h.capacity = Room::default();
            h.reserved = Room { cpu: 100.0, memory: Bytes::mib(1 << 20), replicas: 1000 };
        });
        check(&service, &[], &unknown, Ok("local"));
        check(&service, &[], &[], Err("there is no host"));

        service.constraints.insert("disk".into(), "ssd".into());
        check(&service, &[], &one(&|_| ()), Err("local: label disk is missing, ssd needed"));
        let hdd = one(&|h| drop(h.labels.insert("disk".into(), "hdd".into())));
        check(&service, &[], &hdd, Err("local: label disk is hdd, ssd needed"));
        let ssd = one(&|h| drop(h.labels.insert("disk".into(), "ssd".into())));
        check(&service, &[], &ssd, Ok("local"));
        let not = |values: &[&str]| Constraint::NoneOf(values.iter().map(|v| (*v).to_owned()).collect());
        service.constraints.insert("disk".into(), not(&["hdd", "tape"]));
        check(&service, &[], &one(&|_| ()), Ok("local"));
        check(&service, &[], &hdd, Err("local: label disk is hdd, not hdd or tape needed"));
        check(&service, &[], &ssd, Ok("local"));
    }

    #[test]
    fn run_on_fills_hosts_in_its_order() {
        let mut service = service();
        service.run_on = ["b", "c"].map(host_name).to_vec();
        let hosts = |change: &dyn Fn(&mut Host)| {
            let mut hosts = [host("a", 512, 0), host("b", 512, 256), host("c", 512, 0)];
            change(&mut hosts[1]);
            hosts
        };
        let on = |number, name| {
            let at = fixture::origin();
            Replica { host: host_name(name), ..fixture::replica(number, Phase::Ready, at) }
        };
        check(&service, &[on(1, "b")], &hosts(&|_| ()), Ok("b"));
        type Spoil = fn(&mut Host);
        let spoils: [Spoil; 4] = [
            |b| b.state = HostState::Lost,
            |b| b.order = HostOrder::Cordoned,
            |b| b.reserved.memory = Bytes::mib(512),
            |b| b.full = Some("no suitable node".into()),
        ];
        for spoil in spoils {
            check(&service, &[on(1, "b")], &hosts(&spoil), Ok("c"));
        }
        service.run_on = vec![host_name("b")];
        let full = hosts(&|b| b.full = Some("no suitable node".into()));
        let words = "a: the service is to run on others; b: no place: no suitable node; \
                     c: the service is to run on others";
        check(&service, &[], &full, Err(words));
    }

    #[test]
    fn clusters_look_for_labels_on_their_nodes() {
        let mut service = service();
        service.constraints =
            [("disk", "ssd"), ("zone", "a")].map(|(key, value)| (key.to_owned(), value.into())).into();
        let cluster = |zone: Option<&str>| {
            let mut host = host("swarm", 0, 0);
            host.can.places = true;
            host.labels.extend(zone.map(|zone| ("zone".to_owned(), zone.to_owned())));
            host
        };
        check(&service, &[], &[cluster(None)], Ok("swarm"));
        check(&service, &[], &[cluster(Some("a"))], Ok("swarm"));
        check(&service, &[], &[cluster(Some("b"))], Err("swarm: label zone is b, a needed"));
        assert_eq!(left_to_engine(&service, &cluster(None)), service.constraints);
        let rest = BTreeMap::from([("disk".to_owned(), "ssd".into())]);
        assert_eq!(left_to_engine(&service, &cluster(Some("a"))), rest);
    }

    #[test]
    fn what_has_no_place_goes_where_one_may_be() {
        let mut service = service();
        let full = || Host { full: Some("no suitable node".into()), ..host("swarm", 0, 0) };
        let failed = Image::Failed { message: "no such image".into(), retry_at: None };
        for (other, expected) in [
            (host("b", 512, 0), true),
            (host("b", 512, 512), false),
            (Host { state: HostState::Silent, ..host("b", 512, 0) }, false),
            (Host { image: failed, ..host("b", 512, 0) }, false),
            (Host { image: Image::Unknown, ..host("b", 512, 0) }, true),
        ] {
            assert_eq!(may_go_elsewhere(&service, None, &[full(), other.clone()]), expected, "{other:?}");
        }
        let both = [full(), host("b", 512, 0)];
        assert!(!may_go_elsewhere(&service, Some(&host_name("swarm")), &both), "its data is there");
        service.run_on = vec![host_name("swarm")];
        assert!(!may_go_elsewhere(&service, None, &both), "nowhere else");
    }

    #[test]
    fn a_version_is_where_it_was_pulled_or_found() {
        let with = |image: Image, has: Option<bool>| {
            let mut host = host("a", 512, 0);
            (host.image, host.has) =
                (image, has.map(|has| (fixture::version("r1").revision, has)).into_iter().collect());
            [host]
        };
        let failed = || Image::Failed { message: "no such image".into(), retry_at: None };
        let missing = Err("a: the image is not there yet");
        let rows = [
            (fixture::present("r1"), Some(false), Ok("a")),
            (fixture::present("r2"), Some(true), Ok("a")),
            (failed(), Some(true), Ok("a")),
            (Image::Pulling, Some(true), Ok("a")),
            (Image::Pulling, Some(false), missing),
            // Somebody is about to look.
            (fixture::present("r2"), None, missing),
            (failed(), None, missing),
            (fixture::present("r2"), Some(false), Err("a: has other versions of the image, not this one")),
            (failed(), Some(false), Err("a: image: no such image")),
        ];
        for (image, has, expected) in rows {
            check(&service(), &[], &with(image, has), expected);
        }
    }

    #[test]
    fn what_memory_lacks() {
        let hosts = vec![
            (host_name("a"), Misfit::Memory { free: Bytes(10), of: Bytes(100), needed: Bytes(64) }),
            (host_name("b"), Misfit::Down(None)),
        ];
        assert_eq!(NoFit { hosts }.lacks_memory(), BTreeMap::from([(host_name("a"), Bytes(54))]));
    }
}
