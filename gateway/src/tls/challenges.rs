//! What proves to an authority that a name is ours, while it looks: texts over HTTP (http-01, RFC 8555, 8.3), certificates
//! over TLS (tls-alpn-01, RFC 8737). Answered by the listeners themselves; no service is woken.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring::{self, sign::any_supported_type},
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::{CertifiedKey, SingleCertAndKey},
};

use crate::request::CHALLENGES;

/// The protocol that an authority speaks when it looks for proof over TLS.
pub(crate) const PROTOCOL: &[u8] = b"acme-tls/1";

/// The proofs that are shown now.
#[derive(Debug, Default)]
pub struct Challenges {
    texts: Mutex<HashMap<String, String>>,
    configs: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

/// A proof that is shown until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Shown {
    challenges: Arc<Challenges>,
    key: Key,
}

#[derive(Debug)]
enum Key {
    Token(String),
    Name(String),
}

/// A certificate that holds a proof could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Unprovable {
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] rcgen::Error),
    /// Its key.
    #[error(transparent)]
    Key(#[from] rustls::Error),
}

impl Challenges {
    /// Shows a text to whoever asks for the token.
    pub fn show_text(self: &Arc<Self>, token: &str, text: &str) -> Shown {
        self.texts.lock().insert(token.to_owned(), text.to_owned());
        Shown { challenges: Arc::clone(self), key: Key::Token(token.to_owned()) }
    }

    /// Shows a certificate with this digest to the authority that calls the name.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn show_certificate(self: &Arc<Self>, name: &str, digest: &[u8]) -> Result<Shown, Unprovable> {
        let config = Arc::new(proof(name, digest)?);
        self.configs.lock().insert(name.to_owned(), config);
        Ok(Shown { challenges: Arc::clone(self), key: Key::Name(name.to_owned()) })
    }

    /// The text at a path.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(CHALLENGES)?;
        self.texts.lock().get(token).cloned()
    }

    /// On what terms the authority is answered that calls a name.
    pub(crate) fn config(&self, name: Option<&str>) -> Option<Arc<ServerConfig>> {
        self.configs.lock().get(name?).cloned()
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        match &self.key {
            Key::Token(token) => drop(self.challenges.texts.lock().remove(token)),
            Key::Name(name) => drop(self.challenges.configs.lock().remove(name)),
        }
    }
}

fn proof(name: &str, digest: &[u8]) -> Result<ServerConfig, Unprovable> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = CertifiedKey::new(vec![certificate.der().clone()], any_supported_type(&key)?);
    // Not `with_single_cert`, which looks into the certificate and refuses the very extension that is the proof.
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_shown_until_it_is_dropped() {
        let challenges = Arc::new(Challenges::default());
        let text = challenges.show_text("token", "proof");
        let certificate = challenges.show_certificate("a.org", &[7; 32]).expect("a certificate with a proof");
        let path = format!("{CHALLENGES}token");
        assert_eq!(challenges.text(&path).as_deref(), Some("proof"));
        assert_eq!((challenges.text("/token"), challenges.text(CHALLENGES)), (None, None));
        let config = challenges.config(Some("a.org")).expect("what is shown");
        assert_eq!(config.alpn_protocols, [PROTOCOL]);
        assert!(challenges.config(Some("b.org")).is_none() && challenges.config(None).is_none());
        drop((text, certificate));
        assert!(challenges.text(&path).is_none() && challenges.config(Some("a.org")).is_none());
    }
}
