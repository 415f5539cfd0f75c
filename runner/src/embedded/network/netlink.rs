//! A conversation with the kernel about links, addresses and routes of one network namespace: the one in which the
//! socket was opened, whichever thread uses it later.
//! Blocking: the kernel has answered before `send` returns. Several requests go in one datagram, because making a
//! namespace ready takes many.

use std::io;

use bytes::BufMut as _;
use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
        NetlinkPayload,
    },
    packet_route::{
        RouteNetlinkMessage,
        link::{LinkAttribute, LinkMessage},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use crate::{Error, Kind, Result};

/// Each answer takes some room of the socket's, and what does not fit is lost.
const BATCH: usize = 64;
/// More than the kernel puts into one datagram.
const BUFFER: usize = 64 << 10;

/// Something that the kernel is to do.
pub(super) struct Request {
    /// What it is for, for people: `give eth0 its address`.
    pub what: String,
    message: RouteNetlinkMessage,
    flags: u16,
}

impl Request {
    /// Makes something that is not there yet.
    pub(super) fn make(what: impl Into<String>, message: RouteNetlinkMessage) -> Self {
        Self { what: what.into(), message, flags: NLM_F_CREATE | NLM_F_EXCL }
    }

    /// Makes something, or makes it like this.
    pub(super) fn put(what: impl Into<String>, message: RouteNetlinkMessage) -> Self {
        Self { what: what.into(), message, flags: NLM_F_CREATE | NLM_F_REPLACE }
    }

    /// Changes or removes something that is there.
    pub(super) fn change(what: impl Into<String>, message: RouteNetlinkMessage) -> Self {
        Self { what: what.into(), message, flags: 0 }
    }
}

/// A conversation with the kernel.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Begins one about the network namespace of this thread.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Answers to refused requests need not repeat them.
        socket.set_cap_ack(true)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Has all of these done, in this order; the first that fails is the error.
    pub(super) fn all(&mut self, requests: Vec<Request>) -> Result<()> {
        let names: Vec<_> = requests.iter().map(|request| request.what.clone()).collect();
        let outcomes = self.each(requests).map_err(|e| explain("talk to the kernel by netlink", e))?;
        match outcomes.into_iter().zip(names).find_map(|(outcome, what)| Some((outcome.err()?, what))) {
            Some((error, what)) => Err(explain(&what, error)),
            None => Ok(()),
        }
    }

    /// Has each of these tried and tells what became of each.
    pub(super) fn each(&mut self, requests: Vec<Request>) -> io::Result<Vec<io::Result<()>>> {
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut rest = requests.into_iter();
        loop {
            let batch: Vec<_> = rest.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return Ok(outcomes);
            }
            outcomes.extend(self.batch(batch)?);
        }
    }

    fn batch(&mut self, requests: Vec<Request>) -> io::Result<Vec<io::Result<()>>> {
        let (first, count) = (self.sequence.wrapping_add(1), requests.len());
        let mut datagram = Vec::new();
        for request in requests {
            self.append(&mut datagram, request.message, request.flags | NLM_F_ACK);
        }
        self.socket.send(&datagram, 0)?;
        let mut outcomes: Vec<Option<io::Result<()>>> = (0..count).map(|_| None).collect();
        while outcomes.iter().any(Option::is_none) {
            for answer in self.receive()? {
                let slot = answer.header.sequence_number.wrapping_sub(first) as usize;
                if let (NetlinkPayload::Error(said), Some(slot)) = (answer.payload, outcomes.get_mut(slot)) {
                    *slot = Some(if said.code.is_none() { Ok(()) } else { Err(said.to_io()) });
                }
            }
        }
        Ok(outcomes.into_iter().flatten().collect())
    }

    /// All things of a kind.
    pub(super) fn list(&mut self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut datagram = Vec::new();
        let sequence = self.append(&mut datagram, message, NLM_F_DUMP);
        self.socket.send(&datagram, 0)?;
        let mut found = Vec::new();
        loop {
            for answer in self.receive()? {
                match answer.payload {
                    _ if answer.header.sequence_number != sequence => {}
                    NetlinkPayload::InnerMessage(message) => found.push(message),
                    NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::Error(said) => return Err(said.to_io()),
                    _ => {}
                }
            }
        }
    }

    /// All links.
    pub(super) fn links(&mut self) -> io::Result<Vec<LinkMessage>> {
        let found = self.list(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        Ok(found.into_iter().filter_map(as_link).collect())
    }

    /// The link of this name.
    pub(super) fn link(&mut self, name: &str) -> io::Result<Option<LinkMessage>> {
        let mut wanted = LinkMessage::default();
        wanted.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let mut datagram = Vec::new();
        let sequence = self.append(&mut datagram, RouteNetlinkMessage::GetLink(wanted), 0);
        self.socket.send(&datagram, 0)?;
        loop {
            for answer in self.receive()? {
                match answer.payload {
                    _ if answer.header.sequence_number != sequence => {}
                    NetlinkPayload::InnerMessage(message) => return Ok(as_link(message)),
                    NetlinkPayload::Error(said) if -said.raw_code() == libc::ENODEV => return Ok(None),
                    NetlinkPayload::Error(said) => return Err(said.to_io()),
                    _ => {}
                }
            }
        }
    }

    fn append(&mut self, datagram: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = flags | NLM_F_REQUEST;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let start = datagram.len();
        datagram.resize(start + message.buffer_len(), 0);
        message.serialize(&mut datagram[start..]);
        // The next message begins at a multiple of four.
        datagram.resize(datagram.len().next_multiple_of(4), 0);
        self.sequence
    }

    /// The messages of one datagram. What this program has no words for is left out.
    fn receive(&self) -> io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
        let mut datagram = Vec::with_capacity(BUFFER).limit(BUFFER);
        self.socket.recv(&mut datagram, 0)?;
        let datagram = datagram.into_inner();
        let (mut rest, mut messages) = (datagram.as_slice(), Vec::new());
        while let Some(length) = rest.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes) as usize) {
            let Some(message) = rest.get(..length).filter(|_| length >= 16) else { break };
            match NetlinkMessage::deserialize(message) {
                Ok(message) => messages.push(message),
                Err(error) => tracing::debug!(%error, "left out a netlink message"),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(messages)
    }
}

/// The name of a link.
pub(super) fn name(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

fn as_link(message: RouteNetlinkMessage) -> Option<LinkMessage> {
    match message {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    }
}

/// What the kernel's refusal means for whoever runs Tidegate.
pub(super) fn explain(what: &str, error: io::Error) -> Error {
    let (kind, help) = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            (Kind::Permanent, "; the embedded engine needs root with CAP_NET_ADMIN and CAP_SYS_ADMIN")
        }
        Some(libc::EOPNOTSUPP) => {
            (Kind::Permanent, "; the kernel lacks it: `modprobe bridge veth`, or use engine = \"docker\"")
        }
        Some(libc::ENODEV) => (
            Kind::Retryable,
            "; someone else removed the bridge or a card of it: a restart of the gateway mends that",
        ),
        Some(libc::EXFULL) => {
            (Kind::Retryable, "; a Linux bridge ends at 1024 ports: stop replicas or add a host")
        }
        _ => (Kind::Retryable, ""),
    };
    Error::because(kind, format!("could not {what}: {error}{help}"), error)
}
