//! A gateway that is asked over TCP: TLS unless it is on this machine, and a token out of a file.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, bail, ensure};
use http::{HeaderValue, Uri};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::Gateway;
use crate::tls::{machine_authorities, trusting};

/// Where bytes go both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A gateway that is asked over TCP.
#[derive(Debug)]
pub(super) struct Remote {
    url: Uri,
    token_file: PathBuf,
    ca: Option<PathBuf>,
}

impl Remote {
    /// The one that the command line names, if it does.
    pub(super) fn of(gateway: &Gateway) -> Option<Self> {
        let (url, token_file) = (gateway.admin.clone()?, gateway.token_file.clone()?);
        Some(Self { url, token_file, ca: gateway.admin_ca.clone() })
    }

    /// As `Host` says it.
    pub(super) fn host(&self) -> &str {
        self.url.authority().map_or("", |authority| authority.as_str())
    }

    pub(super) fn authorization(&self) -> anyhow::Result<HeaderValue> {
        let file = self.token_file.display();
        let token =
            std::fs::read_to_string(&self.token_file).with_context(|| format!("cannot read {file}"))?;
        ensure!(!token.trim().is_empty(), "{file} is empty");
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| anyhow::anyhow!("what is in {file} is no token"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    pub(super) async fn connect(&self) -> anyhow::Result<Box<dyn Stream>> {
        let (Some(host), Some(scheme)) = (self.url.host(), self.url.scheme_str()) else {
            bail!("{} is no URL; https://HOST:PORT is wanted", self.url);
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let encrypted = match scheme {
            "https" => true,
            "http" if is_local(bare) => false,
            "http" => bail!("a token would cross the network in clear text; ask https://{}", self.host()),
            other => bail!("{other} is not spoken; https://HOST:PORT is wanted"),
        };
        let port = self.url.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        let stream = TcpStream::connect((bare, port)).await;
        let stream = stream.with_context(|| format!("no gateway answers on {}", self.host()))?;
        if !encrypted {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(bare.to_owned()).context("not a name for TLS")?;
        let connector = TlsConnector::from(Arc::new(self.trust()?));
        let stream = connector.connect(name, stream).await;
        Ok(Box::new(stream.with_context(|| format!("no TLS with {}; is --admin-ca right?", self.host()))?))
    }

    fn trust(&self) -> anyhow::Result<ClientConfig> {
        let Some(file) = &self.ca else { return Ok(trusting(machine_authorities())?) };
        let shown = file.display();
        let certificates = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("cannot read {shown}"))?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate).with_context(|| format!("{shown} has no certificate to be trusted"))?;
        }
        Ok(trusting(roots)?)
    }
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
