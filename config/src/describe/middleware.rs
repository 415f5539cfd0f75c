//! What is done with requests and responses, as keys and values. Hashes and the values of fields may be secret: they are
//! told apart and not told.

use super::{Settings, below, fingerprint, list, or_none, settings, time};
use crate::{
    hashed::{PasswordHash, TokenHash},
    model::{
        BasicAuth, BearerAuth, Compression, Cors, Edits, Hsts, Ip, Middleware, Mirror, PathRewrite, RateKey,
        RateLimit, Redirect, RequestId, Rewrite, Route, Which,
    },
};

/// Describes what is done on a service's routes: once, if it is the same on all of them.
pub(super) fn describe(routes: &[Route]) -> Settings {
    let Some(first) = routes.first() else { return Settings::new() };
    if routes.iter().all(|route| route.middleware == first.middleware) {
        return first
            .middleware
            .as_ref()
            .map_or_else(Settings::new, |middleware| below("middleware", whole(middleware)));
    }
    let own = |route: &Route| {
        let parent = format!("routes.{}{}.middleware", route.host, route.path);
        route.middleware.as_ref().map(|middleware| below(&parent, whole(middleware)))
    };
    routes.iter().filter_map(own).flatten().collect()
}

fn whole(middleware: &Middleware) -> Settings {
    let Middleware {
        request_id,
        ip,
        cors,
        redirect,
        rate_limit,
        basic_auth,
        bearer_auth,
        body_limit,
        rewrite,
        request_headers,
        response_headers,
        timeout,
        mirror,
        hsts,
        compression,
    } = middleware;
    let request_id = match request_id {
        RequestId::Off => None,
        RequestId::Make => Some("make"),
        RequestId::Keep => Some("keep"),
    };
    let single = [
        ("request_id", request_id.map(str::to_owned)),
        ("body_limit", body_limit.map(|size| size.to_string())),
        ("timeout", timeout.map(time)),
    ];
    let single = single.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    let tables = [
        ("ip", ip.as_ref().map(of_ip)),
        ("cors", cors.as_ref().map(of_cors)),
        ("redirect", redirect.as_ref().map(of_redirect)),
        ("rate_limit", rate_limit.as_ref().map(of_rate_limit)),
        ("basic_auth", basic_auth.as_ref().map(of_basic_auth)),
        ("bearer_auth", bearer_auth.as_ref().map(of_bearer_auth)),
        ("rewrite", rewrite.as_ref().map(of_rewrite)),
        ("request_headers", request_headers.as_ref().map(of_edits)),
        ("response_headers", response_headers.as_ref().map(of_edits)),
        ("mirror", mirror.as_ref().map(of_mirror)),
        ("hsts", of_hsts(*hsts)),
        ("compression", compression.as_ref().map(of_compression)),
    ];
    let tables = tables.into_iter().filter_map(|(key, table)| Some(below(key, table?))).flatten();
    single.chain(tables).collect()
}

fn of_ip(Ip { allow, deny }: &Ip) -> Settings {
    settings([("allow", list(allow)), ("deny", list(deny))])
}

fn which(which: &Which) -> String {
    match which {
        Which::Any => "any".to_owned(),
        Which::Of(words) => list(words),
    }
}

fn of_cors(cors: &Cors) -> Settings {
    let Cors { origins, methods, headers, expose, credentials, max_age } = cors;
    settings([
        ("origins", which(origins)),
        ("methods", which(methods)),
        ("headers", which(headers)),
        ("expose", list(expose)),
        ("credentials", credentials.to_string()),
        ("max_age", time(*max_age)),
    ])
}

fn of_redirect(Redirect { scheme, host, prefix, status }: &Redirect) -> Settings {
    settings([
        ("scheme", or_none(scheme.as_ref())),
        ("host", or_none(host.as_ref())),
        ("prefix", or_none(prefix.as_ref())),
        ("status", status.to_string()),
    ])
}

fn of_hsts(hsts: Hsts) -> Option<Settings> {
    match hsts {
        Hsts::Gateway => None,
        Hsts::Nothing => Some(settings([("max_age", "none".to_owned())])),
        Hsts::Only { max_age, subdomains } => {
            Some(settings([("max_age", time(max_age)), ("subdomains", subdomains.to_string())]))
        }
    }
}

fn of_rate_limit(RateLimit { rate, burst, by, keys }: &RateLimit) -> Settings {
    let by = match by {
        RateKey::Address => "address".to_owned(),
        RateKey::Header(name) => format!("header {name}"),
        RateKey::Route => "route".to_owned(),
    };
    settings([
        ("rate", rate.to_string()),
        ("burst", burst.to_string()),
        ("by", by),
        ("keys", keys.to_string()),
    ])
}

fn of_basic_auth(BasicAuth { realm, users, forward }: &BasicAuth) -> Settings {
    let text = |hash: &PasswordHash| match hash {
        PasswordHash::Argon2(text) | PasswordHash::Bcrypt(text) => fingerprint(text),
        PasswordHash::Sha256(hash) => token(hash),
    };
    let users = users.iter().map(|(name, hash)| (format!("users.{name}"), text(hash)));
    let rest = settings([("realm", realm.clone()), ("forward", forward.to_string())]);
    rest.into_iter().chain(users).collect()
}

fn of_bearer_auth(BearerAuth { tokens, forward }: &BearerAuth) -> Settings {
    let tokens = tokens.iter().map(|(name, hash)| (format!("tokens.{name}"), token(hash)));
    tokens.chain(settings([("forward", forward.to_string())])).collect()
}

fn token(hash: &TokenHash) -> String {
    fingerprint(&format!("{:?}", hash.0))
}

fn of_rewrite(Rewrite { path, host }: &Rewrite) -> Settings {
    let path = path.as_ref().map(|path| match path {
        PathRewrite::Add(prefix) => format!("{prefix} in front"),
        PathRewrite::Replace(prefix) => format!("{prefix} instead of the route's"),
        PathRewrite::Set(path) => path.clone(),
    });
    settings([("path", or_none(path)), ("host", or_none(host.as_ref()))])
}

fn of_edits(Edits { set, add, remove }: &Edits) -> Settings {
    let set = set.iter().map(|(name, value)| (format!("set.{name}"), fingerprint(value)));
    let add = add.iter().map(|(name, value)| (format!("add.{name}"), fingerprint(value)));
    set.chain(add).chain([("remove".to_owned(), list(remove))]).collect()
}

fn of_mirror(Mirror { service, share, wake, body, concurrency }: &Mirror) -> Settings {
    settings([
        ("service", service.to_string()),
        ("share", share.to_string()),
        ("wake", wake.to_string()),
        ("body", body.to_string()),
        ("concurrency", concurrency.to_string()),
    ])
}

fn of_compression(Compression { encodings, types, min_size }: &Compression) -> Settings {
    settings([
        ("encodings", list(encodings.iter().map(|encoding| encoding.name()))),
        ("types", list(types)),
        ("min_size", min_size.to_string()),
    ])
}
