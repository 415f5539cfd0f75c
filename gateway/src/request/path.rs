//! One normalised path, matched *and* forwarded, so that router and backend never see different ones.
//! Dot segments and percent-encoded dots are resolved (RFC 3986, 5.2.4 and 6.2.2). Pure.

use std::borrow::Cow;

/// The path cannot be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bad {
    /// Has an encoded NUL.
    Nul,
    /// Does not start with a slash.
    NotAbsolute,
    /// Has dot segments that show only to a reader who takes more for a slash than we do.
    HiddenDots,
}

/// Resolves dot segments in `path`. Borrows where there is nothing to do, which is nearly always.
pub(crate) fn normalise(path: &str) -> Result<Cow<'_, str>, Bad> {
    if !path.starts_with('/') {
        return Err(Bad::NotAbsolute);
    }
    let encoded = path.contains('%');
    if !encoded && !path.contains("/.") {
        return Ok(Cow::Borrowed(path));
    }
    if encodes(path, "00") {
        return Err(Bad::Nul);
    }
    let decoded = if encoded { decode_dots(path) } else { Cow::Borrowed(path) };
    if !decoded.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Ok(decoded);
    }
    Ok(Cow::Owned(resolve(&decoded)))
}

/// Whether a backend may see a slash in `path` that we do not: a backslash, or an encoded slash or backslash.
pub(crate) fn hides_a_slash(path: &str) -> bool {
    path.contains('\\') || encodes(path, "2f") || encodes(path, "5c")
}

/// How backends may read a path besides as it is written. Guards hold for each of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Readings<'p> {
    /// As the most lenient does: escapes are decoded, backslashes are slashes, a segment ends at its parameters (`;v=1`), empty
    /// segments are none, and the query starts at whatever looks like it.
    pub(crate) lenient: Cow<'p, str>,
    /// As one that takes the target for a reference does: behind two slashes stands a host (RFC 3986, 4.2).
    pub(crate) behind_host: Option<String>,
}

/// The readings of a path.
pub(crate) fn readings(path: &str) -> Result<Readings<'_>, Bad> {
    if !path.contains(['%', '\\', ';']) && !path.contains("//") {
        return Ok(Readings { lenient: Cow::Borrowed(path), behind_host: None });
    }
    let decoded = decode(path).replace('\\', "/");
    // Dots count wherever they are: whoever decodes after looking for the query has them in the path.
    if segments(&decoded).any(is_dots) {
        return Err(Bad::HiddenDots);
    }
    let decoded = decoded.split(['?', '#']).next().unwrap_or_default();
    let mut read = String::with_capacity(decoded.len());
    for segment in segments(decoded).filter(|segment| !segment.is_empty()) {
        if is_dots(segment) {
            return Err(Bad::HiddenDots);
        }
        read.push('/');
        read.push_str(segment);
    }
    let behind_host = decoded.starts_with("//").then(|| {
        let behind = read.get(1..).and_then(|read| read.find('/')).map_or("/", |at| &read[at + 1..]);
        behind.to_owned()
    });
    Ok(Readings { lenient: Cow::Owned(if read.is_empty() { "/".to_owned() } else { read }), behind_host })
}

/// The segments of a path, without their parameters.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').map(|segment| segment.split(';').next().unwrap_or_default())
}

fn is_dots(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

/// Every escape decoded, once; what is no UTF-8 then matches no route of ours.
fn decode(path: &str) -> String {
    let bytes = path.as_bytes();
    let (mut plain, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let pair =
            bytes.get(at + 1..at + 3).filter(|_| *byte == b'%').and_then(|pair| str::from_utf8(pair).ok());
        let escaped =
            pair.filter(|pair| !pair.starts_with('+')).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        plain.push(escaped.unwrap_or(*byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn encodes(path: &str, hex: &str) -> bool {
    path.contains('%')
        && path.as_bytes().windows(3).any(|w| w[0] == b'%' && w[1..].eq_ignore_ascii_case(hex.as_bytes()))
}

fn decode_dots(path: &str) -> Cow<'_, str> {
    if path.contains("%2e") || path.contains("%2E") {
        Cow::Owned(path.replace("%2e", ".").replace("%2E", "."))
    } else {
        Cow::Borrowed(path)
    }
}

fn resolve(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path[1..].split('/').collect();
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        match *segment {
            "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
        // A dot segment at the end stands for a folder: its slash stays.
        if last && matches!(*segment, "." | "..") {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_are_resolved() {
        for (path, want) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/../../etc", "/etc"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a//b", "/a//b"),
            ("/%41%20", "/%41%20"),
            ("/...", "/..."),
        ] {
            assert_eq!(normalise(path).as_deref(), Ok(want), "{path}");
        }
    }

    #[test]
    fn what_a_backend_may_read_differently_is_refused() {
        for (path, hides) in
            [("/a%2fb", true), ("/a%5Cb", true), ("/a\\b", true), ("/a%20b", false), ("/a/b", false)]
        {
            assert_eq!(hides_a_slash(path), hides, "{path}");
        }
        assert_eq!(normalise("/a%00"), Err(Bad::Nul));
        assert_eq!(normalise("a"), Err(Bad::NotAbsolute));
    }

    #[test]
    fn the_most_lenient_reading_is_known() {
        for (path, want) in [
            ("/admin/x", Ok("/admin/x")),
            ("//admin", Ok("/admin")),
            ("/%61dmin", Ok("/admin")),
            ("/admin;v=1/x", Ok("/admin/x")),
            ("/;/admin", Ok("/admin")),
            ("/a%3bb/x", Ok("/a/x")),
            ("/%2fadmin", Ok("/admin")),
            ("/\\admin", Ok("/admin")),
            ("/%5cadmin%5c", Ok("/admin")),
            ("/admin%3fx", Ok("/admin")),
            ("/%", Ok("/%")),
            ("/%4", Ok("/%4")),
            ("/%+1", Ok("/%+1")),
            ("//", Ok("/")),
            ("/x/..%2fadmin", Err(Bad::HiddenDots)),
            ("/x/..;/admin", Err(Bad::HiddenDots)),
            ("/x/%2e%2e;a=b/admin", Err(Bad::HiddenDots)),
            ("/x%3f/..;/admin", Err(Bad::HiddenDots)),
            ("/x%23y/..;/..;/admin", Err(Bad::HiddenDots)),
            ("/x%3F/.%2e;a/admin", Err(Bad::HiddenDots)),
            ("/x/..;a%3fy/admin", Err(Bad::HiddenDots)),
            ("/x/..%3fy/admin", Err(Bad::HiddenDots)),
            ("/x%3f..;/admin", Ok("/x")),
        ] {
            assert_eq!(readings(path).as_ref().map(|read| &*read.lenient), want.as_ref().copied(), "{path}");
        }
    }

    #[test]
    fn two_slashes_may_stand_before_a_host() {
        for (path, want) in [
            ("/x/admin", None),
            ("/x//admin", None),
            ("//x/admin", Some("/admin")),
            ("///x@y:1/admin/", Some("/admin")),
            ("/%2fx/admin", Some("/admin")),
            ("/\\x\\admin", Some("/admin")),
            ("//x", Some("/")),
            ("//", Some("/")),
        ] {
            assert_eq!(readings(path).expect("readings").behind_host.as_deref(), want, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn normalising_twice_changes_nothing(path in "/[a-c./%2eE]{0,24}") {
            if let Ok(once) = normalise(&path) {
                let again = normalise(&once);
                proptest::prop_assert_eq!(again.as_deref(), Ok(&*once));
                proptest::prop_assert!(!once.split('/').any(|s| s == ".."));
            }
        }
    }
}
