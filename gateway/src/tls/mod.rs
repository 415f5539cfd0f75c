//! TLS towards clients: which certificates there are, which of them answers to which name, and on what terms. Read by the
//! [`listener`](crate::listener) once per connection, swapped whole when files change. Holds: what is broken replaces
//! nothing; a client that names nobody we know gets no certificate. Absent: sockets, handshakes.

mod certificate;
mod checked;
mod expiry;
mod names;
mod terms;

use std::{collections::BTreeSet, fmt, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, Guard};
use http::HeaderValue;
use rustls::ServerConfig;
use tidegate_config::model;

pub use self::{
    certificate::{Certificate, Trouble, Why},
    checked::{notes, trouble},
    expiry::tell,
};
use self::{names::Table, terms::Terms};

/// What is served over TLS.
#[derive(Debug)]
pub struct Tls {
    /// The file's listeners as they were at the start; they do not change.
    listeners: Vec<model::Listener>,
    terms: Terms,
    active: ArcSwap<Active>,
}

/// What is served over TLS at one moment.
#[derive(Debug)]
pub struct Active {
    certificates: Vec<Arc<Certificate>>,
    table: Arc<Table<Arc<Certificate>>>,
    default: Option<Arc<Certificate>>,
    /// For each listener, if it speaks TLS.
    configs: Vec<Option<Arc<ServerConfig>>>,
    /// From a connection to the end of its handshake.
    pub(crate) handshake_timeout: Duration,
    hsts: Option<HeaderValue>,
}

/// A connection over TLS, as its requests see it.
#[derive(Debug)]
pub struct Secured {
    /// The name that the client called, if it said one.
    name: Option<String>,
    certificate: Arc<Certificate>,
    /// What browsers are told to remember.
    pub(crate) hsts: Option<HeaderValue>,
}

/// Everything that is wrong with files.
#[derive(Debug)]
pub struct Troubles(pub Vec<Trouble>);

/// What was read, to be served from now on.
#[derive(Debug)]
pub struct Prepared(Active);

impl Tls {
    /// Reads all certificates.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(gateway: &model::Gateway) -> Result<Self, Troubles> {
        let (listeners, terms) = (gateway.listen.clone(), Terms::default());
        let active = ArcSwap::from_pointee(prepare(&listeners, &gateway.tls, &terms)?);
        Ok(Self { listeners, terms, active })
    }

    /// Reads all certificates anew.
    ///
    /// # Errors
    /// Everything that is wrong with them; what was served goes on.
    pub fn prepare(&self, settings: &model::GatewayTls) -> Result<Prepared, Troubles> {
        prepare(&self.listeners, settings, &self.terms).map(Prepared)
    }

    /// Serves what was read, from the next connection on.
    pub fn take_up(&self, prepared: Prepared) {
        self.active.store(Arc::new(prepared.0));
    }

    /// What is served now.
    pub(crate) fn active(&self) -> Guard<Arc<Active>> {
        self.active.load()
    }

    /// The files that it is made from.
    #[must_use]
    pub fn files(&self, settings: &model::GatewayTls) -> BTreeSet<PathBuf> {
        let pairs = settings.certificates.iter().flat_map(|files| [files.cert.clone(), files.key.clone()]);
        let authorities = self.listeners.iter().filter_map(|listener| listener.client_ca.clone());
        pairs.chain(authorities).collect()
    }
}

impl Active {
    /// The terms of a listener, by its place in the file.
    pub(crate) fn config(&self, listener: usize) -> Option<&Arc<ServerConfig>> {
        self.configs.get(listener)?.as_ref()
    }

    /// What a client gets that calls this name, or none.
    pub(crate) fn secured(&self, name: Option<&str>) -> Option<Secured> {
        let certificate = match name {
            Some(name) => self.table.find(name),
            None => self.default.as_ref(),
        };
        let certificate = Arc::clone(certificate?);
        Some(Secured { name: name.map(str::to_owned), certificate, hsts: self.hsts.clone() })
    }

    /// All certificates.
    pub(crate) fn certificates(&self) -> &[Arc<Certificate>] {
        &self.certificates
    }
}

impl Secured {
    /// Whether a request for this host (lower case) may come over this connection. A client that did not say whom it calls
    /// was not promised anything.
    pub(crate) fn covers(&self, host: &str) -> bool {
        self.name.as_ref().is_none_or(|name| name == host || names::cover(&self.certificate.names, host))
    }
}

fn prepare(
    listeners: &[model::Listener],
    settings: &model::GatewayTls,
    terms: &Terms,
) -> Result<Active, Troubles> {
    let mut troubles = Vec::new();
    let mut keep = |result: Result<_, Trouble>| result.map_err(|trouble| troubles.push(trouble)).ok();
    let read =
        settings.certificates.iter().map(|files| (files.default, Certificate::read(files).map(Arc::new)));
    let read: Vec<_> = read.filter_map(|(default, read)| Some((default, keep(read)?))).collect();
    let default = read.iter().find(|(default, _)| *default).map(|(_, certificate)| Arc::clone(certificate));
    let certificates: Vec<_> = read.into_iter().map(|(_, certificate)| certificate).collect();
    let table = Table::new(certificates.iter().map(|one| (one.names.as_slice(), Arc::clone(one))));
    let table = Arc::new(table);
    let mut configs = Vec::new();
    for listener in listeners {
        if !listener.tls {
            configs.push(None);
            continue;
        }
        match terms.of(listener, settings.min_version, &table, default.as_ref()) {
            Ok(config) => configs.push(Some(Arc::new(config))),
            Err(trouble) => troubles.push(trouble),
        }
    }
    if !troubles.is_empty() {
        return Err(Troubles(troubles));
    }
    let (handshake_timeout, hsts) = (settings.handshake_timeout, hsts(settings));
    Ok(Active { certificates, table, default, configs, handshake_timeout, hsts })
}

fn hsts(settings: &model::GatewayTls) -> Option<HeaderValue> {
    let below = if settings.hsts_subdomains { "; includeSubDomains" } else { "" };
    let text = format!("max-age={}{below}", settings.hsts?.as_secs());
    HeaderValue::try_from(text).ok()
}

impl fmt::Display for Troubles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Troubles {}
