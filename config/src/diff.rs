//! What differs between two models, in an order in which it can be applied: services come before the routes that lead
//! to them change, and go after. Called on reload; [`Change::NeedsRestart`] names what a running gateway cannot change.

use std::sync::Arc;

use crate::{
    model::{Admin, Gateway, Limits, Model, Service, Token},
    name::ServiceName,
    revision::same_revision,
};

/// One difference.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A service that was not there.
    Add(Arc<Service>),
    /// A service that changed.
    Update {
        /// As it is now.
        service: Arc<Service>,
        /// Whether its launch settings changed, which makes a new revision.
        launch: bool,
    },
    /// A service that is gone.
    Remove(ServiceName),
    /// Settings of the gateway that apply at once: certificates, trusted proxies, name servers, what clients are told, how it stops.
    Gateway,
    /// A setting that only the next start of the gateway takes up.
    NeedsRestart {
        /// Its key in the file.
        key: &'static str,
    },
}

/// What must be done to get from `old` to `new`: first additions, then updates, then removals, then the gateway.
#[must_use]
pub fn diff(old: &Model, new: &Model) -> Vec<Change> {
    let added = new.services.values().filter(|service| !old.services.contains_key(&service.name));
    let removed = old.services.keys().filter(|name| !new.services.contains_key(*name));
    let mut changes: Vec<Change> = added.map(|service| Change::Add(service.clone())).collect();
    changes.extend(new.services.values().filter_map(|service| update(old, service)));
    changes.extend(removed.map(|name| Change::Remove(name.clone())));
    changes.extend(live(&old.gateway, &new.gateway).then_some(Change::Gateway));
    changes.extend(restarts(old, new));
    changes
}

fn update(old: &Model, service: &Arc<Service>) -> Option<Change> {
    let before = old.services.get(&service.name).filter(|before| *before != service)?;
    Some(Change::Update { service: service.clone(), launch: !same_revision(&before.launch, &service.launch) })
}

fn live(old: &Gateway, new: &Gateway) -> bool {
    old.tls != new.tls
        || who_may_ask(old) != who_may_ask(new)
        || old.limits.requests != new.limits.requests
        || old.trusted_proxies != new.trusted_proxies
        || old.expose_errors != new.expose_errors
        || old.timing_headers != new.timing_headers
        || old.drain != new.drain
        || old.access_log != new.access_log
        || old.resolvers != new.resolvers
        || old.tracing != new.tracing
        || old.stop_replicas_on_exit != new.stop_replicas_on_exit
}

/// What of the admin table is looked at for each question.
fn who_may_ask(gateway: &Gateway) -> Option<(&[Token], &[String])> {
    gateway.admin.as_ref().map(|admin| (&*admin.tokens, &*admin.names))
}

fn restarts(old: &Model, new: &Model) -> impl Iterator<Item = Change> {
    let (a, b) = (&old.gateway, &new.gateway);
    [
        ("gateway.listen", a.listen != b.listen),
        ("gateway.metrics", a.metrics != b.metrics),
        ("gateway.admin", a.admin.as_ref().map(Admin::place) != b.admin.as_ref().map(Admin::place)),
        ("gateway.state", a.state != b.state),
        ("gateway.subnet", a.subnet != b.subnet),
        ("gateway.allow_metadata", a.allow_metadata != b.allow_metadata),
        ("gateway.internal_names", a.internal_names != b.internal_names),
        ("gateway.internal_address", a.internal_address != b.internal_address),
        ("gateway.limits", Limits { requests: b.limits.requests, ..a.limits } != b.limits),
        ("images", old.images != new.images),
        ("hosts", old.hosts != new.hosts),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(Change::NeedsRestart { key }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, parse};

    fn check(old: &str, new: &str, expected: &[&str]) {
        let model = |text: &str| parse(text, Format::Toml).expect("a valid configuration");
        let said = |change: &Change| match change {
            Change::Add(service) => format!("add {}", service.name),
            Change::Update { service, launch } => format!("update {} launch={launch}", service.name),
            Change::Remove(name) => format!("remove {name}"),
            Change::Gateway => "gateway".into(),
            Change::NeedsRestart { key } => format!("restart for {key}"),
        };
        let changes: Vec<_> = diff(&model(old), &model(new)).iter().map(said).collect();
        assert_eq!(changes, expected, "{old}\n->\n{new}");
    }

    #[test]
    fn changes_come_in_an_order_that_can_be_applied() {
        let two = "services.a.image = 'a'\nservices.b.image = 'b'";
        check(two, two, &[]);
        check(
            two,
            "services.b.image = 'b2'\nservices.c.image = 'c'",
            &["add c", "update b launch=true", "remove a"],
        );
        check(two, &format!("{two}\nservices.b.scaling.max = 3"), &["update b launch=false"]);
        check(two, &format!("{two}\nservices.b.env.A = '1'"), &["update b launch=true"]);
        for live in [
            "update = 'recreate'",
            "rollout.keep = 3",
            "sleep.frozen = '10m'",
            "wake.ignore.monitors = false",
        ] {
            check(two, &format!("{two}\nservices.b.{live}"), &["update b launch=false"]);
        }
        let volume = |shared: &str| {
            format!("[services.a]\nimage = 'a'\nvolumes = [{{ source = 'a', target = '/a'{shared} }}]")
        };
        check(&volume(""), &volume(", shared = true"), &["update a launch=false"]);
        check(&volume(""), &volume(", read_only = true"), &["update a launch=true"]);
        check(two, &format!("{two}\nservices.b.routes = [{{ path = '/' }}]"), &["update b launch=false"]);
    }

    #[test]
    fn the_logs_of_requests_change_at_once() {
        check("", "[gateway.access_log]", &["gateway"]);
        check("[gateway.access_log]", "gateway.access_log.to = 'stderr'", &["gateway"]);
        check("", "[gateway.tracing]", &["gateway"]);
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        check(
            "",
            "gateway.allow_metadata = true\nimages.keep_unused = '1d'",
            &["restart for gateway.allow_metadata", "restart for images"],
        );
        check(
            "",
            "[gateway]\nlisten = '127.0.0.1:1'\nsubnet = '10.1.0.0/16'",
            &["restart for gateway.listen", "restart for gateway.subnet"],
        );
        check(
            "",
            "gateway = { internal_names = false, internal_address = '10.0.0.1' }",
            &["restart for gateway.internal_names", "restart for gateway.internal_address"],
        );
        check("", "gateway.limits.body_bytes = '1MiB'", &["gateway"]);
        check("", "gateway.limits.idle_timeout = '1s'", &["restart for gateway.limits"]);
        check("", "gateway.tls.hsts = '1d'", &["gateway"]);
        check(
            "",
            "gateway.expose_errors = true\nhosts = [{ name = 'x' }]",
            &["gateway", "restart for hosts"],
        );
    }
}
