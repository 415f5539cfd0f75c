//! What is wrong with a configuration, said so that it can be put right without a manual: where, which key, what was
//! found and what is allowed. Collected by [`crate::decode`] and [`crate::check`] as drafts that know their origin, and
//! resolved once to lines and columns. Printed by `tidegate check`, by `up`, and by a reload that is refused.

use std::fmt;

use serde::Serialize;

use crate::tree::{Origin, Syntax};

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where it was written.
    pub place: Place,
    /// The setting's full key, as in `services.api.scaling.min`; empty for the whole file.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
    /// What was found there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// What is allowed there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
    /// What was probably meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The source line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<Excerpt>,
    /// Other places that have a part in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Also>,
}

/// A place in a file, or an environment variable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Place {
    /// The file as it was named, with line and column from 1.
    File {
        /// The file.
        file: String,
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// An environment variable.
    Variable {
        /// Its name.
        variable: String,
    },
    /// A whole file.
    Whole {
        /// The file.
        file: String,
    },
}

/// A source line and the part of it that is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Excerpt {
    /// The line, without what does not print.
    pub text: String,
    /// How many characters stand before the part.
    pub start: usize,
    /// How many characters the part has.
    pub width: usize,
}

/// Another place that has a part in a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Also {
    /// Where.
    pub place: Place,
    /// Which part it has.
    pub note: String,
}

/// A problem whose place is not resolved yet.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    at: Origin,
    key: String,
    message: String,
    found: Option<String>,
    allowed: Option<String>,
    help: Option<String>,
    also: Vec<(Origin, String)>,
    secret: bool,
}

/// A text and the name it is shown under.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'t> {
    /// As the user named the file.
    pub(crate) name: &'t str,
    /// What is in it.
    pub(crate) text: &'t str,
}

impl Problems {
    /// Every problem, in the order of the file; those of environment variables last.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.0
    }

    /// A problem with the file as a whole: it cannot be read.
    #[must_use]
    pub fn whole(file: &str, message: String, help: Option<String>) -> Self {
        let place = Place::Whole { file: file.to_owned() };
        let (found, allowed, excerpt, also) = (None, None, None, Vec::new());
        Self(vec![Problem { place, key: String::new(), message, found, allowed, help, excerpt, also }])
    }

    /// The text is not what its format says.
    pub(crate) fn syntax(error: Syntax, format: &str, source: Source<'_>) -> Self {
        let draft = Draft::new("", &Origin::File(error.at), format!("not valid {format}: {}", error.message));
        let draft = match error.also {
            Some((at, note)) => draft.also(&Origin::File(at), note),
            None => draft,
        };
        Self(vec![draft.resolve(source)])
    }

    /// `None` if there is nothing wrong.
    pub(crate) fn of(drafts: Vec<Draft>, source: Source<'_>) -> Option<Self> {
        let mut list: Vec<_> = drafts.into_iter().map(|draft| draft.resolve(source)).collect();
        list.sort_by(|a, b| a.place.cmp(&b.place).then_with(|| a.key.cmp(&b.key)));
        list.dedup();
        if list.is_empty() { None } else { Some(Self(list)) }
    }
}

impl Draft {
    pub(crate) fn new(key: impl Into<String>, at: &Origin, message: impl Into<String>) -> Self {
        let (key, message) = (key.into(), message.into());
        Self {
            at: at.clone(),
            key,
            message,
            found: None,
            allowed: None,
            help: None,
            also: Vec::new(),
            secret: false,
        }
    }

    pub(crate) fn found(mut self, found: impl Into<String>) -> Self {
        self.found = Some(found.into());
        self
    }

    pub(crate) fn allowed(mut self, allowed: impl Into<String>) -> Self {
        self.allowed = Some(allowed.into());
        self
    }

    /// What is allowed besides what is already said to be.
    pub(crate) fn allowed_too(self, more: &str) -> Self {
        let all =
            self.allowed.as_ref().map_or_else(|| more.to_owned(), |allowed| format!("{more} or {allowed}"));
        self.allowed(all)
    }

    /// Whether it is a problem with this key, and not with one below it.
    pub(crate) fn is_at(&self, key: &str) -> bool {
        self.key == key
    }

    pub(crate) fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into();
        self
    }

    pub(crate) fn also(mut self, at: &Origin, note: impl Into<String>) -> Self {
        self.also.push((at.clone(), note.into()));
        self
    }

    /// What stands there may be secret: its line is not shown.
    pub(crate) fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    fn resolve(self, source: Source<'_>) -> Problem {
        let also = self.also.into_iter().map(|(at, note)| Also { place: place(&at, source), note });
        Problem {
            place: place(&self.at, source),
            excerpt: excerpt(&self.at, source).filter(|_| !self.secret),
            key: self.key,
            message: self.message,
            found: self.found,
            allowed: self.allowed,
            help: self.help,
            also: also.collect(),
        }
    }
}

fn place(at: &Origin, source: Source<'_>) -> Place {
    match at {
        Origin::File(range) => {
            let (line, column) = position(source.text, range.start);
            Place::File { file: source.name.to_owned(), line, column }
        }
        Origin::Variable(name) => Place::Variable { variable: name.to_string() },
        Origin::Line(file, line) => Place::File { file: file.to_string(), line: *line, column: 1 },
    }
}

/// Line and column of a byte, both from 1; past the end: the end.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = &text[..floor(text, byte)];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}

/// The nearest character boundary at or before a byte.
fn floor(text: &str, byte: usize) -> usize {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    byte
}

/// The line around an origin. Env files have none: what stands there may be secret.
fn excerpt(at: &Origin, source: Source<'_>) -> Option<Excerpt> {
    let Origin::File(range) = at else { return None };
    let start = floor(source.text, range.start);
    let line_start = source.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line = source.text[line_start..].lines().next().unwrap_or("");
    let line_end = line_start + line.len();
    let end = floor(source.text, range.end).clamp(start, line_end.max(start));
    let before = source.text[line_start..start].chars().count();
    let width = source.text[start..end].trim_end().chars().count().max(1);
    Some(window(line, before, width))
}

/// Cuts a long line around the part that is meant, and replaces what does not print.
fn window(line: &str, start: usize, width: usize) -> Excerpt {
    const WIDEST: usize = 110;
    const BEFORE: usize = 40;
    let printable = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let long = line.chars().count() > WIDEST;
    let skip = if long { start.saturating_sub(BEFORE) } else { 0 };
    let shown = line.chars().skip(skip).take(WIDEST).map(printable).collect::<String>();
    let shown = shown.trim_end();
    let room = WIDEST.saturating_sub(start - skip).max(1);
    Excerpt { text: shown.to_owned(), start: start - skip, width: width.min(room) }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Variable { variable } => f.write_str(variable),
            Self::Whole { file } => f.write_str(file),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        writeln!(f, "{}", self.message)?;
        let number = match self.place {
            Place::File { line, .. } if self.excerpt.is_some() => line.to_string(),
            _ => String::new(),
        };
        let margin = " ".repeat(number.len());
        let found = self.found.as_ref().map(|found| format!("found {found}"));
        match &self.excerpt {
            Some(Excerpt { text, start, width }) => {
                writeln!(f, " {margin} |")?;
                writeln!(f, " {number} | {text}")?;
                let carets = format!("{}{}", " ".repeat(*start), "^".repeat(*width));
                writeln!(f, "{}", format!(" {margin} | {carets} {}", found.unwrap_or_default()).trim_end())?;
            }
            None => {
                if let Some(found) = found {
                    writeln!(f, " {margin} = {found}")?;
                }
            }
        }
        for Also { place, note } in &self.also {
            writeln!(f, " {margin} = {place}: {note}")?;
        }
        if let Some(allowed) = &self.allowed {
            writeln!(f, " {margin} = allowed: {allowed}")?;
        }
        if let Some(help) = &self.help {
            writeln!(f, " {margin} = help: {help}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        match self.0.len() {
            1 => f.write_str("1 problem"),
            n => write!(f, "{n} problems"),
        }
    }
}
