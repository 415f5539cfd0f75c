//! Where requests arrive: listeners, certificates.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

/// Where requests arrive, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Authorities of the certificates that clients must have.
    pub client_ca: Option<PathBuf>,
    /// Whether load balancers say first who the client is.
    pub proxy_protocol: bool,
    /// Whether requests are sent on to HTTPS, and to which port.
    pub redirect: Option<u16>,
}

impl Listener {
    /// A listener for HTTP.
    #[must_use]
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: false, client_ca: None, proxy_protocol: false, redirect: None }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, tls, client_ca, proxy_protocol, redirect } = self;
        write!(f, "{address}")?;
        if *tls {
            f.write_str(" tls")?;
        }
        if let Some(file) = client_ca {
            write!(f, " client_ca={}", file.display())?;
        }
        if *proxy_protocol {
            f.write_str(" proxy_protocol")?;
        }
        if let Some(port) = redirect {
            write!(f, " redirect_to_https={port}")?;
        }
        Ok(())
    }
}

/// Certificates, and what is demanded of connections over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayTls {
    /// Certificates in files.
    pub certificates: Vec<Certificate>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// From a connection to the end of its handshake.
    pub handshake_timeout: Duration,
    /// How long browsers are to remember that there is HTTPS only.
    pub hsts: Option<Duration>,
    /// Whether they are to remember it of every name below.
    pub hsts_subdomains: bool,
    /// Who issues certificates, if anybody does.
    pub acme: Option<Acme>,
}

impl Default for GatewayTls {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            min_version: TlsVersion::V12,
            handshake_timeout: Duration::from_secs(10),
            hsts: None,
            hsts_subdomains: false,
            acme: None,
        }
    }
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2
    V12,
    /// 1.3
    V13,
}

/// A certificate in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate and those that lead to its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Whether clients get it that do not say whom they call.
    pub default: bool,
}

/// The directory of Let's Encrypt.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// An authority that issues certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// Where it writes to.
    pub email: Option<String>,
    /// Where it is.
    pub directory: String,
    /// The names; `None`: those of the routes.
    pub domains: Option<Vec<String>>,
    /// How it is proved that they are ours.
    pub challenge: Challenge,
    /// Who vouches for its own certificate, if not the authorities that everybody knows.
    pub ca: Option<PathBuf>,
}

/// How it is proved that a name is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// By a text over HTTP.
    Http01,
    /// By a certificate over TLS.
    TlsAlpn01,
}
