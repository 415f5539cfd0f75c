//! Makes and removes one place: a network namespace that is pinned by a mount, with a pair of cards to the bridge.
//! Blocking. Whoever calls holds the claim on the place; each step may find what a crash left of an earlier try.

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::statfs,
};

use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, State};

use super::{
    messages,
    names::{self, Names},
    netlink::{Netlink, explain},
};
use crate::{Error, Kind, Result};

/// How often, and with which pause, a card is looked at until it is up: two seconds in all, as the kernel takes one at most.
const LOOKS: u32 = 2000;
const PAUSE: Duration = Duration::from_millis(1);
const IPV6: &str = "/proc/sys/net/ipv6";

/// What a place is made with.
#[derive(Debug, Clone)]
pub(super) struct Wiring {
    /// Subnet and names.
    pub names: Names,
    /// The bridge's number.
    pub bridge: u32,
    /// Whether replicas may reach 169.254.0.0/16.
    pub allow_metadata: bool,
    /// Where namespaces are pinned.
    pub pins: PathBuf,
}

/// A namespace that is open, and a conversation with the kernel about it.
struct Inside {
    namespace: File,
    netlink: Netlink,
}

impl Wiring {
    /// The file on which the namespace of a place is pinned.
    pub(super) fn pin(&self, k: u32) -> PathBuf {
        self.pins.join(k.to_string())
    }

    /// Makes a place from nothing.
    pub(super) fn make(&self, k: u32) -> Result<()> {
        let inside = in_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            settings();
            Inside::here()
        })
        .map_err(|e| explain("make a network namespace", e))?;
        let pin = self.pin(k);
        hold(&inside.namespace, &pin).map_err(|e| explain(&format!("pin {}", pin.display()), e))?;
        self.connect(k, inside)
    }

    /// Connects a place whose namespace is there, but its cards are not.
    pub(super) fn mend(&self, k: u32) -> Result<()> {
        let pin = self.pin(k);
        let inside = in_a_thread(move || {
            setns(File::open(pin)?, CloneFlags::CLONE_NEWNET)?;
            Inside::here()
        });
        self.connect(k, inside.map_err(|e| explain("enter a network namespace", e))?)
    }

    fn connect(&self, k: u32, mut inside: Inside) -> Result<()> {
        let mut outside = Netlink::open().map_err(|e| explain("open a netlink socket", e))?;
        let (name, address) = (self.names.veth(k), self.names.address(k));
        let mac = names::mac(address);
        let pair = || messages::pair(&name, self.bridge, inside.namespace.as_raw_fd(), mac);
        let ipv6 = Path::new(IPV6).exists();
        let finish = || {
            let mut requests = Vec::from(messages::port(&name, self.bridge, self.names.alias(), ipv6));
            requests.push(messages::neighbour(self.bridge, address, mac));
            requests
        };
        let mut requests = vec![pair()];
        requests.extend(finish());
        let mut outcomes = outside.each(requests).map_err(|e| explain("make a veth pair", e))?;
        let made = outcomes.swap_remove(0);
        if made.as_ref().is_err_and(|e| e.raw_os_error() == Some(libc::EEXIST)) {
            // Left by a crash: this place is claimed, so nobody else uses the name.
            outside.all(vec![messages::remove(&name), pair()])?;
            outside.all(finish())?;
        } else if let Some(error) = made.err().or_else(|| outcomes.into_iter().find_map(io::Result::err)) {
            return Err(explain(&format!("make the veth pair {name}"), error));
        }
        let port = index(&mut outside, &name)?;
        outside.all(vec![messages::forward(port, mac)])?;
        self.furnish(k, &mut inside.netlink)?;
        // What is sent through a card before all this is lost, and TCP waits a second before it sends again.
        await_up(&mut outside, &name)?;
        await_up(&mut inside.netlink, messages::CARD)?;
        await_up(&mut outside, &self.names.bridge())
    }

    /// Address, routes and neighbours inside.
    fn furnish(&self, k: u32, inside: &mut Netlink) -> Result<()> {
        let (subnet, gateway) = (self.names.subnet, self.names.gateway());
        let (lo, card) = (index(inside, "lo")?, index(inside, messages::CARD)?);
        let mut requests = vec![
            messages::up(lo),
            messages::lone_address(card, self.names.address(k), subnet.prefix_len()),
            messages::up(card),
            messages::neighbour(card, gateway, names::mac(gateway)),
        ];
        requests.extend(messages::replica_routes(card, subnet, gateway, self.allow_metadata));
        inside.all(requests)
    }

    /// Whether the namespace of this place is pinned.
    pub(super) fn is_pinned(&self, k: u32) -> bool {
        is_pin(&self.pin(k))
    }

    /// Removes places, as far as they are there. Many take hardly longer than one.
    pub(super) fn unmake(&self, places: &[u32]) -> Result<()> {
        let cards: Vec<_> = places.iter().map(|k| self.names.veth(*k)).collect();
        remove_cards(&cards, self.names.group())?;
        let neighbours =
            places.iter().map(|k| messages::remove_neighbour(self.bridge, self.names.address(*k)));
        let mut outside = Netlink::open().map_err(|e| explain("open a netlink socket", e))?;
        // What is not there any more need not be forgotten.
        let _ = outside.each(neighbours.collect());
        for k in places {
            let pin = self.pin(*k);
            unpin(&pin).map_err(|e| explain(&format!("unpin {}", pin.display()), e))?;
        }
        Ok(())
    }
}

impl Inside {
    /// Of the thread that calls.
    fn here() -> io::Result<Self> {
        Ok(Self { namespace: File::open("/proc/thread-self/ns/net")?, netlink: Netlink::open()? })
    }
}

/// Entering a namespace cannot be undone safely, so it is done by a thread that ends with it.
fn in_a_thread<T: Send + 'static>(act: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let thread = thread::Builder::new().name("tidegate-netns".into()).spawn(act)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
}

/// What a namespace of Docker's has too: any process may use low ports and ping. There is no IPv6 but on `lo`.
fn settings() {
    for (file, value) in [
        ("ipv4/ip_unprivileged_port_start", "0"),
        ("ipv4/ping_group_range", "0 2147483647"),
        ("ipv6/conf/default/disable_ipv6", "1"),
    ] {
        let file = Path::new("/proc/sys/net").join(file);
        if let Err(error) = fs::write(&file, value) {
            tracing::debug!(file = %file.display(), %error, "left a setting of a network namespace alone");
        }
    }
}

fn index(netlink: &mut Netlink, name: &str) -> Result<u32> {
    let found = netlink.link(name).map_err(|e| explain(&format!("find {name}"), e))?;
    found.map(|link| link.header.index).ok_or_else(|| {
        Error::new(Kind::Retryable, format!("the network card {name} vanished while it was set up"))
    })
}

/// Ends when a card can really send: the kernel lets it some time after it was set up (newer kernels: when asked).
fn await_up(netlink: &mut Netlink, name: &str) -> Result<()> {
    for _ in 0..LOOKS {
        let found = netlink.link(name).map_err(|e| explain(&format!("find {name}"), e))?;
        let up = |link: LinkMessage| link.attributes.contains(&LinkAttribute::OperState(State::Up));
        if found.is_some_and(up) {
            return Ok(());
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "in a thread that may wait; each look may be the last"
        )]
        thread::sleep(PAUSE);
    }
    tracing::warn!(name, "a network card does not come up; going on without waiting");
    Ok(())
}

/// Removes cards by their names, as far as they are there.
pub(super) fn remove_cards(names: &[String], group: u32) -> Result<()> {
    let mut outside = Netlink::open().map_err(|e| explain("open a netlink socket", e))?;
    let gather = names.iter().map(|name| messages::group(name, group)).collect();
    let gathered = outside.each(gather).map_err(|e| explain("remove veth pairs", e))?;
    if gathered.iter().all(|outcome| is_absent(outcome.as_ref().err())) {
        return Ok(());
    }
    let removed = outside.each(vec![messages::remove_group(group)]);
    let removed = removed.map_err(|e| explain("remove veth pairs", e))?;
    let failed =
        gathered.into_iter().chain(removed).filter_map(io::Result::err).find(|e| !is_absent(Some(e)));
    failed.map_or(Ok(()), |error| Err(explain("remove veth pairs", error)))
}

fn is_absent(error: Option<&io::Error>) -> bool {
    error.is_some_and(|e| e.raw_os_error() == Some(libc::ENODEV))
}

/// Pins a namespace on a file, in place of one that a crash left there.
fn hold(namespace: &File, pin: &Path) -> io::Result<()> {
    unpin(pin)?;
    File::create(pin)?;
    let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    let none = None::<&Path>;
    Ok(mount(Some(source.as_str()), pin, none, MsFlags::MS_BIND, none)?)
}

/// Whether a namespace is pinned on this file.
pub(super) fn is_pin(pin: &Path) -> bool {
    statfs(pin).is_ok_and(|stat| stat.filesystem_type().0 == libc::NSFS_MAGIC)
}

/// Removes a pin; fine if there is none. Removing the file also detaches what other mount namespaces have of it.
pub(super) fn unpin(pin: &Path) -> io::Result<()> {
    while is_pin(pin) {
        umount2(pin, MntFlags::MNT_DETACH)?;
    }
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
