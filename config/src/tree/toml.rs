//! Reads TOML into a [`Node`]. Also reads a lone TOML value, which is how lists and tables are written in environment
//! variables.

use std::ops::Range;

use toml_edit::{Document, Item, TableLike, TomlError, Value};

use super::{Entry, Kind, Node, Origin, Syntax};

/// Reads a whole file.
pub(crate) fn read(text: &str) -> Result<Node, Syntax> {
    let document = Document::parse(text).map_err(|error| syntax(&error, text))?;
    Ok(Node { kind: table(document.as_table(), &(0..0)), at: Origin::File(0..0) })
}

/// Reads the text of an environment variable as one value; everything in it gets the variable as its origin.
pub(crate) fn read_value(text: &str, at: &Origin) -> Option<Node> {
    let document = Document::parse(format!("value = {text}")).ok()?;
    let mut node = item(document.as_table().get("value")?, &(0..0));
    place_at(&mut node, at);
    Some(node)
}

fn place_at(node: &mut Node, at: &Origin) {
    node.at = at.clone();
    match &mut node.kind {
        Kind::List(items) => items.iter_mut().for_each(|item| place_at(item, at)),
        Kind::Table(entries) => {
            for entry in entries {
                entry.at = at.clone();
                place_at(&mut entry.value, at);
            }
        }
        Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Text(_) => {}
    }
}

fn syntax(error: &TomlError, text: &str) -> Syntax {
    let message = error.message().trim().replace('\n', ", ");
    Syntax { at: error.span().unwrap_or(text.len()..text.len()), message, also: None }
}

fn table(table: &dyn TableLike, near: &Range<usize>) -> Kind {
    let entry = |(key, value): (&str, &Item)| {
        let at = table.key(key).and_then(toml_edit::Key::span).unwrap_or_else(|| near.clone());
        Entry { key: key.to_owned(), value: item(value, &at), at: Origin::File(at) }
    };
    Kind::Table(table.iter().map(entry).collect())
}

/// `key` is where the item's key stands: the place of what has no text of its own, such as a table with a header.
fn item(item: &Item, key: &Range<usize>) -> Node {
    match item {
        Item::None => Node { kind: Kind::Null, at: Origin::File(key.clone()) },
        Item::Value(held) => value(held, key),
        Item::Table(held) => Node { kind: table(held, key), at: Origin::File(key.clone()) },
        Item::ArrayOfTables(tables) => {
            let one = |held: &toml_edit::Table| {
                let at = held.span().unwrap_or_else(|| key.clone());
                Node { kind: table(held, &at), at: Origin::File(at) }
            };
            Node { kind: Kind::List(tables.iter().map(one).collect()), at: Origin::File(key.clone()) }
        }
    }
}

fn value(value: &Value, key: &Range<usize>) -> Node {
    let at = value.span().unwrap_or_else(|| key.clone());
    let kind = match value {
        Value::String(text) => Kind::Text(text.value().clone()),
        Value::Integer(number) => Kind::Int(*number.value()),
        Value::Float(number) => Kind::Float(*number.value()),
        Value::Boolean(truth) => Kind::Bool(*truth.value()),
        // No setting is a date: as text it is refused with the setting's own words.
        Value::Datetime(date) => Kind::Text(date.value().to_string()),
        Value::Array(items) => Kind::List(items.iter().map(|item| self::value(item, &at)).collect()),
        Value::InlineTable(held) => table(held, &at),
    };
    Node { kind, at: Origin::File(at) }
}
