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
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use tidegate_config::model;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

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
    /// What.
    pub why: Why,
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
    /// There is no certificate in it.
    #[error("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// There is no key in it.
    #[error("holds no private key in PEM (-----BEGIN PRIVATE KEY-----)")]
    NoKey,
    /// There is a certificate where the key should be.
    #[error("holds a certificate and no private key; are `cert` and `key` swapped?")]
    Swapped,
    /// The certificate makes no sense.
    #[error("holds a certificate that cannot be read: {0}")]
    Malformed(String),
    /// The key makes no sense.
    #[error("holds a key that cannot be used: {0}")]
    BadKey(rustls::Error),
    /// They are not a pair.
    #[error("is not the key of the certificate in {cert}", cert = .cert.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
    },
    /// Nobody can ask for it.
    #[error("names no host (no subjectAltName), so no client would accept it")]
    NoName,
    /// The authorities cannot be used.
    #[error("holds no authority that clients' certificates could be from: {0}")]
    NoAuthority(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(setting) = &self.setting {
            write!(f, "{setting}: ")?;
        }
        write!(f, "{}: {}", self.file.display(), self.why)
    }
}

impl Trouble {
    /// What is wrong with a file that nobody is known to have named.
    pub(super) fn with(file: impl Into<PathBuf>, why: Why) -> Self {
        Self { setting: None, file: file.into(), why }
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
        Self::of(&chain, &key, files.cert.display().to_string()).map_err(|why| {
            let of_key = matches!(why, Why::NoKey | Why::BadKey(_) | Why::Mismatch { .. });
            let file = if of_key { &files.key } else { &files.cert }.clone();
            let why = match why {
                Why::Mismatch { .. } => Why::Mismatch { cert: files.cert.clone() },
                why => why,
            };
            Trouble::with(file, why)
        })
    }

    /// A certificate with those that lead to its authority, and its key, both in PEM.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn of(chain: &[u8], key: &[u8], label: String) -> Result<Self, Why> {
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(malformed)?;
        let (names, not_before, not_after) = look(chain.first().ok_or(Why::NoCertificate)?)?;
        if names.is_empty() {
            return Err(Why::NoName);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| Why::NoKey)?;
        let key = any_supported_type(&key).map_err(Why::BadKey)?;
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => return Err(Why::Mismatch { cert: PathBuf::new() }),
        }
        Ok(Self { label, names, not_before, not_after, key: Arc::new(key) })
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
    let holds = |label: &[u8]| memchr::memmem::find(&key, label).is_some();
    if holds(b"-----BEGIN CERTIFICATE-----") && !holds(b"PRIVATE KEY-----") {
        return Err(Trouble::with(file, Why::Swapped));
    }
    let mode = std::fs::metadata(file).map_or(0, |metadata| metadata.mode()) & 0o777;
    if mode & READ_BY_ALL != 0 {
        return Err(Trouble::with(file, Why::Exposed { mode }));
    }
    Ok(key)
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
