//! On which host the next replica runs. Asked by [`plan`](crate::plan), and by [`refuse`](crate::refuse) whether any
//! takes it. Holds: a host is chosen only if it is up, permitted, has this revision's image, and has room for the
//! service's reserve. A capacity of zero means that nobody knows it: it does not limit.
//! Absent: real use of hosts; what is counted is what services reserve.

use std::{cmp::Ordering, fmt};

use tidegate_config::{
    model::{Placement, Service},
    name::HostName,
    units::{Bytes, Count},
};

use crate::snapshot::{Host, HostState, Image, Replica, revision_of};

/// No host takes another replica.
#[derive(Debug, Clone, PartialEq)]
pub struct NoFit {
    /// Each host, and why not.
    pub hosts: Vec<(HostName, Misfit)>,
}

/// Why a host does not take a replica.
#[derive(Debug, Clone, PartialEq)]
pub enum Misfit {
    /// Its engine does not answer.
    Down,
    /// It lacks a label that the service asks for.
    Label {
        /// The label.
        key: String,
        /// What it must be.
        wanted: String,
        /// What it is.
        found: Option<String>,
    },
    /// The image cannot be had there.
    ImageFailed(String),
    /// The image is not there yet.
    ImageMissing,
    /// The image there is another one than on the first host that has it.
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

/// The host for the service's next replica; `own` are the service's replicas.
///
/// # Errors
/// [`NoFit`] if there is none, with each host's reason.
pub fn place(service: &Service, own: &[Replica], hosts: &[Host]) -> Result<HostName, NoFit> {
    let mut misfits = Vec::new();
    let mut best: Option<&Host> = None;
    for host in hosts {
        match misfit(service, host, hosts) {
            Some(why) => misfits.push((host.name.clone(), why)),
            // Strictly better only: ties go to the host that stands first in the file.
            None if best.is_none_or(|b| prefer(service.placement, own, host, b).is_lt()) => best = Some(host),
            None => {}
        }
    }
    best.map(|host| host.name.clone()).ok_or(NoFit { hosts: misfits })
}

/// Whether the service's constraints permit this host.
#[must_use]
pub fn permitted(service: &Service, host: &Host) -> bool {
    label_misfit(service, host).is_none()
}

/// `Less` if `a` is the better choice.
fn prefer(placement: Placement, own: &[Replica], a: &Host, b: &Host) -> Ordering {
    let of_service = |host: &Host| own.iter().filter(|r| r.host == host.name && r.phase.is_live()).count();
    let by_share = reserved_share(a).total_cmp(&reserved_share(b));
    match placement {
        Placement::Spread => of_service(a).cmp(&of_service(b)).then(by_share),
        Placement::Binpack => by_share.reverse(),
    }
}

fn misfit(service: &Service, host: &Host, hosts: &[Host]) -> Option<Misfit> {
    if host.state != HostState::Up {
        return Some(Misfit::Down);
    }
    label_misfit(service, host).or_else(|| image_misfit(host, hosts)).or_else(|| room_misfit(service, host))
}

fn label_misfit(service: &Service, host: &Host) -> Option<Misfit> {
    let (key, wanted) =
        service.constraints.iter().find(|(key, wanted)| host.labels.get(*key) != Some(*wanted))?;
    Some(Misfit::Label { key: key.clone(), wanted: wanted.clone(), found: host.labels.get(key).cloned() })
}

fn image_misfit(host: &Host, hosts: &[Host]) -> Option<Misfit> {
    match &host.image {
        Image::Unknown | Image::Pulling => Some(Misfit::ImageMissing),
        Image::Failed { message, .. } => Some(Misfit::ImageFailed(message.clone())),
        // A replica of another revision would be drained as soon as it is ready, again and again.
        Image::Present { revision, .. } => {
            (Some(revision) != revision_of(hosts)).then_some(Misfit::OtherRevision)
        }
    }
}

fn room_misfit(service: &Service, Host { capacity, reserved, .. }: &Host) -> Option<Misfit> {
    let needed = service.launch.resources.reserve;
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
        matches!(self, Self::Memory { .. } | Self::Cpu { .. } | Self::Replicas { .. })
    }
}

impl NoFit {
    /// Whether room is what is missing somewhere.
    #[must_use]
    pub fn is_room(&self) -> bool {
        self.hosts.iter().any(|(_, misfit)| misfit.is_room())
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down => f.write_str("its engine does not answer"),
            Self::Label { key, wanted, found: None } => write!(f, "label {key} is missing, {wanted} needed"),
            Self::Label { key, wanted, found: Some(found) } => {
                write!(f, "label {key} is {found}, {wanted} needed")
            }
            Self::ImageFailed(message) => write!(f, "image: {message}"),
            Self::ImageMissing => f.write_str("the image is not there yet"),
            Self::OtherRevision => f.write_str("has another version of the image than the first host"),
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
    use crate::{
        fixture::{self, host_name},
        replica::Phase,
        snapshot::Room,
    };

    /// A host with memory for so many MiB, some of it reserved.
    fn host(name: &str, of: u64, reserved: u64) -> Host {
        Host {
            capacity: Room { cpu: 4.0, memory: Bytes::mib(of), replicas: 10 },
            reserved: Room { memory: Bytes::mib(reserved), ..Room::default() },
            ..fixture::host(name)
        }
    }

    fn check(service: &Service, own: &[Replica], hosts: &[Host], expected: Result<&str, &str>) {
        let found = place(service, own, hosts).map_err(|no_fit| no_fit.to_string());
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
        check(&service, &[], &one(&|h| h.state = HostState::Silent), Err("local: its engine does not answer"));
        check(&service, &[], &one(&|h| h.image = Image::Pulling), Err("local: the image is not there yet"));
        check(
            &service,
            &[],
            &one(&|h| h.image = Image::Failed { message: "no such image".into(), retry_at: None }),
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
        check(&service, &[], &one(&|h| drop(h.labels.insert("disk".into(), "ssd".into()))), Ok("local"));
    }

    #[test]
    fn hosts_with_another_revision_are_left_out() {
        let mut other = host("b", 512, 0);
        other.image = fixture::present("r2");
        check(
            &service(),
            &[],
            &[host("a", 512, 512), other],
            Err(
                "a: memory 0B free of 512MiB, 64MiB needed; b: has another version of the image than the first host",
            ),
        );
    }
}
