//! The terms on which a listener speaks TLS: versions, protocols, session tickets, clients' certificates.

use std::{fmt, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    server::{
        ClientHello, ProducesTickets, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
    version,
};
use tidegate_config::model;

use super::{
    certificate::{self, Certificate, Trouble, Why},
    names::Table,
};

/// What is spoken over TLS, the better first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What listeners have in common, whatever their certificates are at the moment.
pub(super) struct Terms {
    /// Keys of session tickets, which change by themselves. They outlive a change of certificates. Where clients must have
    /// certificates there are others: a session that began without one must not go on there.
    tickets: Option<Arc<dyn ProducesTickets>>,
}

impl Default for Terms {
    fn default() -> Self {
        Self { tickets: tickets() }
    }
}

impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Terms")
    }
}

/// `None` without a source of chance, where sessions are not resumed.
fn tickets() -> Option<Arc<dyn ProducesTickets>> {
    ring::Ticketer::new().inspect_err(|error| tracing::warn!(%error, "no session tickets")).ok()
}

/// Who vouches for a listener's clients.
pub(super) type Vouching = Arc<dyn ClientCertVerifier>;

impl Terms {
    /// The terms of one listener, whose clients somebody must vouch for, or nobody.
    pub(super) fn of(
        &self,
        vouching: Option<&Vouching>,
        oldest: model::TlsVersion,
        table: &Arc<Table<Arc<Certificate>>>,
        default: Option<&Arc<Certificate>>,
    ) -> ServerConfig {
        let versions: &[&SupportedProtocolVersion] = match oldest {
            model::TlsVersion::V12 => &[&version::TLS13, &version::TLS12],
            model::TlsVersion::V13 => &[&version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("the provider speaks both versions");
        let (builder, tickets) = match vouching {
            Some(who) => (builder.with_client_cert_verifier(Arc::clone(who)), tickets()),
            None => (builder.with_no_client_auth(), self.tickets.clone()),
        };
        let (table, default) = (Arc::clone(table), default.cloned());
        let mut config = builder.with_cert_resolver(Arc::new(Answers { table, default }));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        if let Some(tickets) = tickets {
            config.ticketer = tickets;
        }
        config
    }
}

/// Reads who vouches for clients.
pub(super) fn vouching(file: &Path) -> Result<Vouching, Trouble> {
    let roots = Arc::new(authorities(file)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::new(ring::default_provider()));
    let unusable = |error: VerifierBuilderError| Trouble::with(file, Why::NoAuthority(error.to_string()));
    builder.build().map(|who| who as Vouching).map_err(unusable)
}

/// Reads the authorities in a file.
///
/// # Errors
/// What is wrong with it.
pub fn authorities(file: &Path) -> Result<RootCertStore, Trouble> {
    let mut roots = RootCertStore::empty();
    let read = certificate::read(file)?;
    for (line, authority) in certificate::certificates(&read).map_err(|flaw| flaw.within(file, file))? {
        roots
            .add(authority)
            .map_err(|error| Trouble::with(file, Why::NoAuthority(error.to_string())).at(line))?;
    }
    Ok(roots)
}

/// The authorities that this machine trusts.
pub fn machine_authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// A client that holds these authorities against a server, and shows nothing of its own.
///
/// # Errors
/// When the cryptography offers no version of TLS.
pub fn trusting(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Gives each client the certificate that it calls for.
struct Answers {
    table: Arc<Table<Arc<Certificate>>>,
    default: Option<Arc<Certificate>>,
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answers")
    }
}

impl ResolvesServerCert for Answers {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificate = match hello.server_name() {
            Some(name) => self.table.find(name),
            None => self.default.as_ref(),
        };
        certificate.map(|certificate| Arc::clone(&certificate.key))
    }
}
