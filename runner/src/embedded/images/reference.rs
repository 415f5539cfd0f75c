//! What an image's name means: a registry's, or a file or folder of this machine. Pure.
//! The configuration is checked with the same words; see `check/image.rs` of the config crate.

use std::{fmt, path::PathBuf};

use tidegate_config::spec::Digest;

/// What an image's name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    /// In a registry.
    Registry(Remote),
    /// `oci:DIR[:TAG]` or `oci:DIR@DIGEST`: a folder in OCI's image layout.
    Layout(Local),
    /// `oci-archive:FILE[:TAG]` or `oci-archive:FILE@DIGEST`: a tar of such a folder, compressed or not.
    Archive(Local),
    /// `docker-archive:FILE[:NAME:TAG]`: what `docker save` writes, compressed or not.
    Docker(Local),
    /// `sha256:HEX`: an image that is here already, by its id.
    Id(Digest),
}

/// An image in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    /// `HOST` or `HOST:PORT`; `docker.io` where none was named.
    pub registry: String,
    /// `library/nginx`.
    pub repository: String,
    /// `latest` where neither a tag nor a digest was named.
    pub tag: Option<String>,
    /// Which image exactly.
    pub digest: Option<Digest>,
}

/// An image in a file or folder of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Local {
    /// Where.
    pub path: PathBuf,
    /// Which of several.
    pub which: Which,
}

/// Which image of several in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    /// The only one.
    Only,
    /// The one with this name: a tag (`1.27`), or `NAME:TAG` in a `docker-archive`.
    Named(String),
    /// The one whose manifest has this digest.
    Digest(Digest),
}

/// Why a text names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image reference: {why}")]
pub(crate) struct Invalid {
    text: String,
    why: &'static str,
}

/// Where an image is looked for whose name has no registry.
const HUB: &str = "docker.io";
const LAYOUT: &str = "oci:";
const ARCHIVE: &str = "oci-archive:";
const DOCKER: &str = "docker-archive:";
/// The longest repository that registries take.
const REPOSITORY: usize = 255;

impl Reference {
    /// Reads an image's name.
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        let read = if let Some(rest) = text.strip_prefix(LAYOUT) {
            local(rest).map(Self::Layout)
        } else if let Some(rest) = text.strip_prefix(ARCHIVE) {
            local(rest).map(Self::Archive)
        } else if let Some(rest) = text.strip_prefix(DOCKER) {
            local(rest).map(Self::Docker)
        } else if text.starts_with("sha256:") {
            digest(text).map(Self::Id)
        } else {
            remote(text).map(Self::Registry)
        };
        read.map_err(|why| Invalid { text: text.to_owned(), why })
    }
}

/// `PATH`, `PATH:NAME` or `PATH@DIGEST`. A path has no colon.
fn local(text: &str) -> Result<Local, &'static str> {
    let (path, which) = match text.rsplit_once("@sha256:") {
        Some((path, hex)) => (path, Which::Digest(digest(&format!("sha256:{hex}"))?)),
        None => match text.split_once(':') {
            Some((_, "")) => return Err("nothing comes after the colon"),
            Some((path, name)) => (path, Which::Named(name.to_owned())),
            None => (text, Which::Only),
        },
    };
    if path.is_empty() {
        return Err("it has no path");
    }
    Ok(Local { path: path.into(), which })
}

/// `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`.
fn remote(text: &str) -> Result<Remote, &'static str> {
    let (name, digest) = match text.split_once('@') {
        Some((name, text)) => (name, Some(digest(text)?)),
        None => (text, None),
    };
    let (name, tag) = match name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
        Some((name, tag)) => (name, Some(tag)),
        None => (name, None),
    };
    let is_registry = |part: &str| part.contains(['.', ':']) || part == "localhost";
    let (registry, repository) = match name.split_once('/').filter(|(first, _)| is_registry(first)) {
        Some(("index.docker.io" | "registry-1.docker.io", rest)) => (HUB, rest),
        Some((registry, rest)) => (registry, rest),
        None => (HUB, name),
    };
    if !is_host(registry) {
        return Err("its registry is not a host, or HOST:PORT");
    }
    if repository.is_empty() || repository.len() > REPOSITORY {
        return Err("its name has 1 to 255 characters");
    }
    if !repository.split('/').all(is_part) {
        return Err("a name has small letters, digits, and . _ - between them");
    }
    if !tag.is_none_or(is_tag) {
        return Err("a tag has up to 128 letters, digits, and . _ -");
    }
    let prefix = if registry == HUB && !repository.contains('/') { "library/" } else { "" };
    let tag = tag.or(if digest.is_none() { Some("latest") } else { None });
    Ok(Remote {
        registry: registry.to_owned(),
        repository: format!("{prefix}{repository}"),
        tag: tag.map(str::to_owned),
        digest,
    })
}

fn digest(text: &str) -> Result<Digest, &'static str> {
    let hex = text.strip_prefix("sha256:").ok_or("a digest starts with sha256:")?;
    let good = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if hex.len() == 64 && hex.bytes().all(good) {
        Ok(Digest(text.to_owned()))
    } else {
        Err("a digest is sha256: and 64 digits of 0-9 and a-f")
    }
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let label = |label: &str| label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let name = |host: &str| host.split('.').all(|part| !part.is_empty() && label(part));
    let address = |host: &str| host.parse::<std::net::Ipv6Addr>().is_ok();
    let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => address(inner),
        None => !host.starts_with('-') && name(host),
    };
    host && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_part(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let between = |run: &[u8]| matches!(run, b"" | b"." | b"_" | b"__") || run.iter().all(|b| *b == b'-');
    let bytes = part.as_bytes();
    let ends = bytes.first().is_some_and(|b| plain(*b)) && bytes.last().is_some_and(|b| plain(*b));
    ends && bytes.split(|byte| plain(*byte)).all(between)
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let later = |byte: u8| word(byte) || matches!(byte, b'.' | b'-');
    tag.len() <= 128 && tag.bytes().next().is_some_and(word) && tag.bytes().all(later)
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(remote) => remote.fmt(f),
            Self::Layout(local) => write!(f, "{LAYOUT}{local}"),
            Self::Archive(local) => write!(f, "{ARCHIVE}{local}"),
            Self::Docker(local) => write!(f, "{DOCKER}{local}"),
            Self::Id(Digest(id)) => f.write_str(id),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(Digest(digest)) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match &self.which {
            Which::Only => Ok(()),
            Which::Named(name) => write!(f, ":{name}"),
            Which::Digest(Digest(digest)) => write!(f, "@{digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn names_mean_one_thing() {
        for (text, expected) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("library/nginx:1", "docker.io/library/nginx:1"),
            ("me/app:1.2-rc_3", "docker.io/me/app:1.2-rc_3"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/me/app", "docker.io/me/app:latest"),
            ("ghcr.io/a/b:tag@sha256:HEX", "ghcr.io/a/b:tag@sha256:HEX"),
            ("ghcr.io/a/b@sha256:HEX", "ghcr.io/a/b@sha256:HEX"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("127.0.0.1:5000/a/b/c:d", "127.0.0.1:5000/a/b/c:d"),
            ("[::1]:5000/x:1", "[::1]:5000/x:1"),
            ("a__b/c--d/e.f", "docker.io/a__b/c--d/e.f:latest"),
            ("sha256:HEX", "sha256:HEX"),
            ("oci:/images/app", "oci:/images/app"),
            ("oci:/images/app:1.0", "oci:/images/app:1.0"),
            ("oci:app@sha256:HEX", "oci:app@sha256:HEX"),
            ("oci-archive:a.tar:x", "oci-archive:a.tar:x"),
            ("docker-archive:a.tar", "docker-archive:a.tar"),
            ("docker-archive:a.tar:localhost:5000/x:1", "docker-archive:a.tar:localhost:5000/x:1"),
        ] {
            let text = text.replace("HEX", HEX);
            let read = Reference::parse(&text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(read.to_string(), expected.replace("HEX", HEX), "{text}");
            assert_eq!(Reference::parse(&read.to_string()), Ok(read), "{text}");
        }
    }

    #[test]
    fn a_name_after_an_archives_path_is_whole() {
        let read = Reference::parse("docker-archive:/a.tar:localhost:5000/x:1").expect("valid");
        let which = Which::Named("localhost:5000/x:1".into());
        assert_eq!(read, Reference::Docker(Local { path: "/a.tar".into(), which }));
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in [
            "",
            "Nginx",
            "a b",
            "a:",
            "a//b",
            "/a",
            "a/",
            "http://x",
            "a:b c",
            "a:-x",
            "-a",
            "a..b/c",
            "a___b",
            "a@sha256:12",
            "a@sha512:00",
            "a@",
            "sha256:12",
            "localhost:x/a",
            "localhost:70000/a",
            "[zz]:1/a",
            "../a",
            "ghcr.io/../x",
            "oci:",
            "oci::tag",
            "oci:dir:",
            "oci:dir@sha256:12",
            "docker-archive:",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
        assert!(Reference::parse(&format!("a:{}", "x".repeat(129))).is_err());
        assert!(Reference::parse(&"x".repeat(256)).is_err());
    }
}
