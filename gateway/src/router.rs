//! Which service a request is for: host first (exact, then the longest wildcard, then any), then the longest path prefix.
//! Built from a model by the control loop and swapped whole. Absent: settings of services, IO.

use std::collections::HashMap;

use tidegate_config::{
    model::Route,
    name::{Authority, PathPrefix},
};

/// All routes, each with what it leads to.
#[derive(Debug)]
pub struct RouteTable<S> {
    exact: HashMap<String, Vec<Entry<S>>>,
    wildcard: HashMap<String, Vec<Entry<S>>>,
    any: Vec<Entry<S>>,
}

#[derive(Debug)]
struct Entry<S> {
    path: PathPrefix,
    strip: bool,
    service: S,
}

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'t, S> {
    /// Where it leads.
    pub service: &'t S,
    /// The prefix to be removed from its path, if the route says so.
    pub strip: Option<&'t PathPrefix>,
}

impl<S: Clone> RouteTable<S> {
    /// A table of routes; of two equal ones the first wins (`check` refuses those).
    pub fn new<'r>(routes: impl IntoIterator<Item = (&'r Route, S)>) -> Self {
        let mut table = Self { exact: HashMap::new(), wildcard: HashMap::new(), any: Vec::new() };
        for (route, service) in routes {
            let entry = Entry { path: route.path.clone(), strip: route.strip, service };
            match &route.host {
                Authority::Exact(host) => table.exact.entry(host.clone()).or_default().push(entry),
                Authority::Wildcard(suffix) => table.wildcard.entry(suffix.clone()).or_default().push(entry),
                Authority::Any => table.any.push(entry),
            }
        }
        let lists = table.exact.values_mut().chain(table.wildcard.values_mut());
        for list in lists.chain(std::iter::once(&mut table.any)) {
            list.sort_by_key(|entry| std::cmp::Reverse(entry.path.as_str().len()));
        }
        table
    }

    /// What a request for `host` (lower case, without port) and `path` (normalised) is for.
    #[must_use]
    pub fn find(&self, host: &str, path: &str) -> Option<Found<'_, S>> {
        let parents = memchr::memchr_iter(b'.', host.as_bytes()).map(|dot| &host[dot + 1..]);
        let lists = std::iter::once(self.exact.get(host))
            .chain(parents.map(|suffix| self.wildcard.get(suffix)))
            .flatten()
            .chain(std::iter::once(&self.any));
        lists.flatten().find(|entry| entry.path.strip(path).is_some()).map(|entry| Found {
            service: &entry.service,
            strip: (entry.strip && !entry.path.as_str().is_empty()).then_some(&entry.path),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(host: &str, path: &str, strip: bool) -> Route {
        Route { strip, ..Route::to(host.parse().expect("a host"), path.parse().expect("a path")) }
    }

    #[test]
    fn the_most_specific_route_wins() {
        let routes = [
            (route("a.org", "/", false), "a"),
            (route("a.org", "/v1", true), "a-v1"),
            (route("a.org", "/v1/users", false), "a-users"),
            (route("*.org", "/", false), "org"),
            (route("*.b.org", "/", false), "b"),
            (route("c.org", "/only", false), "c"),
            (route("*", "/any", false), "any"),
        ];
        let table = RouteTable::new(routes.iter().map(|(route, service)| (route, *service)));
        for (host, path, want) in [
            ("a.org", "/", Some("a")),
            ("a.org", "/v1", Some("a-v1")),
            ("a.org", "/v10", Some("a")),
            ("a.org", "/v1/users/7", Some("a-users")),
            ("x.org", "/", Some("org")),
            ("x.b.org", "/", Some("b")),
            ("x.y.b.org", "/", Some("b")),
            ("c.org", "/else", Some("org")),
            ("org", "/", None),
            ("org", "/any", Some("any")),
            ("", "/any/x", Some("any")),
        ] {
            assert_eq!(table.find(host, path).map(|found| *found.service), want, "{host}{path}");
        }
        let stripped = table.find("a.org", "/v1/x").and_then(|found| found.strip).map(ToString::to_string);
        assert_eq!(stripped.as_deref(), Some("/v1"));
    }
}
