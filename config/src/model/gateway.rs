//! The gateway's own settings.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net};

use super::{AccessLog, Admin, GatewayTls, Limits, Listener, Tracing};

/// The gateway's own settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    /// Where requests arrive.
    pub listen: Vec<Listener>,
    /// Certificates, and what is demanded of connections over TLS.
    pub tls: GatewayTls,
    /// Where metrics and probes are served, over TCP: loopback.
    pub metrics: Option<SocketAddr>,
    /// Administration over TCP; `None`: there is only the admin socket.
    pub admin: Option<Admin>,
    /// The state directory; `None`: /var/lib/tidegate as root, else under the XDG state home.
    pub state: Option<PathBuf>,
    /// Peers whose X-Forwarded-* and Forwarded headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether refusals carry the cause in words (exit codes, log lines) to the client.
    pub expose_errors: bool,
    /// Whether responses carry `Server-Timing` and `X-Tidegate-Cold`.
    pub timing_headers: bool,
    /// How long `SIGTERM` waits for running requests.
    pub drain: Duration,
    /// Whether replicas are stopped when the gateway stops.
    pub stop_replicas_on_exit: bool,
    /// The subnet of the containers' network on each host; `None`: a free one of 256 private ones.
    pub subnet: Option<Ipv4Net>,
    /// Whether replicas of the embedded engine may reach 169.254.0.0/16, where clouds keep a machine's credentials.
    pub allow_metadata: bool,
    /// Whether containers reach services by name, at `http://NAME`, through the gateway.
    pub internal_names: bool,
    /// Where containers of remote hosts reach the gateway for that; `None`: names do not resolve there.
    pub internal_address: Option<IpAddr>,
    /// Who resolves the names in `upstreams`; empty: whom /etc/resolv.conf names.
    pub resolvers: Vec<SocketAddr>,
    /// What clients may ask of us.
    pub limits: Limits,
    /// The access log, if there is one.
    pub access_log: Option<AccessLog>,
    /// Where spans go, if anywhere.
    pub tracing: Option<Tracing>,
}

impl Gateway {
    /// Where it listens itself.
    #[must_use]
    pub fn own_addresses(&self) -> Vec<SocketAddr> {
        let admin = self.admin.as_ref().map(|admin| admin.listen);
        self.listen.iter().map(|listener| listener.address).chain(self.metrics).chain(admin).collect()
    }
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            listen: vec![Listener::plain(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080))],
            tls: GatewayTls::default(),
            metrics: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901)),
            admin: None,
            state: None,
            trusted_proxies: Vec::new(),
            expose_errors: false,
            timing_headers: false,
            drain: Duration::from_secs(30),
            stop_replicas_on_exit: false,
            subnet: None,
            allow_metadata: false,
            internal_names: true,
            internal_address: None,
            resolvers: Vec::new(),
            limits: Limits::default(),
            access_log: None,
            tracing: None,
        }
    }
}
