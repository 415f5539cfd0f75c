//! Image references, checked as far as spelling goes: what does not exist is the engine's to say, but for files and folders.

use std::path::Path;

use super::World;
use crate::{
    decode::{At, leaf::Text},
    problem::Draft,
};

const ALLOWED: &str =
    "an image reference, as in \"nginx:1.27\", or oci:DIR, oci-archive:FILE or docker-archive:FILE";

/// What an image in a file or folder starts with, and what has to be in the folder.
const LOCAL: [(&str, Option<&str>); 3] =
    [("docker-archive:", None), ("oci-archive:", None), ("oci:", Some("index.json"))];

/// Whether an image is in a file or folder.
pub(super) fn is_local(image: &str) -> bool {
    LOCAL.iter().any(|(kind, _)| image.starts_with(kind))
}

/// The image as the runner wants it: files and folders with an absolute path.
pub(super) fn check(image: &At<Text>, world: &World<'_>, problems: &mut Vec<Draft>) -> String {
    for (kind, inside) in LOCAL {
        if let Some(rest) = image.value.strip_prefix(kind) {
            let (path, which) = place(rest);
            let path = world.path(path);
            if let Some(message) = misspelt(rest, which).or_else(|| absent(world, &path, inside)) {
                let place = if inside.is_some() { "DIR or DIR:TAG" } else { "FILE or FILE:TAG" };
                let allowed = format!("{kind}{place}, relative to the folder of this configuration");
                problems.push(image.problem(message).allowed(allowed));
            }
            return format!("{kind}{}{which}", path.display());
        }
    }
    if let Some((message, help)) = fault(&image.value) {
        problems.push(image.problem(message).allowed(ALLOWED).help(help));
    }
    image.value.clone()
}

/// A path, and which of the images there: `:TAG`, `@sha256:DIGEST` or nothing. A path has no colon.
fn place(text: &str) -> (&str, &str) {
    text.split_at(text.rfind("@sha256:").or_else(|| text.find(':')).unwrap_or(text.len()))
}

/// What is wrong with how a place is written.
fn misspelt(text: &str, which: &str) -> Option<String> {
    if text.len() == which.len() {
        return Some("has no path".into());
    }
    if let Some(hex) = which.strip_prefix("@sha256:") {
        let good = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        return (!good).then(|| "its digest is not sha256: and 64 digits of 0-9 and a-f".into());
    }
    (which == ":").then(|| "its tag is not valid".into())
}

fn absent(world: &World<'_>, path: &Path, inside: Option<&str>) -> Option<String> {
    let shown = path.display();
    match inside {
        None if world.files.exists(path) => None,
        None => Some(format!("there is no file {shown}")),
        Some(name) if world.files.exists(&path.join(name)) => None,
        Some(name) => Some(format!("there is no OCI layout in {shown}: it has no {name}")),
    }
}

/// What is wrong with a reference, and what was probably meant.
fn fault(image: &str) -> Option<(&'static str, Option<String>)> {
    if image.is_empty() {
        return Some(("empty", None));
    }
    if image == crate::template::PLACEHOLDER {
        return Some(("still the placeholder of `tidegate init`", None));
    }
    let name = image.split('@').next().unwrap_or(image);
    let (name, tag) = match name.rfind(':').filter(|colon| !name[*colon..].contains('/')) {
        Some(colon) => (&name[..colon], Some(&name[colon + 1..])),
        None => (name, None),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if tag.is_some_and(|tag| tag.is_empty() || tag.len() > 128 || !tag.chars().all(word)) {
        return Some(("its tag is not valid", None));
    }
    let mut parts: Vec<&str> = name.split('/').collect();
    let registry = parts.len() > 1 && (parts[0].contains(['.', ':']) || parts[0] == "localhost");
    if registry {
        parts.remove(0);
    }
    if parts.iter().any(|part| part.is_empty() || !part.chars().all(word)) {
        return Some(("not an image reference", None));
    }
    if parts.iter().any(|part| part.contains(|c: char| c.is_ascii_uppercase())) {
        let help = format!("did you mean \"{}\"?", image.replace(name, &name.to_ascii_lowercase()));
        return Some(("an image's name has no capital letters", Some(help)));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{fault, misspelt, place};

    #[test]
    fn places() {
        for (text, path, which, good) in [
            ("dir", "dir", "", true),
            ("a/dir:1.0", "a/dir", ":1.0", true),
            ("file.tar:localhost:5000/x:1", "file.tar", ":localhost:5000/x:1", true),
            ("dir:", "dir", ":", false),
            ("", "", "", false),
            (":1.0", "", ":1.0", false),
            ("dir@sha256:12", "dir", "@sha256:12", false),
            (
                &format!("dir@sha256:{}", "0a".repeat(32)),
                "dir",
                &format!("@sha256:{}", "0a".repeat(32)),
                true,
            ),
        ] {
            assert_eq!(place(text), (path, which), "{text}");
            assert_eq!(misspelt(text, which).is_none(), good, "{text}");
        }
    }

    #[test]
    fn references() {
        for good in [
            "nginx",
            "nginx:1.27",
            "localhost:5000/a/b:c",
            "ghcr.io/Org/x".to_lowercase().as_str(),
            "a@sha256:00",
        ] {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in ["", "a b", "a:", "a//b", "http://x", "Nginx", "a:b c", "/a"] {
            assert!(fault(bad).is_some(), "{bad}");
        }
    }
}
