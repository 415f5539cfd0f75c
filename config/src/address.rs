//! Where a service is that is not run by us: an address of `upstreams`, and which ones are never called, whether they stand
//! in the file or in an answer of a name server. Pure: whether an address is this machine's own is told by the caller.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// Where one of a service's `upstreams` is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Which machine.
    pub machine: Machine,
    /// Its port.
    pub port: u16,
}

/// A machine, as the file names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Machine {
    /// By its address.
    Ip(IpAddr),
    /// By a name, in lower case, to be resolved again and again.
    Name(String),
}

/// How an address is written.
const SPELLING: &str =
    "expected HOST:PORT, as in \"10.0.0.5:8080\", \"[fd00::5]:8080\" or \"app.internal:8080\"";

/// A text that is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{SPELLING}")]
pub struct Misspelt;

impl FromStr for Address {
    type Err = Misspelt;

    fn from_str(text: &str) -> Result<Self, Misspelt> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            let machine = Machine::Ip(address.ip().to_canonical());
            return if address.port() == 0 {
                Err(Misspelt)
            } else {
                Ok(Self { machine, port: address.port() })
            };
        }
        let (name, port) = text.rsplit_once(':').ok_or(Misspelt)?;
        let port = port.parse::<u16>().ok().filter(|port| *port != 0).ok_or(Misspelt)?;
        if !is_name(name) {
            return Err(Misspelt);
        }
        Ok(Self { machine: Machine::Name(name.to_ascii_lowercase()), port })
    }
}

/// Whether it is a name that a name server may know; what looks like an address is none.
fn is_name(text: &str) -> bool {
    let word = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let text = text.strip_suffix('.').unwrap_or(text);
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253 && text.split('.').all(word) && !last.bytes().all(|c| c.is_ascii_digit())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.machine {
            Machine::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Machine::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// Where Amazon's machines ask for their credentials over IPv6.
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Why requests are never sent to an address, if they are not. `own` is where we listen ourselves, and `here` whether the
/// address is one of this machine's.
#[must_use]
pub fn denied(address: SocketAddr, own: &[SocketAddr], here: bool) -> Option<&'static str> {
    let ip = address.ip().to_canonical();
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let everybody = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    let us = |own: &SocketAddr| {
        let all = own.ip().is_unspecified() && here;
        own.port() == address.port() && (all || own.ip().to_canonical() == ip)
    };
    if link_local || ip == IpAddr::V6(METADATA) {
        Some("a link-local address, where clouds keep a machine's credentials")
    } else if ip.is_unspecified() || ip.is_multicast() || everybody {
        Some("not the address of one machine")
    } else if own.iter().any(us) {
        Some("this is where the gateway itself listens")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        for (text, want) in [
            ("10.0.0.5:8080", Some("10.0.0.5:8080")),
            ("[fd00::5]:80", Some("[fd00::5]:80")),
            ("[::ffff:10.0.0.5]:80", Some("10.0.0.5:80")),
            ("App.Internal:80", Some("app.internal:80")),
            ("app.internal.:80", Some("app.internal.:80")),
            ("localhost:1", Some("localhost:1")),
            ("my_app:1", Some("my_app:1")),
            ("10.0.0.5", None),
            ("10.0.0.5:0", None),
            ("10.0.0.500:80", None),
            ("0x7f000001:80", Some("0x7f000001:80")),
            ("2130706433:80", None),
            ("app:99999", None),
            ("http://app:80", None),
            ("app/x:80", None),
            ("-app:80", None),
            ("fd00::5:80", None),
            (":80", None),
            ("a..b:80", None),
        ] {
            let found = text.parse::<Address>().ok().map(|address| address.to_string());
            assert_eq!(found.as_deref(), want, "{text}");
        }
    }

    #[test]
    fn what_is_never_called() {
        let own: Vec<SocketAddr> =
            ["0.0.0.0:8080", "127.0.0.1:9901"].iter().map(|text| text.parse().expect("an address")).collect();
        for (text, here, fine) in [
            ("10.0.0.5:8080", false, true),
            ("10.0.0.5:8080", true, false),
            ("127.0.0.1:8080", true, false),
            ("127.0.0.1:3000", true, true),
            ("127.0.0.1:9901", true, false),
            ("[::ffff:127.0.0.1]:9901", true, false),
            ("[::1]:3000", true, true),
            ("169.254.169.254:80", false, false),
            ("[::ffff:169.254.169.254]:80", false, false),
            ("[fe80::1]:80", false, false),
            ("[fd00:ec2::254]:80", false, false),
            ("[fd00::1]:80", false, true),
            ("0.0.0.0:80", false, false),
            ("[::]:80", false, false),
            ("224.0.0.1:80", false, false),
            ("255.255.255.255:80", false, false),
        ] {
            let address = text.parse().expect("an address");
            assert_eq!(denied(address, &own, here).is_none(), fine, "{text} here={here}");
        }
    }
}
