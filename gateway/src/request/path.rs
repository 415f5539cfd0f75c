//! One normalised path, matched *and* forwarded, so that router and backend never see different ones.
//! Dot segments and percent-encoded dots are resolved (RFC 3986, 5.2.4 and 6.2.2). Pure.

use std::borrow::Cow;

/// The path cannot be passed on safely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bad {
    /// Has a backslash, or an encoded slash, backslash or NUL, and the service does not allow those.
    Encoded,
    /// Does not start with a slash.
    NotAbsolute,
}

/// Resolves dot segments in `path`. Borrows where there is nothing to do, which is nearly always.
pub(crate) fn normalise(path: &str, allow_encoded_slashes: bool) -> Result<Cow<'_, str>, Bad> {
    if !path.starts_with('/') {
        return Err(Bad::NotAbsolute);
    }
    let suspicious = path.bytes().any(|c| c == b'%' || c == b'\\');
    if !suspicious && !path.contains("/.") {
        return Ok(Cow::Borrowed(path));
    }
    if refuses(path, allow_encoded_slashes) {
        return Err(Bad::Encoded);
    }
    let decoded = if suspicious { decode_dots(path) } else { Cow::Borrowed(path) };
    if !decoded.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Ok(decoded);
    }
    Ok(Cow::Owned(resolve(&decoded)))
}

fn refuses(path: &str, allow_encoded_slashes: bool) -> bool {
    let encoded = |hex: &str| path.as_bytes().windows(3).any(|w| w[0] == b'%' && w[1..].eq_ignore_ascii_case(hex.as_bytes()));
    encoded("00") || (!allow_encoded_slashes && (path.contains('\\') || encoded("2f") || encoded("5c")))
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
            assert_eq!(normalise(path, false).as_deref(), Ok(want), "{path}");
        }
    }

    #[test]
    fn what_a_backend_may_read_differently_is_refused() {
        for path in ["/a%2fb", "/a%5Cb", "/a\\b"] {
            assert_eq!(normalise(path, false), Err(Bad::Encoded), "{path}");
            assert!(normalise(path, true).is_ok(), "{path}");
        }
        assert_eq!(normalise("/a%00", true), Err(Bad::Encoded));
        assert_eq!(normalise("a", false), Err(Bad::NotAbsolute));
    }

    proptest::proptest! {
        #[test]
        fn normalising_twice_changes_nothing(path in "/[a-c./%2eE]{0,24}") {
            if let Ok(once) = normalise(&path, true) {
                let again = normalise(&once, true);
                proptest::prop_assert_eq!(again.as_deref(), Ok(&*once));
                proptest::prop_assert!(!once.split('/').any(|s| s == ".."));
            }
        }
    }
}
