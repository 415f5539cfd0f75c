//! Reads YAML and JSON into a [`Node`]: for places, JSON is YAML. YAML 1.2's core schema, anchors, aliases and merge
//! keys (`<<`) are understood. Bounded: aliases are copies, so nodes are counted, and nesting has a limit.

use std::{collections::HashMap, ops::Range};

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::{Entry, Kind, Node, Origin, Syntax};

/// Far above any real file, far below what hurts.
const MAX_NODES: usize = 200_000;
const MAX_DEPTH: usize = 64;

/// Reads YAML.
pub(crate) fn read(text: &str) -> Result<Node, Syntax> {
    let mut reader = Reader { parser: Parser::new_from_str(text), text, anchors: HashMap::new(), nodes: 0 };
    let node = reader.document()?;
    reader.end()?;
    Ok(node)
}

/// Reads JSON: its own parser decides what is JSON, the YAML reader says where everything is.
pub(crate) fn read_json(text: &str) -> Result<Node, Syntax> {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => read(text),
        Err(error) => {
            let at = offset(text, error.line(), error.column());
            let said = error.to_string();
            let message = said.rsplit_once(" at line ").map_or(&*said, |(before, _)| before).to_owned();
            Err(Syntax { at: at..at + 1, message, also: None })
        }
    }
}

/// The byte at a line and (byte) column that both count from 1.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>();
    (start + column.saturating_sub(1)).min(text.len())
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    text: &'t str,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Range<usize>), Syntax> {
        loop {
            match self.parser.next() {
                Some(Ok((Event::StreamStart | Event::DocumentStart(..) | Event::Comment(..), _))) => {}
                Some(Ok((event, span))) => return Ok((event, self.range(&span))),
                Some(Err(error)) => return Err(self.scan_error(&error)),
                None => return Ok((Event::StreamEnd, self.text.len()..self.text.len())),
            }
        }
    }

    fn document(&mut self) -> Result<Node, Syntax> {
        match self.next()? {
            (Event::StreamEnd | Event::DocumentEnd, _) => {
                Ok(Node { kind: Kind::Table(Vec::new()), at: Origin::File(0..0) })
            }
            (event, at) => match self.node(event, at, 0)? {
                Node { kind: Kind::Null, at } => Ok(Node { kind: Kind::Table(Vec::new()), at }),
                node => Ok(node),
            },
        }
    }

    fn end(&mut self) -> Result<(), Syntax> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentEnd, _) => {}
                (_, at) => return Err(error(at, "a second document; a configuration is one document")),
            }
        }
    }

    fn node(&mut self, event: Event<'t>, at: Range<usize>, depth: usize) -> Result<Node, Syntax> {
        if depth > MAX_DEPTH {
            return Err(error(at, "nested too deeply"));
        }
        self.count(1, &at)?;
        if let Some(tag) = event.tag().filter(|tag| !means_something(tag)) {
            return Err(self.local_tag(at.start, tag));
        }
        let (kind, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (scalar(&text, style, tag.as_deref()), anchor),
            Event::SequenceStart(_, anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.table(depth)?, anchor),
            Event::Alias(id) => return self.alias(id, at),
            _ => return Err(error(at, "expected a value")),
        };
        let node = Node { kind, at: Origin::File(at) };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, at: Range<usize>) -> Result<Node, Syntax> {
        let Some(node) = self.anchors.get(&id) else {
            return Err(error(at, "an alias of something that contains it"));
        };
        let node = node.clone();
        self.count(size(&node), &at)?;
        Ok(node)
    }

    fn count(&mut self, more: usize, at: &Range<usize>) -> Result<(), Syntax> {
        self.nodes += more;
        if self.nodes > MAX_NODES { Err(error(at.clone(), "too many values")) } else { Ok(()) }
    }

    fn list(&mut self, depth: usize) -> Result<Kind, Syntax> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Kind::List(items)),
                (event, at) => items.push(self.node(event, at, depth + 1)?),
            }
        }
    }

    fn table(&mut self, depth: usize) -> Result<Kind, Syntax> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Vec<Entry> = Vec::new();
        loop {
            let (key, at) = match self.next()? {
                (Event::MappingEnd, _) => break,
                (Event::Scalar(key, ..), at) => (key.into_owned(), at),
                (_, at) => return Err(error(at, "a key must be plain text")),
            };
            let (event, value_at) = self.next()?;
            let mut value = self.node(event, value_at, depth + 1)?;
            if key == "<<" {
                merged.extend(merge_sources(value, &at)?);
                continue;
            }
            if matches!(value.kind, Kind::Table(_)) {
                value.at = Origin::File(at.clone());
            }
            if let Some(Entry { at: Origin::File(first), .. }) = entries.iter().find(|e| e.key == key) {
                let also = Some((first.clone(), "first here".to_owned()));
                return Err(Syntax { at, message: format!("the key `{key}` is written twice"), also });
            }
            entries.push(Entry { key, at: Origin::File(at), value });
        }
        for entry in merged {
            if !entries.iter().any(|own| own.key == entry.key) {
                entries.push(entry);
            }
        }
        Ok(Kind::Table(entries))
    }

    fn range(&self, span: &Span) -> Range<usize> {
        let whole = self.text.len();
        let range = span.byte_range().unwrap_or(0..0);
        range.start.min(whole)..range.end.min(whole)
    }

    /// What begins with `!` is a tag where it has no quotes, and the value is what follows: nothing, most often.
    fn local_tag(&self, before: usize, tag: &Tag) -> Syntax {
        let written = format!("{}{}", tag.original_handle(), tag.suffix());
        let words = format!(
            "{written} is a tag in YAML, which means nothing here; as a value it needs quotes: \"{written}\""
        );
        let found = self.text.get(..before).and_then(|text| text.rfind(&written));
        error(found.map_or(before..before, |start| start..start + written.len()), &words)
    }

    fn scan_error(&self, error: &ScanError) -> Syntax {
        let at = error.marker().byte_offset().unwrap_or(self.text.len()).min(self.text.len());
        Syntax { at: at..at + 1, message: error.info(), also: None }
    }
}

fn error(at: Range<usize>, message: &str) -> Syntax {
    Syntax { at, message: message.to_owned(), also: None }
}

/// Whether a tag is one of YAML's own, or the lone `!` that makes text of what follows.
fn means_something(tag: &Tag) -> bool {
    tag.is_yaml_core_schema() || tag.suffix() == "!"
}

/// What `<<` brings in: a table, or a list of tables of which earlier ones win.
fn merge_sources(value: Node, at: &Range<usize>) -> Result<Vec<Entry>, Syntax> {
    match value.kind {
        Kind::Table(entries) => Ok(entries),
        Kind::List(items) => {
            let each = items.into_iter().map(|item| merge_sources(item, at));
            Ok(each.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        }
        _ => Err(error(at.clone(), "`<<` takes a table or a list of tables")),
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.kind {
        Kind::List(items) => items.iter().map(size).sum(),
        Kind::Table(entries) => entries.iter().map(|entry| size(&entry.value)).sum(),
        _ => 0,
    }
}

/// The core schema: only plain scalars are anything but text.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Kind {
    if style != ScalarStyle::Plain || tag.is_some() {
        return Kind::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
        _ => {}
    }
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'))
        && text.contains(|c: char| c.is_ascii_digit());
    if let (true, Ok(number)) = (numeric, text.parse::<i64>()) {
        return Kind::Int(number);
    }
    match text.parse::<f64>() {
        Ok(number) if numeric => Kind::Float(number),
        _ => Kind::Text(text.to_owned()),
    }
}
