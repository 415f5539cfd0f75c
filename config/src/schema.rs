//! The file's shape for editors and for people: a JSON Schema and docs/configuration.md, both from the table of keys in
//! [`crate::raw`]. Called by `tidegate schema`; a test holds the committed page to this.

use std::fmt::Write;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::raw;

/// The JSON Schema of a configuration, with defaults.
#[must_use]
pub fn json_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<raw::File>();
    schema.insert("title".into(), "Tidegate configuration".into());
    let mut schema = schema.to_value();
    require(&mut schema, "/properties/hosts/items", "name");
    require_one(&mut schema, "/properties/services/additionalProperties", ["image", "upstreams"]);
    schema
}

fn require(schema: &mut Value, pointer: &str, key: &str) {
    if let Some(Value::Object(table)) = schema.pointer_mut(pointer) {
        table.insert("required".into(), serde_json::json!([key]));
    }
}

/// Exactly one of the keys.
fn require_one(schema: &mut Value, pointer: &str, keys: [&str; 2]) {
    if let Some(Value::Object(table)) = schema.pointer_mut(pointer) {
        let each = keys.map(|key| serde_json::json!({ "required": [key] }));
        table.insert("oneOf".into(), serde_json::json!(each));
    }
}

const INTRODUCTION: &str = "# Configuration

Every key, what it means and its default. This page is generated from the code, as is `tidegate schema`.

- A file is TOML; or YAML or JSON if it is called `.yaml`, `.yml` or `.json`. `tidegate init` writes one to start from
  and `tidegate check` names everything that is wrong with one.
- Durations and sizes are text with a unit: `\"30s\"`, `\"500ms\"`, `\"64MiB\"`, `\"1GB\"`.
- Environment variables win over the file: `TIDEGATE_SERVICES__API__SCALING__MAX=3` sets `services.api.scaling.max`. Two
  underscores go one table down, and `_` in a service's name stands for `-`. Lists and tables are written as in TOML.
  `TIDEGATE_CONFIG`, `TIDEGATE_STATE`, `TIDEGATE_LOG` and `TIDEGATE_SOCKET` stand for command-line options instead.
- A change of what is run (image, command, environment, user, port, volumes, resources, profile) starts a new revision and moves
  requests to it. A change of scaling, routes, health, upstream, middleware, balance, update, rollout, sleep or wake restarts nothing.
  `tidegate plan` says what a changed file would do.
";

/// The text of docs/configuration.md.
#[must_use]
pub fn configuration_markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    describe(&json_schema(), &Heading::Root, &mut page);
    page
}

/// How a table is written in the file.
enum Heading {
    Root,
    /// `[path]`.
    Table(String),
    /// `[[path]]`: one per item.
    Each(String),
    /// Only ever inside a value of this key.
    Inline(String),
}

impl Heading {
    fn below(&self, key: &str) -> String {
        match self {
            Self::Root => key.to_owned(),
            Self::Table(path) | Self::Each(path) | Self::Inline(path) => format!("{path}.{key}"),
        }
    }
}

/// Writes one table and then the tables in it.
fn describe(schema: &Value, heading: &Heading, page: &mut String) {
    let Some(properties) = schema["properties"].as_object() else { return };
    if !matches!(heading, Heading::Root) {
        let title = match heading {
            Heading::Root => String::new(),
            Heading::Table(path) => format!("`[{path}]`"),
            Heading::Each(path) => format!("`[[{path}]]`"),
            Heading::Inline(path) => format!("`{path} = {{ ... }}`"),
        };
        line(page, &format!("\n## {title}\n\n{}\n", text(schema)));
        line(page, "| key | type | default | meaning |\n|---|---|---|---|");
        for (key, value) in properties.iter().filter(|(_, value)| table_in(value).is_none_or(|(_, own)| !own))
        {
            let default =
                value.get("default").map_or_else(String::new, |default| format!("`{}`", toml(default)));
            line(page, &format!("| `{key}` | {} | {default} | {} |", kind(value), text(value)));
        }
    }
    for (key, value) in properties {
        let Some((table, _)) = table_in(value) else { continue };
        let path = heading.below(key);
        let heading = match value["type"].as_str() {
            Some("array") if table.get("anyOf").is_some() => Heading::Inline(path),
            Some("array") => Heading::Each(path),
            Some(_) if value.get("properties").is_none() => Heading::Table(format!("{path}.NAME")),
            Some(_) => Heading::Table(path),
            None => Heading::Inline(path),
        };
        let mut table = table.clone();
        table["description"] = if matches!(heading, Heading::Inline(_)) {
            table["description"].take()
        } else {
            value["description"].clone()
        };
        describe(&table, &heading, page);
    }
}

/// The table that a value is or holds, and whether it stands under a heading of its own only.
fn table_in(value: &Value) -> Option<(&Value, bool)> {
    // One with a title is described elsewhere.
    let has = |value: &&Value| value.get("properties").is_some() && value.get("title").is_none();
    let choices = |value: &'_ Value| value["anyOf"].as_array().is_some();
    let direct = [value, &value["additionalProperties"], &value["items"]]
        .into_iter()
        .find(has)
        .map(|table| (table, true));
    direct.or_else(|| {
        [value, &value["items"], &value["additionalProperties"]]
            .into_iter()
            .filter(|value| choices(value))
            .flat_map(|value| value["anyOf"].as_array().into_iter().flatten())
            .find(has)
            .map(|table| (table, false))
    })
}

fn text(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or("")
}

/// A type in words.
fn kind(schema: &Value) -> String {
    if let Some(title) = schema["title"].as_str() {
        return title.to_owned();
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ");
    }
    match schema["type"].as_str() {
        Some("string") => "text".into(),
        Some("boolean") => "true or false".into(),
        Some("integer") => "whole number".into(),
        Some("number") => "number".into(),
        Some("array") => format!("list of {}", kind(&schema["items"])),
        Some("object") => format!("table of {}", kind(&schema["additionalProperties"])),
        _ => "table".into(),
    }
}

/// A default as TOML writes it.
fn toml(default: &Value) -> String {
    match default {
        Value::Object(table) if table.is_empty() => "{}".into(),
        other => other.to_string(),
    }
}

fn line(page: &mut String, text: &str) {
    writeln!(page, "{text}").expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_configuration_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let page = configuration_markdown();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &page).expect("docs/configuration.md can be written");
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        let advice = "docs/configuration.md is out of date: UPDATE=1 cargo test -p tidegate-config docs";
        assert!(committed == page, "{advice}");
    }

    #[test]
    fn the_schema_has_defaults_and_refuses_unknown_keys() {
        let schema = json_schema();
        let service = &schema["properties"]["services"]["additionalProperties"];
        assert_eq!(schema["properties"]["gateway"]["properties"]["listen"]["default"], "0.0.0.0:8080");
        assert_eq!(service["properties"]["scaling"]["properties"]["target"]["default"], 0.7);
        assert_eq!(service["properties"]["resources"]["properties"]["memory"]["default"], "512MiB");
        assert_eq!(
            (&service["additionalProperties"], &service["oneOf"][0]["required"][0]),
            (&false.into(), &"image".into())
        );
    }
}
