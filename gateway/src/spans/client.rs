//! How spans are sent: in clear text, or over TLS to a collector whose certificate is from an authority that is named, or that
//! this machine trusts. What goes wrong is kept, because the exporter tells no more than that something did.

use std::{path::Path, sync::Arc};

use anyhow::ensure;
use async_trait::async_trait;
use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response, hyper::HyperClient};
use parking_lot::Mutex;
use rustls::ClientConfig;
use tidegate_runner::chain;

use super::SEND;
use crate::tls::{authorities, machine_authorities, trusting};

/// Sends spans.
#[derive(Debug, Clone)]
pub(super) struct Client {
    to: Arc<dyn HttpClient>,
    /// Why the last ones were not sent.
    failure: Arc<Mutex<Option<String>>>,
}

impl Client {
    /// In clear text.
    pub(super) fn plain() -> Self {
        Self::over(HyperClient::with_default_connector(SEND, None))
    }

    /// Over TLS, to whoever can show what is wanted, and never without.
    pub(super) fn secure(trusted: ClientConfig) -> Self {
        let connector = HttpsConnectorBuilder::new().with_tls_config(trusted).https_only().enable_http1();
        Self::over(HyperClient::new(connector.build(), SEND, None))
    }

    fn over(client: impl HttpClient + 'static) -> Self {
        Self { to: Arc::new(client), failure: Arc::default() }
    }

    /// Why the last ones were not sent, if no answer came.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().take()
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.to.send_bytes(request).await;
        *self.failure.lock() = sent.as_ref().err().map(|error| chain(&**error));
        sent
    }
}

/// What a collector must show.
///
/// # Errors
/// When the authorities cannot be read, or there are none.
pub(super) fn trusted(ca: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let roots = match ca {
        Some(file) => {
            authorities(file).map_err(|trouble| anyhow::anyhow!("gateway.tracing.ca: {trouble}"))?
        }
        None => {
            let roots = machine_authorities();
            ensure!(
                !roots.is_empty(),
                "this machine trusts no authority: name those of the collector in gateway.tracing.ca"
            );
            roots
        }
    };
    Ok(trusting(roots)?)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug)]
    struct Broken;

    #[async_trait]
    impl HttpClient for Broken {
        async fn send_bytes(&self, _: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
            Err(anyhow::Error::from(io::Error::other("a stranger's certificate"))
                .context("no connection")
                .into())
        }
    }

    #[tokio::test]
    async fn what_went_wrong_is_told_whole() {
        let client = Client::over(Broken);
        client.send_bytes(Request::new(Bytes::new())).await.expect_err("it is broken");
        assert_eq!(client.failure().as_deref(), Some("no connection: a stranger's certificate"));
        assert_eq!(client.failure(), None, "told once");
    }
}
