//! A configuration as keys and values that remember where they were written: what every format is read into.
//! Made by [`toml`] and [`yaml`] (which also reads JSON) and by [`crate::merge`]; read by [`crate::decode`], which can
//! therefore report every mistake of a file and not only the first. Absent: what keys mean.

use std::{ops::Range, sync::Arc};

pub(crate) mod toml;
pub(crate) mod yaml;

/// Where a key or value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// In the file, at these bytes.
    File(Range<usize>),
    /// In this environment variable.
    Variable(Arc<str>),
    /// In another file that the file names (an env file), at this line.
    Line(Arc<str>, usize),
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// What was written.
    pub(crate) kind: Kind,
    /// Where. For a table with a header: the last key of that header.
    pub(crate) at: Origin,
}

/// A value of any format.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// YAML's and JSON's `null`.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Keys and values, each key once.
    Table(Vec<Entry>),
}

/// One key of a table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// The key as written.
    pub(crate) key: String,
    /// Where the key was written.
    pub(crate) at: Origin,
    /// Its value.
    pub(crate) value: Node,
}

/// Why a text is not TOML, YAML or JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Syntax {
    /// Where reading ended.
    pub(crate) at: Range<usize>,
    /// What the parser says.
    pub(crate) message: String,
    /// The other place that matters, as for a key that is written twice.
    pub(crate) also: Option<(Range<usize>, String)>,
}

impl Node {
    /// The value as a person would name it, as in `the number 5`.
    pub(crate) fn describe(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing (null)".into(),
            Kind::Bool(value) => value.to_string(),
            Kind::Int(value) => format!("the number {value}"),
            Kind::Float(value) => format!("the number {value}"),
            Kind::Text(text) => quoted(text),
            Kind::List(items) if items.is_empty() => "an empty list".into(),
            Kind::List(_) => "a list".into(),
            Kind::Table(_) => "a table".into(),
        }
    }

    /// The value of a key, if this is a table that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Table(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }
}

/// A text in quotes, escaped and cut to what fits on a line.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    if text.chars().count() <= SHOWN {
        return format!("{text:?}");
    }
    format!("{:?}...", text.chars().take(SHOWN).collect::<String>())
}
