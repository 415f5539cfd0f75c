//! One normalised path is matched and passed on, and the most specific route wins: compared with a search that looks at
//! every route.

use arbitrary::Arbitrary;
use tidegate_config::{
    model::Route,
    name::{Authority, PathPrefix},
};

use crate::tidegate::{path, router::RouteTable};

/// Routes of few different words, so that they meet, and a request.
#[derive(Debug, Arbitrary)]
pub struct Input {
    routes: Vec<(Host, Vec<Part>, bool)>,
    host: Vec<Part>,
    path: String,
    like: Vec<(Part, Dots)>,
}

#[derive(Debug, Arbitrary)]
enum Host {
    Exact(Vec<Part>),
    Wildcard(Vec<Part>),
    Any,
}

#[derive(Debug, Arbitrary, Clone, Copy)]
enum Part {
    A,
    B,
    C,
    Ab,
    Number(u8),
}

#[derive(Debug, Arbitrary, Clone, Copy)]
enum Dots {
    None,
    One,
    Two,
    Encoded,
    Half,
    Slash,
    Nul,
}

impl Part {
    fn text(self) -> String {
        match self {
            Self::A => "a".into(),
            Self::B => "b".into(),
            Self::C => "c".into(),
            Self::Ab => "ab".into(),
            Self::Number(number) => number.to_string(),
        }
    }
}

fn joined(parts: &[Part], by: &str) -> String {
    parts.iter().take(6).map(|part| part.text()).collect::<Vec<_>>().join(by)
}

/// Panics where a promise is broken.
pub fn look(input: &Input) {
    normal(&input.path);
    let written: String = input.like.iter().take(12).map(|(part, dots)| like(*part, *dots)).collect();
    let written = format!("/{written}");
    normal(&written);
    let Ok(path) = path::normalise(&written) else { return };
    let routes: Vec<(Route, usize)> = input.routes.iter().take(40).enumerate().filter_map(route).collect();
    let host = joined(&input.host, ".");
    let table = RouteTable::new(routes.iter().map(|(route, index)| (route, *index)));
    let best = routes
        .iter()
        .filter(|(route, _)| covers(&route.host, &host) && route.path.strip(&path).is_some())
        // Of two equal ones the first wins.
        .max_by_key(|(route, index)| (rank(&route.host), route.path.as_str().len(), usize::MAX - index));
    let found = table.find(&host, &path);
    assert_eq!(found.as_ref().map(|found| *found.service), best.map(|(_, index)| *index), "{host}{path}");
    if let Some(prefix) = found.and_then(|found| found.strip) {
        let rest = prefix.strip(&path).expect("a route that matches");
        assert!(rest.is_empty() || rest.starts_with('/'), "{rest}");
    }
}

/// What holds of any path.
fn normal(path: &str) {
    let Ok(once) = path::normalise(path) else { return };
    assert!(once.starts_with('/'), "{once}");
    assert!(!once.split('/').any(|segment| segment == "." || segment == ".."), "{path} became {once}");
    assert!(!once.to_ascii_lowercase().contains("%2e") || !path.contains('/'), "{path} became {once}");
    assert_eq!(path::normalise(&once).as_deref(), Ok(&*once), "{path}");
    if let Ok(read) = path::as_read(&once) {
        assert!(
            read.starts_with('/') && !read.contains("//") && !read.contains(['\\', ';']),
            "{once} is read as {read}"
        );
        assert!(
            !read.split('/').any(|segment| segment == "." || segment == ".."),
            "{once} is read as {read}"
        );
    }
    assert!(!path::hides_a_slash(&once) || path::hides_a_slash(path), "{path} became {once}");
}

fn like(part: Part, dots: Dots) -> String {
    let dots = match dots {
        Dots::None => return format!("{}/", part.text()),
        Dots::One => "./",
        Dots::Two => "../",
        Dots::Encoded => "%2e%2E/",
        Dots::Half => "%2e.",
        Dots::Slash => "%2f",
        Dots::Nul => "%00",
    };
    dots.to_owned()
}

fn route((index, (host, path, strip)): (usize, &(Host, Vec<Part>, bool))) -> Option<(Route, usize)> {
    let host = match host {
        Host::Exact(parts) => joined(parts, "."),
        Host::Wildcard(parts) => format!("*.{}", joined(parts, ".")),
        Host::Any => "*".into(),
    };
    let (host, path): (Authority, PathPrefix) =
        (host.parse().ok()?, format!("/{}", joined(path, "/")).parse().ok()?);
    Some((Route { strip: *strip, ..Route::to(host, path) }, index))
}

fn covers(route: &Authority, host: &str) -> bool {
    match route {
        Authority::Exact(exact) => exact == host,
        Authority::Wildcard(suffix) => {
            host.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('.'))
        }
        Authority::Any => true,
    }
}

/// Exact, then the longest wildcard, then any.
fn rank(route: &Authority) -> usize {
    match route {
        Authority::Exact(_) => usize::MAX,
        Authority::Wildcard(suffix) => suffix.len(),
        Authority::Any => 0,
    }
}
