//! Our side of mutual TLS, from PEM files. Whatever is wrong with them is said with the file's name, before anything is
//! dialled: no waiting cures it.

use std::{fmt, path::Path, sync::Arc};

use tidegate_config::model::Tls;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use crate::{Error, Kind, Result};

/// What dials with these files, and the name that the engine's certificate must have.
pub(super) fn client(files: &Tls, host: &str) -> Result<(TlsConnector, ServerName<'static>)> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca, "tls.ca")? {
        roots.add(certificate).map_err(|e| bad(&files.ca, "tls.ca", &e))?;
    }
    let ours = certificates(&files.cert, "tls.cert")?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| bad(&files.key, "tls.key", &e))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::because(Kind::Permanent, format!("TLS cannot be set up: {e}"), e))?
        .with_root_certificates(roots)
        .with_client_auth_cert(ours, key)
        .map_err(|e| {
            bad(&files.key, "tls.key", &format!("it does not go with {}: {e}", files.cert.display()))
        })?;
    let name = ServerName::try_from(host.to_owned()).map_err(|e| {
        Error::because(Kind::Permanent, format!("{host} is not a name that a certificate can have"), e)
    })?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

fn certificates(file: &Path, setting: &str) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file).map_err(|e| bad(file, setting, &e))?;
    let all = read.collect::<std::result::Result<Vec<_>, _>>().map_err(|e| bad(file, setting, &e))?;
    if all.is_empty() { Err(bad(file, setting, &"there is no certificate in it")) } else { Ok(all) }
}

fn bad(file: &Path, setting: &str, why: &dyn fmt::Display) -> Error {
    Error::new(
        Kind::Permanent,
        format!(
            "{} cannot be used as `{setting}`: {why}; it must be a PEM file that we can read",
            file.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_files_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).expect("written");
            file
        };
        let made = rcgen::generate_simple_self_signed(["engine".to_owned()]).expect("a certificate");
        let other = rcgen::KeyPair::generate().expect("a key");
        let ca = write("ca.pem", &made.cert.pem());
        let key = write("key.pem", &made.signing_key.serialize_pem());
        let wrong_key = write("other.pem", &other.serialize_pem());
        let empty = write("empty.pem", "");
        let rubbish = write("rubbish.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let absent = folder.path().join("absent.pem");
        let good = Tls { ca: ca.clone(), cert: ca.clone(), key };
        client(&good, "engine").expect("these are well");
        client(&good, "10.0.0.2").expect("an address is a name");
        for (files, words) in [
            (Tls { ca: absent.clone(), ..good.clone() }, ["absent.pem", "tls.ca"]),
            (Tls { ca: rubbish, ..good.clone() }, ["rubbish.pem", "tls.ca"]),
            (Tls { cert: empty, ..good.clone() }, ["empty.pem", "no certificate in it"]),
            (Tls { key: absent, ..good.clone() }, ["absent.pem", "tls.key"]),
            (Tls { key: ca, ..good.clone() }, ["ca.pem", "tls.key"]),
            (Tls { key: wrong_key, ..good }, ["other.pem", "does not go with"]),
        ] {
            let Err(error) = client(&files, "engine") else { panic!("accepted: {words:?}") };
            assert_eq!(error.kind, Kind::Permanent);
            assert!(words.iter().all(|word| error.message.contains(word)), "{error}");
        }
    }
}
