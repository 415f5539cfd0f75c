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
