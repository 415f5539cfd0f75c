//! Who may ask the gateway from elsewhere, and for what.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

/// Administration over TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where.
    pub listen: SocketAddr,
    /// PEM files of a certificate and its key; without them on loopback only.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Names by which it may be called, in lower case, besides addresses and `localhost`.
    pub names: Vec<String>,
    /// Who may ask.
    pub tokens: Vec<Token>,
}

impl Admin {
    /// Where it listens and with what certificate: what only a start takes up.
    #[must_use]
    pub fn place(&self) -> (SocketAddr, &Option<(PathBuf, PathBuf)>) {
        (self.listen, &self.tls)
    }
}

/// Somebody who may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Who it is.
    pub name: String,
    /// For what.
    pub role: Role,
    /// What it is known by.
    pub secret: Secret,
}

/// What somebody may ask for. Each includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// To see how things are.
    Read,
    /// To see what replicas print; to wake, to put to sleep, to restart.
    Operate,
    /// To change what runs where, and in which version.
    Admin,
}

/// How a token is recognised.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Its SHA-256.
    Sha256([u8; 32]),
    /// It stands in this file.
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(_) => f.write_str("Sha256(..)"),
            Self::File(file) => write!(f, "File({})", file.display()),
        }
    }
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Operate, Self::Admin];

    /// Its word in the file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        Self::ALL.into_iter().find(|role| role.word() == text).ok_or("read, operate or admin")
    }
}
