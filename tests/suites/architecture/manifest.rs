//! What manifests say.

use std::{collections::BTreeSet, fs, path::Path};

use super::lines;

/// A manifest.
pub(crate) fn toml(file: &Path) -> toml_edit::DocumentMut {
    let text = fs::read_to_string(file).expect("a member has a Cargo.toml");
    text.parse().expect("Cargo reads it, so it parses")
}

/// All dependencies of a manifest, of whatever kind and target, with the line of each.
pub(crate) fn dependencies(file: &Path) -> Vec<(String, usize)> {
    let document = toml(file);
    let mut tables: Vec<&dyn toml_edit::TableLike> = vec![document.as_table()];
    let targets = document.get("target").and_then(|item| item.as_table_like());
    tables.extend(targets.into_iter().flat_map(|t| t.iter()).filter_map(|(_, item)| item.as_table_like()));
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let named =
        tables.iter().flat_map(|table| kinds.iter().filter_map(|kind| table.get(kind)?.as_table_like()));
    let names: BTreeSet<String> =
        named.flat_map(|table| table.iter()).map(|(name, _)| name.to_owned()).collect();
    let line_of =
        |name: &str| lines(file).find(|(_, line)| line.starts_with(name)).map_or(1, |(number, _)| number);
    names.into_iter().map(|name| (name.clone(), line_of(&name))).collect()
}
