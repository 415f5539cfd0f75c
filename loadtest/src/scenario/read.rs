//! Reads scenarios, and the files that they name, which stand beside them. `[IO]`

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;

use super::{Files, Form, Scenario};
use crate::plan::{self, recording::Options, trace::Profile};

/// Whether a name is that of a scenario, by its ending.
#[must_use]
pub fn form(path: &Path) -> Option<Form> {
    match path.extension()?.to_str()? {
        "toml" => Some(Form::Toml),
        "yaml" | "yml" | "json" => Some(Form::Yaml),
        _ => None,
    }
}

/// Reads a scenario; `to`, if given, takes the place of the scheme and host of every target.
pub fn scenario(path: &Path, to: Option<&str>) -> anyhow::Result<Scenario> {
    let shown = path.display();
    let form =
        form(path).with_context(|| format!("{shown}: expected a name that ends in .toml, .yaml or .json"))?;
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let mut beside = Beside(path.parent().unwrap_or(Path::new("")).to_path_buf());
    Scenario::parse(&text, form, to, &mut beside).with_context(|| format!("{shown}"))
}

struct Beside(PathBuf);

impl Files for Beside {
    fn body(&mut self, name: &str) -> Result<Vec<u8>, String> {
        let path = self.0.join(name);
        std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    }

    fn trace(&mut self, name: &str, options: &Options) -> Result<Arc<Profile>, String> {
        plan::read::trace(&self.0.join(name), options).map(Arc::new).map_err(|error| format!("{error:#}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_are_scenarios() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/scenarios");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&folder).expect("the examples") {
            let path = entry.expect("readable").path();
            let read = scenario(&path, None).unwrap_or_else(|error| panic!("{error:#}"));
            assert!(!read.promises.is_empty() && read.slo.is_some(), "{}", read.name);
            names.push(read.name);
        }
        names.sort();
        let five = ["burst from zero", "day and night", "deploy under load", "noisy neighbour", "slow start"];
        assert_eq!(names, five);
    }

    #[test]
    fn a_file_that_is_no_scenario_is_named() {
        for (path, part) in [("/nowhere.toml", "cannot read /nowhere.toml"), ("/x.txt", "expected a name")] {
            let error = format!("{:#}", scenario(Path::new(path), None).expect_err(path));
            assert!(error.contains(part), "{error}");
        }
    }
}
