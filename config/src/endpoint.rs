//! Where an engine answers, as the file says it. Read by the check, and by whoever asks whether a host is another
//! machine. Absent: connections.

use std::net::IpAddr;

use crate::model::Host;

/// How an engine is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint<'e> {
    /// A socket of this machine.
    Unix,
    /// A port, of this machine if it is on loopback.
    Tcp {
        /// Host name or address.
        host: &'e str,
    },
    /// Through a login on another machine.
    Ssh,
}

impl<'e> Endpoint<'e> {
    /// `None` if it is not an engine's address.
    pub(crate) fn read(text: &'e str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        match scheme {
            "unix" => (rest.len() > 1 && rest.starts_with('/')).then_some(Self::Unix),
            "tcp" | "http" => {
                let (host, port) = rest.trim_end_matches('/').rsplit_once(':')?;
                port.parse::<u16>().ok().filter(|port| *port != 0)?;
                is_host(host).then_some(Self::Tcp { host })
            }
            "ssh" => {
                let rest = rest.trim_end_matches('/');
                let (user, machine) =
                    rest.split_once('@').map_or((None, rest), |(user, machine)| (Some(user), machine));
                let host = match machine.rsplit_once(':') {
                    Some((host, port)) if !machine.ends_with(']') => {
                        port.parse::<u16>().ok().map(|_| host)?
                    }
                    _ => machine,
                };
                (user.is_none_or(is_word) && is_host(host)).then_some(Self::Ssh)
            }
            _ => None,
        }
    }

    /// Whether the engine is on another machine.
    pub(crate) fn is_remote(self) -> bool {
        match self {
            Self::Unix => false,
            Self::Tcp { host } => {
                let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
                host != "localhost" && !address.is_ok_and(|address| address.to_canonical().is_loopback())
            }
            Self::Ssh => true,
        }
    }
}

/// A name or address that is no option of a command and no path.
fn is_host(text: &str) -> bool {
    let v6 = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    v6.map_or_else(|| is_word(text), |v6| v6.parse::<std::net::Ipv6Addr>().is_ok())
}

fn is_word(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && !text.starts_with('-') && text.chars().all(inner)
}

impl Host {
    /// Whether the host is another machine, as far as its endpoint tells; some machines of a cluster always are.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.engine.places()
            || self.endpoint.as_deref().and_then(Endpoint::read).is_some_and(Endpoint::is_remote)
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[test]
    fn endpoints() {
        let rows = [
            ("unix:///run/docker.sock", Some(false)),
            ("tcp://127.0.0.1:2375", Some(false)),
            ("tcp://[::1]:2375", Some(false)),
            ("http://localhost:2375/", Some(false)),
            ("tcp://10.0.0.2:2376", Some(true)),
            ("tcp://build.example.org:2376", Some(true)),
            ("ssh://root@10.0.0.2", Some(true)),
            ("ssh://build:2222", Some(true)),
            ("ssh://me@[fd00::1]:22", Some(true)),
            ("ssh://-oProxyCommand=x", None),
            ("ssh://root@-x", None),
            ("ssh://root@host:port", None),
            ("ssh://", None),
            ("tcp://10.0.0.2", None),
            ("tcp://:2375", None),
            ("tcp://10.0.0.2:0", None),
            ("unix://", None),
            ("/run/docker.sock", None),
        ];
        for (text, remote) in rows {
            assert_eq!(Endpoint::read(text).map(Endpoint::is_remote), remote, "{text}");
        }
    }
}
