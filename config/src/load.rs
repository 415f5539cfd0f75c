//! Reads a configuration: the file in its format, the environment over it, then [`crate::check`]. [`load`] is called by
//! every subcommand and on reload; [`parse`] takes text, for tests and tools. The only file of this crate that touches
//! the world, except for [`Disk`].

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    check,
    decode::Decode,
    env,
    files::{Disk, Files},
    merge,
    model::Model,
    problem::{Problems, Source},
    raw, tree,
};

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.toml`, and every file without an extension of the others.
    Toml,
    /// `.yaml` and `.yml`.
    Yaml,
    /// `.json`.
    Json,
}

impl Format {
    /// The format that a file's extension stands for.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
        match extension.to_ascii_lowercase().as_str() {
            "yaml" | "yml" => Self::Yaml,
            "json" => Self::Json,
            _ => Self::Toml,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Toml => "TOML",
            Self::Yaml => "YAML",
            Self::Json => "JSON",
        }
    }
}

/// Loads a file and the environment over it.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn load(path: &Path, env: impl IntoIterator<Item = (String, String)>) -> Result<Model, Problems> {
    let name = path.display().to_string();
    let text = Disk.read(path).map_err(|error| unreadable(&name, &error))?;
    let file = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let folder = file.parent().unwrap_or(Path::new("/"));
    read(Source { name: &name, text: &text }, Format::of(path), folder, env, &Disk)
}

/// Reads a text as a file `tidegate.FORMAT` in the current folder, without an environment.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn parse(text: &str, format: Format) -> Result<Model, Problems> {
    let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let name = format!("tidegate.{}", format.name().to_ascii_lowercase());
    read(Source { name: &name, text }, format, &folder, [], &Disk)
}

fn unreadable(name: &str, error: &io::Error) -> Problems {
    let help = (error.kind() == io::ErrorKind::NotFound)
        .then(|| "`tidegate init` writes one with comments; another path is given with --config".to_owned());
    Problems::whole(name, format!("cannot be read: {error}"), help)
}

fn read(
    source: Source<'_>,
    format: Format,
    folder: &Path,
    env: impl IntoIterator<Item = (String, String)>,
    files: &dyn Files,
) -> Result<Model, Problems> {
    // An editor's byte order mark is no part of the text.
    let source = Source { text: source.text.strip_prefix('\u{feff}').unwrap_or(source.text), ..source };
    let tree = match format {
        Format::Toml => tree::toml::read(source.text),
        Format::Yaml => tree::yaml::read(source.text),
        Format::Json => tree::yaml::read_json(source.text),
    };
    let tree = tree.map_err(|error| Problems::syntax(error, format.name(), source))?;
    let tree = merge::merge(tree, &env::overrides(env));
    let mut problems = Vec::new();
    let model = raw::File::decode(&tree, "", &mut problems)
        .map(|file| check::check(file, &check::World { folder, files }, &mut problems));
    match (model, Problems::of(problems, source)) {
        (Some(model), None) => Ok(model),
        (_, Some(problems)) => Err(problems),
        (None, None) => Err(Problems::whole(source.name, "is not a configuration".into(), None)),
    }
}
