//! The other end of a connection: where it is, what it came in by, and on which terms. Made once per connection by the
//! listener; each of its requests looks at it.

use std::{net::SocketAddr, sync::Arc};

use http::HeaderValue;
use ipnet::IpNet;
use tidegate_config::model;

use super::headers;
use crate::{fleet::Fleet, tls::Secured};

/// What a connection came in by, which tells what the `Host` of its requests means.
#[derive(Debug, Clone)]
pub enum Entrance {
    /// The file's routes.
    Routes,
    /// A container of ours: the bare name of a service. Nobody there is a trusted proxy.
    Names(Arc<Fleet>),
}

/// A connection's other end.
#[derive(Debug, Clone)]
pub struct Peer {
    address: SocketAddr,
    /// The address as forwarding fields carry it; made once per connection.
    text: HeaderValue,
    pub(super) entrance: Entrance,
    /// Its connection's terms, if it speaks TLS.
    pub(super) tls: Option<Arc<Secured>>,
    /// The port over TLS to which its requests are sent on.
    pub(super) redirect: Option<u16>,
}

impl Peer {
    /// The client at `address`, which came in by `entrance`.
    #[must_use]
    pub fn new(address: SocketAddr, entrance: Entrance) -> Self {
        let text = HeaderValue::try_from(address.ip().to_canonical().to_string());
        Self { address, text: text.expect("an address is text"), entrance, tls: None, redirect: None }
    }

    /// The same, over TLS.
    #[must_use]
    pub fn over_tls(self, secured: Secured) -> Self {
        Self { tls: Some(Arc::new(secured)), ..self }
    }

    /// The same, sent on to HTTPS.
    #[must_use]
    pub fn redirected_to(self, port: Option<u16>) -> Self {
        Self { redirect: port, ..self }
    }

    /// Where its requests come from, and whose word on that is believed.
    pub(super) fn from<'f>(&'f self, settings: &'f model::Gateway) -> headers::From<'f> {
        let trusted: &[IpNet] = match self.entrance {
            Entrance::Routes => &settings.trusted_proxies,
            Entrance::Names(_) => &[],
        };
        headers::From {
            peer: self.address.ip().to_canonical(),
            text: &self.text,
            trusted,
            secure: self.tls.is_some(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
