//! TLS in the suites: an authority of our own, the files that a gateway reads, and clients that trust the authority.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tokio::net::TcpStream;
pub use tokio_rustls::client::TlsStream;
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
        version,
    },
};

use crate::eventually::soon;

/// An authority, and the folder that its certificates are written to.
pub struct Authority {
    folder: PathBuf,
    name: &'static str,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// Until when a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Good {
    /// For as long as any test runs.
    Now,
    /// Not any more.
    Once,
}

impl Authority {
    /// Makes one; its own certificate is `NAME.pem`.
    ///
    /// # Panics
    /// When the folder cannot be written.
    #[must_use]
    pub fn new(folder: &Path, name: &'static str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names are fine");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(folder.join(format!("{name}.pem")), certificate.pem()).expect("a folder");
        let certificate = certificate.der().clone();
        Self { folder: folder.to_owned(), name, issuer: Issuer::new(params, key), certificate }
    }

    /// A certificate for these names, and its key, in PEM.
    ///
    /// # Panics
    /// When a name is none.
    #[must_use]
    pub fn issue(&self, names: &[&str], good: Good) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        if good == Good::Once {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        }
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// Writes `FILE.pem` and `FILE.key`, each in one step as ACME clients do: a certificate for these names.
    pub fn write(&self, file: &str, names: &[&str]) {
        let (certificate, key) = self.issue(names, Good::Now);
        put(&self.folder, &format!("{file}.key"), &key, 0o600);
        put(&self.folder, &format!("{file}.pem"), &certificate, 0o644);
    }

    /// A client that trusts this authority and would speak these protocols.
    #[must_use]
    pub fn client(&self, protocols: &[&str]) -> Client {
        let versions = vec![&version::TLS13, &version::TLS12];
        let protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Client { root: self.certificate.clone(), protocols, versions, named: true, identity: None }
    }

    /// What the authority is called.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name
    }
}

/// Writes a file in one step, with this mode.
///
/// # Panics
/// When it cannot.
pub fn put(folder: &Path, name: &str, text: &str, mode: u32) {
    let beside = folder.join(format!("{name}.new"));
    fs::write(&beside, text).expect("a folder");
    fs::set_permissions(&beside, fs::Permissions::from_mode(mode)).expect("a file");
    fs::rename(beside, folder.join(name)).expect("a folder");
}

/// A client over TLS.
#[derive(Debug, Clone)]
pub struct Client {
    root: CertificateDer<'static>,
    protocols: Vec<Vec<u8>>,
    versions: Vec<&'static SupportedProtocolVersion>,
    named: bool,
    identity: Option<(String, String)>,
}

impl Client {
    /// The same, which does not say whom it calls.
    #[must_use]
    pub fn nameless(self) -> Self {
        Self { named: false, ..self }
    }

    /// The same, which speaks TLS 1.2 only.
    #[must_use]
    pub fn old(self) -> Self {
        Self { versions: vec![&version::TLS12], ..self }
    }

    /// The same, with a certificate of its own.
    #[must_use]
    pub fn with(self, identity: (String, String)) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// Connects to what is called `name`.
    ///
    /// # Errors
    /// When there is no handshake.
    pub async fn connect(&self, address: SocketAddr, name: &str) -> io::Result<TlsStream<TcpStream>> {
        self.over(TcpStream::connect(address).await?, name).await
    }

    /// The same over a connection that is there.
    ///
    /// # Errors
    /// When there is no handshake.
    ///
    /// # Panics
    /// When the name is none.
    pub async fn over(&self, stream: TcpStream, name: &str) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connector = TlsConnector::from(Arc::new(self.config()));
        soon("a handshake", connector.connect(name, stream)).await
    }

    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&self.versions)
            .expect("versions of ours")
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificate =
                    CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(vec![certificate], key).expect("a pair")
            }
        };
        config.alpn_protocols.clone_from(&self.protocols);
        config.enable_sni = self.named;
        config
    }
}

/// A server's side, with this certificate and key, in PEM.
///
/// # Panics
/// When they are no pair.
#[must_use]
pub fn acceptor(certificate: &str, key: &str) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions of ours")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a pair");
    TlsAcceptor::from(Arc::new(config))
}
