//! The bridge of an instance: adopted if it is there, else made on a subnet that nobody uses. Blocking.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use ipnet::Ipv4Net;
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteMessage},
};

use super::{
    messages,
    names::{self, Names},
    netlink::{self, Netlink, explain},
};
use crate::{Error, InstanceId, Kind, Result, subnet};

/// The bridge of an instance.
pub(super) struct Bridge {
    /// Its number.
    pub index: u32,
    /// Subnet and names.
    pub names: Names,
}

/// What the machine has already.
struct Machine {
    links: Vec<LinkMessage>,
    addresses: Vec<AddressMessage>,
    routes: Vec<RouteMessage>,
}

/// Makes or adopts the bridge. Only one gateway of this machine at a time, or two might choose the same subnet.
pub(super) fn open(instance: &InstanceId, wanted: Option<Ipv4Net>, run: &Path) -> Result<Bridge> {
    if let Some(wanted) = wanted.filter(|net| !(8..=30).contains(&net.prefix_len())) {
        let message = format!("the subnet {wanted} cannot be used: its prefix has to be between /8 and /30");
        return Err(Error::new(Kind::Permanent, message));
    }
    let lock = run.join("lock");
    let locked = File::create(&lock).and_then(|file| file.lock().map(|()| file));
    let _one_at_a_time = locked.map_err(|e| explain(&format!("lock {}", lock.display()), e))?;
    let mut netlink = Netlink::open().map_err(|e| explain("open a netlink socket", e))?;
    let machine = look(&mut netlink).map_err(|e| explain("list networks", e))?;
    let name = names::bridge(instance.short());
    let bridge = match machine.links.iter().find(|link| netlink::name(link) == Some(&name)) {
        Some(link) => adopt(&mut netlink, &machine, link, instance, wanted)?,
        None => make(&mut netlink, &machine, instance, wanted)?,
    };
    settle(&name);
    Ok(bridge)
}

fn look(netlink: &mut Netlink) -> io::Result<Machine> {
    let addresses = netlink.list(messages::addresses())?.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewAddress(address) if address.header.family == AddressFamily::Inet => {
            Some(address)
        }
        _ => None,
    });
    let addresses = addresses.collect();
    let routes = netlink.list(messages::routes())?.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewRoute(route) => Some(route),
        _ => None,
    });
    let routes = routes.collect();
    Ok(Machine { links: netlink.links()?, addresses, routes })
}

fn adopt(
    netlink: &mut Netlink,
    machine: &Machine,
    link: &LinkMessage,
    instance: &InstanceId,
    wanted: Option<Ipv4Net>,
) -> Result<Bridge> {
    let (name, index) = (names::bridge(instance.short()), link.header.index);
    if !is_bridge(link) {
        let message =
            format!("the network interface {name} is no bridge: remove it with `ip link del {name}`");
        return Err(Error::new(Kind::Permanent, message));
    }
    let has = machine.addresses.iter().find(|a| a.header.index == index).and_then(net);
    let subnet = match has.filter(|net| (8..=30).contains(&net.prefix_len())) {
        Some(has) => has.trunc(),
        None => choose(machine, Some(index), instance, wanted)?,
    };
    if let Some(wanted) = wanted.filter(|wanted| wanted.trunc() != subnet) {
        tracing::warn!(bridge = name, %wanted, has = %subnet, "the bridge keeps its subnet until it is removed");
    }
    finish(netlink, index, instance, subnet)
}

fn make(
    netlink: &mut Netlink,
    machine: &Machine,
    instance: &InstanceId,
    wanted: Option<Ipv4Net>,
) -> Result<Bridge> {
    let subnet = choose(machine, None, instance, wanted)?;
    let names = Names { short: instance.short().to_owned(), subnet };
    let name = names.bridge();
    netlink.all(vec![messages::bridge(&name, names::mac(names.gateway()))])?;
    let made = netlink.link(&name).map_err(|e| explain(&format!("find the bridge {name}"), e))?;
    let index = made.ok_or_else(|| Error::new(Kind::Retryable, format!("the bridge {name} vanished")))?;
    tracing::info!(bridge = name, %subnet, "made the network of this instance");
    finish(netlink, index.header.index, instance, subnet)
}

fn finish(netlink: &mut Netlink, index: u32, instance: &InstanceId, subnet: Ipv4Net) -> Result<Bridge> {
    let names = Names { short: instance.short().to_owned(), subnet };
    let address = messages::address(index, names.gateway(), subnet.prefix_len());
    netlink.all(vec![messages::card(index, names::mac(names.gateway())), address, messages::up(index)])?;
    Ok(Bridge { index, names })
}

/// Settings that need the file system. Each is the kernel's own choice unless someone changed the default.
fn settle(bridge: &str) {
    for (family, key, value) in
        [("ipv4", "proxy_arp", "0"), ("ipv4", "send_redirects", "0"), ("ipv6", "disable_ipv6", "1")]
    {
        let file = format!("/proc/sys/net/{family}/conf/{bridge}/{key}");
        if let Err(error) = fs::write(&file, value) {
            tracing::debug!(file, %error, "left a setting of the bridge alone");
        }
    }
}

/// The subnet for a bridge; the one with this number is ours and takes nothing away.
fn choose(
    machine: &Machine,
    ours: Option<u32>,
    instance: &InstanceId,
    wanted: Option<Ipv4Net>,
) -> Result<Ipv4Net> {
    let candidates = subnet::candidates(instance, wanted);
    subnet::free(&candidates, &taken(machine, ours)).map_err(|(net, interface)| {
        let message = match wanted {
            Some(wanted) => format!(
                "the subnet {wanted} is in use on this machine: {net} is reached through {interface}; \
                 set `subnet` under [gateway] to one that is free"
            ),
            None => format!(
                "no private subnet is free on this machine: {net} is reached through {interface}; \
                 set `subnet` under [gateway] to one that is free"
            ),
        };
        Error::new(Kind::Permanent, message)
    })
}

fn taken(machine: &Machine, ours: Option<u32>) -> Vec<(Ipv4Net, String)> {
    let names: HashMap<u32, &str> =
        machine.links.iter().filter_map(|link| Some((link.header.index, netlink::name(link)?))).collect();
    let name = |index: Option<u32>| {
        index.and_then(|i| names.get(&i).copied()).unwrap_or("a route without an interface").to_owned()
    };
    let addresses = machine.addresses.iter().map(|a| (net(a), Some(a.header.index)));
    let routes = machine.routes.iter().map(|route| (destination(route), interface(route)));
    let all = addresses.chain(routes).filter(|(_, index)| index.is_none() || *index != ours);
    all.filter_map(|(net, index)| Some((net?, name(index)))).collect()
}

fn net(address: &AddressMessage) -> Option<Ipv4Net> {
    let find = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(ip)) => Some(*ip),
        _ => None,
    };
    let ip = address.attributes.iter().find_map(find)?;
    Ipv4Net::new(ip, address.header.prefix_len).ok()
}

fn destination(route: &RouteMessage) -> Option<Ipv4Net> {
    let find = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(*ip),
        _ => None,
    };
    let ip = route.attributes.iter().find_map(find).unwrap_or(Ipv4Addr::UNSPECIFIED);
    let net = Ipv4Net::new(ip, route.header.destination_prefix_length).ok()?;
    (!ip.is_multicast()).then_some(net)
}

fn interface(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

/// Whether a link is a bridge.
pub(super) fn is_bridge(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(info) => info.contains(&LinkInfo::Kind(InfoKind::Bridge)),
        _ => false,
    })
}
