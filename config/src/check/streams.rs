//! TCP services: where their connections arrive, and that nobody else listens there.

use std::net::SocketAddr;

use super::{gateway, value};
use crate::{
    decode::{At, leaf::Text},
    model::Gateway,
    name::Authority,
    problem::Draft,
    raw,
    spec::Protocol,
    tree::Origin,
};

/// As many as can be handed over to the next gateway in one message, with room for its other listeners.
const MOST: usize = 200;

const SECURE: &str = "with a listener with tls = true in gateway.listen; or listen instead of sni";

/// The listeners and server names so far.
pub(super) struct Seen {
    /// Where somebody listens already, and who.
    taken: Vec<(SocketAddr, String, Option<Origin>)>,
    names: Vec<(Authority, String, Origin)>,
    /// Whether connections over TLS may arrive at the gateway's own listeners.
    secure: bool,
    count: usize,
}

impl Seen {
    /// `secure`: a listener speaks TLS, or was meant to.
    pub(super) fn new(gateway: &Gateway, secure: bool) -> Self {
        let own = |address: SocketAddr, key: &str| (address, key.to_owned(), None);
        let listen = gateway.listen.iter().map(|listener| own(listener.address, "gateway.listen"));
        let metrics = gateway.metrics.map(|metrics| own(metrics, "gateway.metrics"));
        let admin = gateway.admin.as_ref().map(|admin| own(admin.listen, "gateway.admin"));
        let taken = listen.chain(metrics).chain(admin).collect();
        Self { taken, names: Vec::new(), secure, count: 0 }
    }

    /// Where the connections of one service arrive: addresses, and names of connections over TLS.
    pub(super) fn check(
        &mut self,
        name: &At<String>,
        raw: &raw::Service,
        problems: &mut Vec<Draft>,
    ) -> (Vec<SocketAddr>, Vec<Authority>) {
        if raw.protocol.as_ref().is_none_or(|protocol| protocol.value != Protocol::Tcp) {
            refuse(&raw.listen, problems);
            refuse(&raw.sni, problems);
            refuse_upstream(raw.upstream.as_ref(), problems);
            return Default::default();
        }
        if let Some(routes) = &raw.routes {
            let draft = routes.problem("connections have no host or path to be routed by");
            problems.push(draft.allowed("listen or sni, with protocol = \"tcp\""));
        }
        if let Some(middleware) = &raw.middleware {
            let draft = middleware.problem("only for services that speak HTTP");
            problems.push(draft.allowed("nothing of it for connections"));
        }
        if let Some(balance) = raw.balance.as_ref().map(|balance| &balance.value) {
            over_http(&balance.affinity, problems);
            over_http(&balance.adaptive, problems);
            over_http(&balance.hedge, problems);
        }
        let listen: Vec<_> = raw.listen.iter().flat_map(|listen| &listen.value.0).collect();
        let sni: Vec<_> = raw.sni.iter().flat_map(|sni| &sni.value).collect();
        let said = |key| raw.refused.contains(&key);
        if listen.is_empty() && sni.is_empty() && !said("listen") && !said("sni") {
            let at = raw.protocol.as_ref().map_or(&name.at, |protocol| &protocol.at);
            let draft = Draft::new(&name.key, at, "nothing leads to it");
            problems.push(draft.allowed("listen = \"0.0.0.0:5432\", sni = [\"db.example.org\"] or both"));
        }
        if let Some(names) = raw.sni.as_ref().filter(|names| !names.value.is_empty() && !self.secure) {
            problems.push(names.problem("no listener speaks TLS: nobody calls these names").allowed(SECURE));
        }
        let listen = listen.into_iter().filter_map(|text| self.listen(name, text, problems)).collect();
        let sni = sni.into_iter().filter_map(|text| self.sni(name, text, problems)).collect();
        (listen, sni)
    }

    fn listen(
        &mut self,
        name: &At<String>,
        text: &At<Text>,
        problems: &mut Vec<Draft>,
    ) -> Option<SocketAddr> {
        let address = gateway::address(text, problems)?;
        let taken = self.taken.iter().find(|(taken, ..)| gateway::overlap(address, *taken));
        if let Some((taken, who, at)) = taken {
            let draft = text.problem(format!("{who} listens on {taken} already"));
            let draft = draft.allowed("each address and port once");
            problems.push(match at {
                Some(at) => draft.also(at, "the first is here"),
                None => draft,
            });
        }
        self.count += 1;
        if self.count > MOST {
            problems.push(text.problem("too many listeners").allowed(format!("{MOST} in a file")));
        }
        self.taken.push((address, format!("services.{}", name.value), Some(text.at.clone())));
        Some(address)
    }

    fn sni(&mut self, name: &At<String>, text: &At<Text>, problems: &mut Vec<Draft>) -> Option<Authority> {
        let authority = value::parsed::<Authority>(text, problems)?;
        if authority == Authority::Any {
            problems.push(text.problem("every connection over TLS").allowed("a server name, or a wildcard"));
        }
        if let Some((_, who, at)) = self.names.iter().find(|(taken, ..)| *taken == authority) {
            let draft = text.problem(format!("the server name {authority} is taken by services.{who}"));
            problems.push(draft.allowed("each server name once").also(at, "the first is here"));
        }
        self.names.push((authority.clone(), name.value.clone(), text.at.clone()));
        Some(authority)
    }
}

fn refuse<T>(key: &Option<At<T>>, problems: &mut Vec<Draft>) {
    if let Some(key) = key {
        let draft = key.problem("only for services that speak something else than HTTP");
        problems.push(draft.allowed("routes; or protocol = \"tcp\""));
    }
}

/// What of `upstream` is for connections only.
fn refuse_upstream(upstream: Option<&At<raw::Upstream>>, problems: &mut Vec<Draft>) {
    let Some(At { value: raw::Upstream { idle_timeout, proxy_protocol, .. }, .. }) = upstream else { return };
    let idle = idle_timeout.as_ref().map(|idle| idle.with(()));
    let proxied = proxy_protocol.as_ref().filter(|on| on.value).map(|on| on.with(()));
    for key in idle.into_iter().chain(proxied) {
        let draft = key.problem("only for services that speak something else than HTTP");
        problems.push(draft.allowed("with protocol = \"tcp\""));
    }
}

fn over_http<T>(key: &Option<At<T>>, problems: &mut Vec<Draft>) {
    if let Some(key) = key {
        let draft = key.problem("only for services that speak HTTP");
        problems.push(draft.allowed("slow_start, ejection and circuit for connections"));
    }
}
