//! Lays environment over file with figment, then gives every value its place back: figment knows which source a value
//! came from, the file's own tree knows where in the file. Called by [`crate::load`].

use std::collections::BTreeMap;

use figment::{
    Error, Figment, Metadata, Profile, Provider,
    value::{Dict, Empty, Map, Num, Tag, Value},
};

use crate::{
    env::Override,
    tree::{Entry, Kind, Node, Origin},
};

const FILE: &str = "file";

/// The file's tree with the overrides in it.
pub(crate) fn merge(file: Node, overrides: &[Override]) -> Node {
    if overrides.is_empty() || !matches!(file.kind, Kind::Table(_)) {
        return file;
    }
    let figment = overrides
        .iter()
        .fold(Figment::from(FileLayer(&file)), |figment, one| figment.merge(VariableLayer(one)));
    let layers = figment.data().ok().and_then(|mut profiles| profiles.remove(&Profile::Default));
    weave(&Value::Dict(Tag::Default, layers.unwrap_or_default()), Some(&file), &figment, &file.at)
}

struct FileLayer<'n>(&'n Node);

impl Provider for FileLayer<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(FILE)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(value(self.0).into_dict().unwrap_or_default()))
    }
}

struct VariableLayer<'o>(&'o Override);

impl Provider for VariableLayer<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.0.variable.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let leaf = Value::from(self.0.text.clone());
        let nested = self
            .0
            .path
            .iter()
            .rev()
            .fold(leaf, |inner, key| Value::from(BTreeMap::from([(key.clone(), inner)])));
        Ok(Profile::Default.collect(nested.into_dict().unwrap_or_default()))
    }
}

fn value(node: &Node) -> Value {
    match &node.kind {
        Kind::Null => Value::Empty(Tag::Default, Empty::None),
        Kind::Bool(truth) => Value::from(*truth),
        Kind::Int(number) => Value::Num(Tag::Default, Num::I64(*number)),
        Kind::Float(number) => Value::from(*number),
        Kind::Text(text) => Value::from(text.clone()),
        Kind::List(items) => Value::Array(Tag::Default, items.iter().map(value).collect()),
        Kind::Table(entries) => {
            Value::Dict(Tag::Default, entries.iter().map(|e| (e.key.clone(), value(&e.value))).collect())
        }
    }
}

/// `place` is what the file has at the same key; `near` is the place of what is in neither.
fn weave(value: &Value, place: Option<&Node>, figment: &Figment, near: &Origin) -> Node {
    let variable = figment.get_metadata(value.tag()).filter(|source| source.name != FILE);
    let at = match (variable, place, value) {
        (Some(variable), None, _) => Origin::Variable((*variable.name).into()),
        (Some(variable), _, scalar) if scalar.as_dict().is_none() => {
            Origin::Variable((*variable.name).into())
        }
        (_, Some(node), _) => node.at.clone(),
        (None, None, _) => near.clone(),
    };
    let kind = match value {
        Value::String(_, text) => Kind::Text(text.clone()),
        Value::Char(_, one) => Kind::Text(one.to_string()),
        Value::Bool(_, truth) => Kind::Bool(*truth),
        Value::Num(_, number) => match (number, number.to_i128()) {
            (Num::F64(number), _) => Kind::Float(*number),
            (_, Some(number)) => i64::try_from(number).map_or(Kind::Null, Kind::Int),
            (_, None) => Kind::Null,
        },
        Value::Empty(..) => Kind::Null,
        Value::Array(_, items) => {
            let beside = match place.map(|node| &node.kind) {
                Some(Kind::List(nodes)) => &nodes[..],
                _ => &[],
            };
            Kind::List(items.iter().enumerate().map(|(i, v)| weave(v, beside.get(i), figment, &at)).collect())
        }
        Value::Dict(_, dict) => Kind::Table(
            dict.iter()
                .map(|(key, held)| {
                    let entry = place.and_then(|node| node.get(key));
                    let value = weave(held, entry.map(|entry| &entry.value), figment, &at);
                    let at = entry.map_or_else(|| first_origin(&value), |entry| entry.at.clone());
                    Entry { key: key.clone(), at, value }
                })
                .collect(),
        ),
    };
    Node { kind, at }
}

/// The place of a key that only variables have: that of the first variable below it.
fn first_origin(node: &Node) -> Origin {
    match &node.kind {
        Kind::Table(entries) => entries.first().map_or_else(|| node.at.clone(), |e| first_origin(&e.value)),
        _ => node.at.clone(),
    }
}
