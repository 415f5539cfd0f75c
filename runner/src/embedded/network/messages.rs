//! What is asked of the kernel, in its words. Pure.

use std::{net::Ipv4Addr, os::fd::RawFd};

use ipnet::Ipv4Net;
use rtnetlink::{
    AddressMessageBuilder, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressMessage},
        link::{
            AfSpecInet6, AfSpecUnspec, BridgeStpState, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData,
            InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkMessage,
        },
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
        route::{RouteMessage, RouteScope, RouteType},
    },
};

use super::netlink::Request;

/// The card in each namespace.
pub(super) const CARD: &str = "eth0";
/// Where clouds keep the machine's credentials.
const METADATA: (Ipv4Addr, u8) = (Ipv4Addr::new(169, 254, 0, 0), 16);

/// A bridge that changes nothing by itself: no spanning tree, and one card for ever instead of a port's.
pub(super) fn bridge(name: &str, mac: [u8; 6]) -> Request {
    let info = vec![InfoBridge::StpState(BridgeStpState::Disabled), InfoBridge::MulticastSnooping(false)];
    let message =
        LinkBridge::new(name).address(mac.to_vec()).set_info_data(InfoData::Bridge(info)).up().build();
    Request::make(format!("make the bridge {name}"), RouteNetlinkMessage::NewLink(message))
}

/// A pair of cards: one on the bridge, its peer in the namespace that this descriptor is open on. Both are down as yet: a
/// card cannot be set up before it knows its peer.
pub(super) fn pair(name: &str, bridge: u32, inside: RawFd, mac: [u8; 6]) -> Request {
    let peer =
        LinkMessageBuilder::<LinkUnspec>::new().name(CARD).address(mac.to_vec()).setns_by_fd(inside).build();
    let message = LinkVeth::new(name, CARD)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .controller(bridge)
        .build();
    Request::make(format!("make the veth pair {name}"), RouteNetlinkMessage::NewLink(message))
}

/// Sets a card on the bridge up as a port that talks to the bridge alone and believes in one card only.
pub(super) fn port(name: &str, bridge: u32, alias: String, ipv6: bool) -> [Request; 2] {
    let home = LinkMessageBuilder::<LinkUnspec>::new().name(name).controller(bridge).build();
    let mut port = LinkMessageBuilder::<LinkUnspec>::new()
        .name(name)
        .append_extra_attribute(LinkAttribute::IfAlias(alias))
        .set_port_kind(InfoPortKind::Bridge)
        .set_port_data(InfoPortData::BridgePort(vec![
            InfoBridgePort::Isolated(true),
            InfoBridgePort::Learning(false),
            InfoBridgePort::UnicastFlood(false),
        ]))
        .up();
    if ipv6 {
        let none = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        port = port.append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![none]));
    }
    [
        Request::change(format!("put {name} on the bridge"), RouteNetlinkMessage::SetLink(home)),
        Request::change(format!("isolate {name}"), RouteNetlinkMessage::NewLink(port.build())),
    ]
}

/// Sets a link up.
pub(super) fn up(index: u32) -> Request {
    let message = LinkMessageBuilder::<LinkUnspec>::new().index(index).up().build();
    Request::change("set a link up", RouteNetlinkMessage::SetLink(message))
}

/// Gives a link its card's address.
pub(super) fn card(index: u32, mac: [u8; 6]) -> Request {
    let message = LinkMessageBuilder::<LinkUnspec>::new().index(index).address(mac.to_vec()).build();
    Request::change("set the address of a card", RouteNetlinkMessage::SetLink(message))
}

/// Puts a link into a group of links.
pub(super) fn group(name: &str, group: u32) -> Request {
    let message = LinkMessageBuilder::<LinkUnspec>::new().name(name).link_group(group).build();
    Request::change(format!("find {name}"), RouteNetlinkMessage::SetLink(message))
}

/// Removes all links of a group: waiting for the packets under way is what takes long, and is needed only once.
pub(super) fn remove_group(group: u32) -> Request {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Group(group));
    Request::change("remove veth pairs", RouteNetlinkMessage::DelLink(message))
}

/// Removes a link.
pub(super) fn remove(name: &str) -> Request {
    let message = LinkMessageBuilder::<LinkUnspec>::new().name(name).build();
    Request::change(format!("remove {name}"), RouteNetlinkMessage::DelLink(message))
}

/// An address of the machine's on a link, with the subnet behind it.
pub(super) fn address(index: u32, address: Ipv4Addr, prefix: u8) -> Request {
    let message = AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(address, prefix).build();
    Request::put(format!("set the address {address}/{prefix}"), RouteNetlinkMessage::NewAddress(message))
}

/// A replica's address: it says the subnet, but nobody in the subnet is reached directly.
pub(super) fn lone_address(index: u32, address: Ipv4Addr, prefix: u8) -> Request {
    let mut message = AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(address, prefix).build();
    message.attributes.push(AddressAttribute::Flags(AddressFlags::Noprefixroute));
    Request::put(format!("set the address {address}/{prefix}"), RouteNetlinkMessage::NewAddress(message))
}

/// All addresses.
pub(super) fn addresses() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetAddress(AddressMessage::default())
}

/// All IPv4 routes.
pub(super) fn routes() -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    RouteNetlinkMessage::GetRoute(message)
}

/// The routes of a replica: the gateway, everything else through it, nothing in between. Refusals are immediate.
pub(super) fn replica_routes(
    index: u32,
    subnet: Ipv4Net,
    gateway: Ipv4Addr,
    allow_metadata: bool,
) -> Vec<Request> {
    let new = RouteMessageBuilder::<Ipv4Addr>::new;
    let link = new().destination_prefix(gateway, 32).output_interface(index).scope(RouteScope::Link);
    let default = new().gateway(gateway).output_interface(index);
    let others = new().destination_prefix(subnet.network(), subnet.prefix_len()).kind(RouteType::Unreachable);
    let metadata = new().destination_prefix(METADATA.0, METADATA.1).kind(RouteType::Prohibit);
    let mut routes = vec![link, default, others];
    if !allow_metadata {
        routes.push(metadata);
    }
    let put = |route: RouteMessageBuilder<Ipv4Addr>| {
        Request::put("set a replica's routes", RouteNetlinkMessage::NewRoute(route.build()))
    };
    routes.into_iter().map(put).collect()
}

/// Says for good who has this address, so that nobody has to ask: an answer may take a second.
pub(super) fn neighbour(index: u32, address: Ipv4Addr, mac: [u8; 6]) -> Request {
    Request::put(format!("set the card of {address}"), neighbour_message(index, address, Some(mac)))
}

/// Undoes [`neighbour`].
pub(super) fn remove_neighbour(index: u32, address: Ipv4Addr) -> Request {
    let RouteNetlinkMessage::NewNeighbour(message) = neighbour_message(index, address, None) else {
        unreachable!("neighbour_message makes a NewNeighbour")
    };
    Request::change(format!("forget the card of {address}"), RouteNetlinkMessage::DelNeighbour(message))
}

fn neighbour_message(index: u32, address: Ipv4Addr, mac: Option<[u8; 6]>) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address)));
    message.attributes.extend(mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.to_vec())));
    RouteNetlinkMessage::NewNeighbour(message)
}

/// Tells the bridge which port leads to this card.
pub(super) fn forward(port: u32, mac: [u8; 6]) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = port;
    message.header.state = NeighbourState::Noarp;
    message.header.flags = NeighbourFlags::Controller;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    Request::put("tell the bridge its ports", RouteNetlinkMessage::NewNeighbour(message))
}
