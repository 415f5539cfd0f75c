//! Which configuration file is meant when none is named, and the environment that goes over it.

use std::path::{Path, PathBuf};

use super::output::Misuse;

/// Looked for in this order, in the current folder.
const NAMES: [&str; 4] = ["tidegate.toml", "tidegate.yaml", "tidegate.yml", "tidegate.json"];

/// The file that was named, or the one in the current folder.
///
/// # Errors
/// When none is named and there is none.
pub(super) fn config_file(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let file = named.map(Path::to_owned).or_else(|| find(Path::new("")));
    file.ok_or_else(|| {
        let folder = std::env::current_dir().unwrap_or_default();
        Misuse(format!(
            "there is no tidegate.toml (nor .yaml, .yml or .json) in {}; `tidegate init` writes one, or name another file",
            folder.display()
        ))
        .into()
    })
}

fn find(folder: &Path) -> Option<PathBuf> {
    NAMES.iter().map(|name| folder.join(name)).find(|file| file.exists())
}

/// The environment's variables; those that are not Unicode are none of ours.
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_comes_first() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(find(folder.path()), None);
        for name in ["tidegate.json", "tidegate.yml", "tidegate.yaml", "tidegate.toml"] {
            std::fs::write(folder.path().join(name), "").expect("a file");
            assert_eq!(find(folder.path()), Some(folder.path().join(name)));
        }
    }
}
