//! Certificates as they are served: read from files, or from what an authority issued, and looked through: does the key
//! fit, which names are in it, until when is it good.

use std::{
    fmt, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    InconsistentKeys,
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use tidegate_config::model;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

use super::pem::{self, At, Bad};

/// The bits of a file's mode by which everybody may read it.
const READ_BY_ALL: u32 = 0o004;

/// A certificate that can be served.
#[derive(Debug)]
pub struct Certificate {
    /// What it is called in metrics and logs: its file, or the name that it was issued for.
    pub label: String,
    /// The names in it, in lower case.
    pub names: Vec<String>,
    /// When it begins to be good.
    pub not_before: SystemTime,
    /// Until when it is good.
    pub not_after: SystemTime,
    pub(super) key: Arc<CertifiedKey>,
}

/// What is wrong with a file.
#[derive(Debug)]
pub struct Trouble {
    /// The key of the configuration that names it, where one does.
    pub setting: Option<String>,
    /// Which.
    pub file: PathBuf,
    /// On which line, where it is on one.
    pub line: Option<usize>,
    /// What.
    pub why: Why,
}

/// What is wrong with a certificate or its key, wherever they are from.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Flaw {
    /// Whether it is the key.
    of_key: bool,
    line: Option<usize>,
    why: Why,
}

/// What can be wrong with a certificate, a key or a list of authorities.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// It is not there, or not for us.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// Anybody on this machine can read a private key.
    #[error(
        "every user of this machine can read this private key (mode {mode:03o}); chmod o-r, or chmod 600"
    )]
    Exposed {
        /// The file's mode.
        mode: u32,
    },
    /// It is not PEM, or broken as such.
    #[error(transparent)]
    Pem(Bad),
    /// There is something else in it.
    #[error("holds {found} and no {wanted} (-----BEGIN {label}-----)", label = .wanted.to_uppercase())]
    WrongKind {
        /// What is in the first block.
        found: String,
        /// What there should be.
        wanted: &'static str,
    },
    /// There is a certificate where the key should be.
    #[error("holds a certificate and no private key; are `cert` and `key` swapped?")]
    Swapped,
    /// The certificate makes no sense.
    #[error("the certificate that begins here cannot be read: {0}")]
    Malformed(String),
    /// The key makes no sense.
    #[error("the key that begins here cannot be used: {0}")]
    BadKey(String),
    /// They are not a pair.
    #[error("is not the key of the first certificate in {cert}{}", instead(*.later), cert = .cert.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The line of its own one, if that comes later.
        later: Option<usize>,
    },
    /// Nobody can ask for it.
    #[error(
        "the certificate that begins here names no host (no subjectAltName), so no client would accept it"
    )]
    NoName,
    /// The authorities cannot be used.
    #[error("holds no authority that others could be known by: {0}")]
    NoAuthority(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(setting) = &self.setting {
            write!(f, "{setting}: ")?;
        }
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.why),
            None => write!(f, "{}: {}", self.file.display(), self.why),
        }
    }
}

impl Trouble {
    /// What is wrong with a file that nobody is known to have named.
    pub(super) fn with(file: impl Into<PathBuf>, why: Why) -> Self {
        Self { setting: None, file: file.into(), line: None, why }
    }

    /// The same, on this line.
    pub(super) fn at(self, line: usize) -> Self {
        Self { line: Some(line), ..self }
    }

    /// The same, named by this setting.
    pub(super) fn named_by(self, setting: String) -> Self {
        Self { setting: Some(setting), ..self }
    }
}

impl Certificate {
    /// Reads the files of a certificate.
    ///
    /// # Errors
    /// The file that is wrong, and how.
    pub fn read(files: &model::Certificate) -> Result<Self, Trouble> {
        let (chain, key) = (read(&files.cert)?, read_key(&files.key)?);
        Self::of(&chain, &key, files.cert.display().to_string())
            .map_err(|flaw| flaw.within(&files.cert, &files.key))
    }

    /// A certificate with those that lead to its authority, and its key, both in PEM.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn of(chain: &[u8], key: &[u8], label: String) -> Result<Self, Flaw> {
        let certificates = certificates(chain)?;
        let (line, first) = &certificates[0];
        let (names, not_before, not_after) = look(first).map_err(|why| Flaw::in_chain(*line, why))?;
        if names.is_empty() {
            return Err(Flaw::in_chain(*line, Why::NoName));
        }
        let key = Arc::new(pair(certificates, key)?);
        Ok(Self { label, names, not_before, not_after, key })
    }

    /// In words, if clients would not accept it at `now`.
    #[must_use]
    pub fn stale(&self, now: SystemTime) -> Option<String> {
        let ago = |time: SystemTime| now.duration_since(time).map(days).unwrap_or_default();
        if now > self.not_after {
            return Some(format!("{}: expired {} ago", self.label, ago(self.not_after)));
        }
        let ahead = self.not_before.duration_since(now).ok()?;
        Some(format!("{}: is good from {} from now on only", self.label, days(ahead)))
    }
}

/// A length of time, roughly.
fn days(length: Duration) -> String {
    match length.as_secs() / 86_400 {
        0 => "less than a day".to_owned(),
        1 => "a day".to_owned(),
        days => format!("{days} days"),
    }
}

pub(super) fn read(file: &Path) -> Result<Vec<u8>, Trouble> {
    std::fs::read(file).map_err(|error| Trouble::with(file, Why::Unreadable(error)))
}

fn read_key(file: &Path) -> Result<Vec<u8>, Trouble> {
    let key = read(file)?;
    let mode = std::fs::metadata(file).map_or(0, |metadata| metadata.mode()) & 0o777;
    if mode & READ_BY_ALL != 0 && memchr::memmem::find(&key, b"PRIVATE KEY-----").is_some() {
        return Err(Trouble::with(file, Why::Exposed { mode }));
    }
    Ok(key)
}

/// Reads a certificate and its key, whatever names are in it.
///
/// # Errors
/// The file that is wrong, and how.
pub fn read_pair(cert: &Path, key: &Path) -> Result<CertifiedKey, Trouble> {
    let (chain, secret) = (read(cert)?, read_key(key)?);
    certificates(&chain).and_then(|chain| pair(chain, &secret)).map_err(|flaw| flaw.within(cert, key))
}

impl Flaw {
    fn in_chain(line: usize, why: Why) -> Self {
        Self { of_key: false, line: Some(line), why }
    }

    fn in_key(line: usize, why: Why) -> Self {
        Self { of_key: true, line: Some(line), why }
    }

    /// The same, of what was read from these files.
    pub(super) fn within(self, cert: &Path, key: &Path) -> Trouble {
        let why = match self.why {
            Why::Mismatch { later, .. } => Why::Mismatch { cert: cert.to_owned(), later },
            why => why,
        };
        Trouble { setting: None, file: if self.of_key { key } else { cert }.to_owned(), line: self.line, why }
    }
}

/// The certificates of a file, one at least, with the lines on which they begin. Each can be read.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<At<CertificateDer<'static>>>, Flaw> {
    let bad = |(line, bad)| Flaw::in_chain(line, Why::Pem(bad));
    let blocks = pem::blocks(text).map_err(bad)?;
    let mut found = Vec::new();
    for block in blocks.iter().filter(|block| block.label == "CERTIFICATE") {
        let der = CertificateDer::from(block.der().map_err(bad)?);
        X509Certificate::from_der(&der).map_err(|error| Flaw::in_chain(block.line, malformed(error)))?;
        found.push((block.line, der));
    }
    if found.is_empty() {
        return Err(Flaw::in_chain(blocks[0].line, wrong(blocks[0].label, "certificate")));
    }
    Ok(found)
}

/// The key of a certificate, with it.
fn pair(certificates: Vec<At<CertificateDer<'static>>>, key: &[u8]) -> Result<CertifiedKey, Flaw> {
    let (line, key) = secret(key)?;
    let key = any_supported_type(&key).map_err(|error| Flaw::in_key(line, Why::BadKey(error.to_string())))?;
    let fits = |chain| {
        let pair = CertifiedKey::new(chain, Arc::clone(&key));
        match pair.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Some(pair),
            Err(_) => None,
        }
    };
    let chain = certificates.iter().map(|(_, certificate)| certificate.clone()).collect();
    fits(chain).ok_or_else(|| {
        let later = certificates.into_iter().skip(1).find(|(_, other)| fits(vec![other.clone()]).is_some());
        Flaw::in_key(line, Why::Mismatch { cert: PathBuf::new(), later: later.map(|(line, _)| line) })
    })
}

/// The private key in a file, and the line on which it begins.
fn secret(text: &[u8]) -> Result<At<PrivateKeyDer<'static>>, Flaw> {
    let bad = |(line, bad)| Flaw::in_key(line, Why::Pem(bad));
    let blocks = pem::blocks(text).map_err(bad)?;
    let Some(block) = blocks.iter().find(|block| block.is_key()) else {
        let swapped = blocks.iter().any(|block| block.label == "CERTIFICATE");
        let why = if swapped { Why::Swapped } else { wrong(blocks[0].label, "private key") };
        return Err(Flaw::in_key(blocks[0].line, why));
    };
    let der = block.der().map_err(bad)?;
    let key = match block.label {
        "PRIVATE KEY" => PrivateKeyDer::Pkcs8(der.into()),
        "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(der.into()),
        "EC PRIVATE KEY" => PrivateKeyDer::Sec1(der.into()),
        other => return Err(Flaw::in_key(block.line, wrong(other, "private key"))),
    };
    Ok((block.line, key))
}

fn instead(later: Option<usize>) -> String {
    later.map_or_else(String::new, |line| format!(", but of the one on line {line}, which must be the first"))
}

fn wrong(found: &str, wanted: &'static str) -> Why {
    Why::WrongKind { found: format!("-----BEGIN {found}-----"), wanted }
}

fn malformed(error: impl fmt::Display) -> Why {
    Why::Malformed(error.to_string())
}

/// The names of a certificate, and from when to when it is good.
fn look(certificate: &CertificateDer<'_>) -> Result<(Vec<String>, SystemTime, SystemTime), Why> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(malformed)?;
    let names = parsed.subject_alternative_name().map_err(malformed)?;
    let names = names.map(|names| names.value.general_names.iter().filter_map(name).collect());
    let time = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0));
    let validity = parsed.validity();
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    Ok((names.unwrap_or_default(), time(from), time(until)))
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => {
            let v4 = || <[u8; 4]>::try_from(*bytes).map(|ip| std::net::IpAddr::from(ip).to_string());
            let v6 = || <[u8; 16]>::try_from(*bytes).map(|ip| std::net::IpAddr::from(ip).to_string());
            v4().or_else(|_| v6()).ok()
        }
        _ => None,
    }
}
