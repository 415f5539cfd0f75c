//! Where an engine answers, as the file and `DOCKER_HOST` write it.
//! Holds: what is parsed cannot be taken for an option by the programs that get it. Absent: sockets, files.

use std::{fmt, net::IpAddr, path::PathBuf};

use crate::{Error, Kind, Result};

const EXPECTED: &str = "expected unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST";

/// Where an engine answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A socket of this machine.
    Unix(PathBuf),
    /// A TCP port.
    Tcp { host: String, port: u16 },
    /// An account that may run `docker` there.
    Ssh { user: Option<String>, host: String, port: Option<u16> },
}

impl Endpoint {
    /// What `text` means.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| {
            Error::new(Kind::Permanent, format!("{text} is not an engine's address: {why}; {EXPECTED}"))
        };
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| refuse("it has no scheme"))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "unix" => Err(refuse("the path is not absolute")),
            "tcp" | "http" => match authority(rest) {
                Some((None, host, Some(port))) => Ok(Self::Tcp { host, port }),
                Some((None, _, None)) => Err(refuse("it has no port (2376 is usual with TLS)")),
                _ => Err(refuse("it has no host")),
            },
            "ssh" => {
                let (user, host, port) = authority(rest).ok_or_else(|| refuse("it has no host"))?;
                Ok(Self::Ssh { user, host, port })
            }
            _ => Err(refuse("the scheme is unknown")),
        }
    }

    /// Whether the engine is taken to be on this machine: a socket, or a port on loopback.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
            Self::Ssh { .. } => false,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracketed = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } => write!(f, "tcp://{}:{port}", bracketed(host)),
            Self::Ssh { user, host, port } => {
                f.write_str("ssh://")?;
                if let Some(user) = user {
                    write!(f, "{user}@")?;
                }
                f.write_str(&bracketed(host))?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
        }
    }
}

/// `[USER@]HOST[:PORT]`, an IPv6 address in brackets.
fn authority(text: &str) -> Option<(Option<String>, String, Option<u16>)> {
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    };
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            let port = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
            (host, port)
        }
        None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map(str::parse).transpose().ok()?;
    let plain = |word: &str, more: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c) || more.contains(c);
        !word.is_empty() && !word.starts_with('-') && word.chars().all(known)
    };
    let well = plain(host, ":%") && user.is_none_or(|user| plain(user, ""));
    well.then(|| (user.map(String::from), host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read() {
        for (text, shown, local) in [
            ("/run/docker.sock", "unix:///run/docker.sock", true),
            ("unix:///run/docker.sock", "unix:///run/docker.sock", true),
            ("tcp://127.0.0.1:2375", "tcp://127.0.0.1:2375", true),
            ("tcp://localhost:2375/", "tcp://localhost:2375", true),
            ("tcp://[::1]:2376", "tcp://[::1]:2376", true),
            ("http://10.0.0.2:2376", "tcp://10.0.0.2:2376", false),
            ("tcp://engine.example:2376", "tcp://engine.example:2376", false),
            ("ssh://root@10.0.0.2", "ssh://root@10.0.0.2", false),
            ("ssh://10.0.0.2:2222", "ssh://10.0.0.2:2222", false),
            ("ssh://deploy@[fd00::2]:22", "ssh://deploy@[fd00::2]:22", false),
            ("ssh://localhost", "ssh://localhost", false),
        ] {
            let read = Endpoint::parse(text).expect(text);
            assert_eq!((read.to_string().as_str(), read.is_local()), (shown, local), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused_in_words() {
        for (text, words) in [
            ("ftp://x", "the scheme is unknown"),
            ("docker.sock", "no scheme"),
            ("unix://docker.sock", "not absolute"),
            ("tcp://10.0.0.2", "no port"),
            ("tcp://:2376", "no host"),
            ("tcp://user@10.0.0.2:2376", "no host"),
            ("ssh://-oProxyCommand=x", "no host"),
            ("ssh://-l@host", "no host"),
            ("ssh://root@host;reboot", "no host"),
            ("ssh://host/path", "no host"),
            ("ssh://host:port", "no host"),
        ] {
            let error = Endpoint::parse(text).expect_err(text);
            assert_eq!(error.kind, Kind::Permanent);
            assert!(error.message.contains(words) && error.message.contains(EXPECTED), "{error}");
        }
    }
}
