//! TLS towards clients: which certificates there are, which of them answers to which name, and on what terms. Read by the
//! [`listener`](crate::listener) once per connection, swapped whole when files change or an authority issues. Holds: what is
//! broken replaces nothing; a client that names nobody we know gets no certificate. Absent: sockets, handshakes.

mod certificate;
mod challenges;
mod checked;
mod expiry;
mod names;
mod pem;
mod terms;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use http::HeaderValue;
use parking_lot::Mutex;
use rustls::ServerConfig;
use tidegate_config::{
    model::{self, Model},
    name::Authority,
};
use tokio::sync::watch;

use crate::hsts;

pub(crate) use self::challenges::PROTOCOL as CHALLENGE;
pub use self::{
    certificate::{Certificate, Flaw, Trouble, Why, read_pair},
    challenges::{Challenges, Unprovable},
    checked::{name, notes, stale, trouble, uncovered},
    expiry::tell,
    pem::Bad,
    terms::{authorities, machine_authorities, trusting},
};
use self::{
    names::Table,
    terms::{Terms, Vouching},
};

/// What is served over TLS.
#[derive(Debug)]
pub struct Tls {
    /// The file's listeners as they were at the start; they do not change.
    listeners: Vec<model::Listener>,
    terms: Terms,
    sources: Mutex<Sources>,
    active: ArcSwap<Active>,
    challenges: Arc<Challenges>,
    wanted: watch::Sender<Wanted>,
}

/// Where certificates come from.
#[derive(Debug)]
struct Sources {
    files: Prepared,
    /// By the name that each was issued for.
    issued: BTreeMap<String, Arc<Certificate>>,
}

/// What was read, to be served from now on.
#[derive(Debug)]
pub struct Prepared {
    settings: model::GatewayTls,
    /// The hosts of routes, without wildcards.
    hosts: BTreeSet<String>,
    /// Certificates in files; with each, whether it is the default.
    certificates: Vec<(bool, Arc<Certificate>)>,
    /// For each listener, who vouches for its clients, if anybody must.
    vouching: Vec<Option<Vouching>>,
}

/// What certificates are to be issued for, and by whom.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// By whom, and how; `None`: nobody is asked.
    pub acme: Option<model::Acme>,
    /// For these names, one each.
    pub domains: BTreeSet<String>,
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

impl Tls {
    /// Reads all certificates.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(model: &Model) -> Result<Self, Troubles> {
        let (listeners, terms) = (model.gateway.listen.clone(), Terms::default());
        let files = read(&listeners, model.gateway.tls.clone(), hosts(model))?;
        let sources = Sources { files, issued: BTreeMap::new() };
        let active = ArcSwap::from_pointee(sources.combine(&listeners, &terms));
        let wanted = watch::Sender::new(sources.wanted());
        Ok(Self {
            listeners,
            terms,
            sources: Mutex::new(sources),
            active,
            challenges: Arc::default(),
            wanted,
        })
    }

    /// Reads all certificates of another file.
    ///
    /// # Errors
    /// Everything that is wrong with them; what was served goes on.
    pub fn prepare(&self, model: &Model) -> Result<Prepared, Troubles> {
        read(&self.listeners, model.gateway.tls.clone(), hosts(model))
    }

    /// Serves what was read, from the next connection on.
    pub fn take_up(&self, prepared: Prepared) {
        let mut sources = self.sources.lock();
        sources.files = prepared;
        self.active.store(Arc::new(sources.combine(&self.listeners, &self.terms)));
        self.wanted.send_replace(sources.wanted());
    }

    /// Reads the same certificates again, whose files have changed.
    ///
    /// # Errors
    /// Everything that is wrong with them; what was served goes on.
    pub fn renew(&self) -> Result<(), Troubles> {
        let (settings, hosts) = {
            let sources = self.sources.lock();
            (sources.files.settings.clone(), sources.files.hosts.clone())
        };
        self.take_up(read(&self.listeners, settings, hosts)?);
        Ok(())
    }

    /// Serves a certificate that was issued for `domain`.
    pub fn issue(&self, domain: &str, certificate: Certificate) {
        let mut sources = self.sources.lock();
        sources.issued.insert(domain.to_owned(), Arc::new(certificate));
        self.active.store(Arc::new(sources.combine(&self.listeners, &self.terms)));
    }

    /// The certificate that was issued for a name.
    #[must_use]
    pub fn issued(&self, domain: &str) -> Option<Arc<Certificate>> {
        self.sources.lock().issued.get(domain).cloned()
    }

    /// What is to be issued, now and whenever that changes.
    #[must_use]
    pub fn wanted(&self) -> watch::Receiver<Wanted> {
        self.wanted.subscribe()
    }

    /// What proves to authorities that names are ours.
    #[must_use]
    pub fn challenges(&self) -> &Arc<Challenges> {
        &self.challenges
    }

    /// The files that it is made from.
    #[must_use]
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let sources = self.sources.lock();
        let all = sources.files.settings.certificates.iter();
        let pairs = all.flat_map(|files| [files.cert.clone(), files.key.clone()]);
        let authorities = self.listeners.iter().filter_map(|listener| listener.client_ca.clone());
        pairs.chain(authorities).collect()
    }

    /// What is served now.
    pub(crate) fn active(&self) -> Guard<Arc<Active>> {
        self.active.load()
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

impl Sources {
    /// What is served: certificates in files answer before issued ones.
    fn combine(&self, listeners: &[model::Listener], terms: &Terms) -> Active {
        let Prepared { settings, hosts: _, certificates: files, vouching } = &self.files;
        let default =
            files.iter().find(|(default, _)| *default).map(|(_, certificate)| Arc::clone(certificate));
        let certificates: Vec<_> =
            files.iter().map(|(_, certificate)| certificate).chain(self.issued.values()).cloned().collect();
        let table = Table::new(certificates.iter().map(|one| (one.names.as_slice(), Arc::clone(one))));
        let table = Arc::new(table);
        let config = |(listener, vouching): (&model::Listener, &Option<Vouching>)| {
            let terms = || terms.of(vouching.as_ref(), settings.min_version, &table, default.as_ref());
            listener.tls.then(|| Arc::new(terms()))
        };
        let configs = listeners.iter().zip(vouching).map(config).collect();
        let hsts = settings.hsts.map(|age| hsts::field(age, settings.hsts_subdomains));
        let handshake_timeout = settings.handshake_timeout;
        Active { certificates, table, default, configs, handshake_timeout, hsts }
    }

    /// What is to be issued: what the file lists, or else the routes' hosts that the world could know and that have no
    /// certificate of their own.
    fn wanted(&self) -> Wanted {
        let Some(acme) = self.files.settings.acme.clone() else { return Wanted::default() };
        let covered =
            |host: &str| self.files.certificates.iter().any(|(_, one)| names::cover(&one.names, host));
        let domains = match &acme.domains {
            Some(domains) => domains.iter().cloned().collect(),
            None => self
                .files
                .hosts
                .iter()
                .filter(|host| names::is_public(host) && !covered(host))
                .cloned()
                .collect(),
        };
        Wanted { acme: Some(acme), domains }
    }
}

fn hosts(model: &Model) -> BTreeSet<String> {
    let routes = model.services.values().flat_map(|service| &service.routes);
    let exact = |route: &model::Route| match &route.host {
        Authority::Exact(host) => Some(host.clone()),
        Authority::Wildcard(_) | Authority::Any => None,
    };
    routes.filter_map(exact).collect()
}

fn read(
    listeners: &[model::Listener],
    settings: model::GatewayTls,
    hosts: BTreeSet<String>,
) -> Result<Prepared, Troubles> {
    let (mut certificates, mut vouching, mut troubles) = (Vec::new(), Vec::new(), Vec::new());
    for (index, files) in settings.certificates.iter().enumerate() {
        match Certificate::read(files) {
            Ok(certificate) => certificates.push((files.default, Arc::new(certificate))),
            Err(trouble) => {
                let which = if trouble.file == files.cert { "cert" } else { "key" };
                troubles.push(trouble.named_by(format!("gateway.tls.certificates[{index}].{which}")));
            }
        }
    }
    for (index, listener) in listeners.iter().enumerate() {
        match listener.client_ca.as_deref().map(terms::vouching).transpose() {
            Ok(who) => vouching.push(who),
            Err(trouble) => troubles.push(trouble.named_by(format!("gateway.listen[{index}].client_ca"))),
        }
    }
    if !troubles.is_empty() {
        return Err(Troubles(troubles));
    }
    Ok(Prepared { settings, hosts, certificates, vouching })
}

impl fmt::Display for Troubles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Troubles {}
