//! Image references, checked as far as spelling goes: what does not exist is the engine's to say.

use super::World;
use crate::{
    decode::{At, leaf::Text},
    problem::Draft,
};

const ARCHIVE: &str = "docker-archive:";

/// The image as the runner wants it: archives with an absolute path.
pub(super) fn check(image: &At<Text>, world: &World<'_>, problems: &mut Vec<Draft>) -> String {
    let Some(file) = image.value.strip_prefix(ARCHIVE) else {
        if let Some((message, help)) = fault(&image.value) {
            let draft = image
                .problem(message)
                .allowed("an image reference, as in \"nginx:1.27\", or docker-archive:FILE");
            problems.push(draft.help(help));
        }
        return image.value.clone();
    };
    let path = world.path(file);
    if file.is_empty() || !world.files.exists(&path) {
        let draft = image.problem(format!("there is no file {}", path.display()));
        problems.push(draft.allowed("docker-archive:FILE, relative to the folder of this configuration"));
    }
    format!("{ARCHIVE}{}", path.display())
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
    use super::fault;

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
