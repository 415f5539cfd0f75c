//! Finds the settings among the environment's variables: `TIDEGATE_SERVICES__API__SCALING__MAX` sets
//! `services.api.scaling.max`. Two underscores go one table down; `_` in a service's name stands for `-`; names below
//! `env` and `secrets` keep their case. Variables that the command line reads itself are no settings.

use std::sync::Arc;

const PREFIX: &str = "TIDEGATE_";

/// No setting is deeper; a longer name is an unknown key, not a deeper tree.
const DEEPEST: usize = 12;

/// Variables that stand for command-line options.
const OPTIONS: &[&str] = &["CONFIG", "STATE", "LOG", "SOCKET"];

/// A variable that sets something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Override {
    /// The variable's whole name.
    pub(crate) variable: Arc<str>,
    /// The setting's key, part by part.
    pub(crate) path: Vec<String>,
    /// The value as text; lists and tables as TOML writes them.
    pub(crate) text: String,
}

/// The settings among the variables, in the order of their names.
pub(crate) fn overrides(variables: impl IntoIterator<Item = (String, String)>) -> Vec<Override> {
    let mut found: Vec<_> = variables.into_iter().filter_map(|(name, text)| setting(&name, text)).collect();
    found.sort_by(|a, b| a.variable.cmp(&b.variable));
    found
}

fn setting(name: &str, text: String) -> Option<Override> {
    let rest = name.strip_prefix(PREFIX)?;
    if OPTIONS.contains(&rest) {
        return None;
    }
    let parts: Vec<&str> = rest.splitn(DEEPEST, "__").collect();
    let mut path: Vec<String> = parts.iter().map(|part| part.to_ascii_lowercase()).collect();
    if path[0] == "services" {
        if let Some(service) = path.get_mut(1) {
            *service = service.replace('_', "-");
        }
        if path.len() > 3 && (path[2] == "env" || path[2] == "secrets") {
            path.truncate(3);
            path.push(parts[3..].join("__"));
        }
    }
    Some(Override { variable: name.into(), path, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_name_settings() {
        let rows: &[(&str, Option<&str>)] = &[
            ("TIDEGATE_GATEWAY__LISTEN", Some("gateway listen")),
            ("TIDEGATE_SERVICES__MY_API__SCALING__MAX", Some("services my-api scaling max")),
            ("TIDEGATE_SERVICES__API__ENV__My__Name", Some("services api env My__Name")),
            ("TIDEGATE_HOSTS", Some("hosts")),
            ("TIDEGATE_LISTEN", Some("listen")),
            ("TIDEGATE_CONFIG", None),
            ("TIDEGATE_STATE", None),
            ("TIDEGATE_LOG", None),
            ("TIDEGATE_SOCKET", None),
            ("PATH", None),
        ];
        for (name, path) in rows {
            let found = setting(name, String::new()).map(|setting| setting.path.join(" "));
            assert_eq!(found.as_deref(), *path, "{name}");
        }
    }
}
