//! The HTTP/1.1 corpus: what a client sends byte for byte, what the origin behind the gateway answers, and what either must see.
//! Cases are text (`tests/conformance/http1/cases`, which says how they are written); [`parse`] reads them, [`play`] sends
//! them, [`judge`] compares. Run by the suite `corpus` through a [`World`](crate::world::World), and by `make conformance`
//! through a gateway's process. Absent: any HTTP library, whose opinion would be another one than the wire's.

pub mod judge;
pub mod origin;
pub mod parse;
pub mod play;
pub mod wire;

use std::path::{Path, PathBuf};

/// One case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Case {
    /// What holds, in words.
    pub name: String,
    /// `file:line`.
    pub at: String,
    /// What the client does.
    pub client: Vec<Act>,
    /// What the origin does with each request; nothing: reads it all and answers 200.
    pub origin: Vec<Move>,
    /// The answers that the client must see.
    pub answers: Vec<Answer>,
    /// What becomes of the client's connection.
    pub end: Option<End>,
    /// The requests that the origin must see, in order, and no others.
    pub views: Vec<View>,
}

/// A step of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Sends bytes in one piece.
    Send(Vec<u8>),
    /// Reads an interim answer before it goes on.
    AwaitInterim,
    /// Reads an answer to its end before it goes on.
    AwaitAnswer,
    /// Waits until the origin has another head.
    AwaitOrigin,
    /// Says that nothing more will be sent.
    Finish,
    /// Closes the connection with a reset.
    Reset,
}

/// A step of the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// Goes on as soon as there is a head; without it or [`Move::Body`] a script begins with the latter.
    Head,
    /// Reads the request to its end.
    Body,
    /// Sends bytes.
    Send(Vec<u8>),
    /// Sends what arrives back, in chunks, as it arrives.
    Echo,
    /// Closes the connection as servers should: says that no more comes, and takes what still does.
    Close,
    /// Closes it at once; what has not been read becomes a reset.
    Drop,
    /// Closes it with a reset.
    Reset,
    /// Does nothing until the gateway gives up.
    Silent,
}

/// An answer as the client must see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its status code.
    pub status: u16,
    /// The reason in a refusal's problem document; `None`: not looked at.
    pub reason: Option<String>,
    /// It answers HEAD, so no body follows.
    pub head: bool,
    /// The status codes of the interim answers before it.
    pub interim: Vec<u16>,
    /// What must be in it.
    pub has: Vec<Trait>,
}

/// A request as the origin must see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Its method and target.
    pub line: String,
    /// What must be in it.
    pub has: Vec<Trait>,
}

/// Something that a message must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trait {
    /// A field, once, with this value.
    Field(String, String),
    /// No such field.
    NoField(String),
    /// This body.
    Body(Vec<u8>),
    /// A body of this length.
    Length(usize),
    /// A trailer field with this value.
    Trailer(String, String),
    /// It breaks off before its end.
    Cut,
    /// It may or may not.
    CutOrNot,
}

/// What becomes of the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It answers another request.
    Kept,
    /// The gateway closes it, and nothing follows the answers.
    Closed,
    /// Either of them.
    Either,
}

/// A message as it was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// `GET /x` of a request; the status code of a response.
    pub line: String,
    /// The status codes of interim answers before it.
    pub interim: Vec<u16>,
    /// Names in lower case, in order.
    pub fields: Vec<(String, String)>,
    /// Without its framing.
    pub body: Vec<u8>,
    /// Fields behind the body.
    pub trailers: Vec<(String, String)>,
    /// Whether it came to its end.
    pub whole: bool,
    /// Whether more of it may come.
    pub open: bool,
    /// How it breaks the rules that the gateway holds for what it sends.
    pub fault: Option<String>,
}

impl Message {
    /// All values of a field.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(key, _)| key == name).map(|(_, value)| &**value).collect()
    }
}

/// Where the cases are.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/http1/cases")
}

/// All cases, by file and in order.
///
/// # Errors
/// When one cannot be read; says where.
pub fn load() -> Result<Vec<Case>, String> {
    let listed = std::fs::read_dir(folder()).map_err(|error| format!("{}: {error}", folder().display()))?;
    let mut files: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|is| is == "case"));
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        cases.extend(parse::cases(&name, &text)?);
    }
    Ok(cases)
}

/// What the gateway in front of the origin is configured with, up to where the service is told.
pub const GATEWAY: &str = "
[gateway]
drain = \"1s\"

[gateway.limits]
header_timeout = \"1s\"
header_count = 64
header_bytes = \"32KiB\"

[services.api]
routes = [{ host = \"api.localhost\", path = \"/\" }]
";
