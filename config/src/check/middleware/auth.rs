//! Users with passwords and holders of tokens. Holds: what stands where a hash should is never repeated.

use std::{collections::BTreeMap, fmt::Display, str::FromStr, sync::Arc};

use super::Layers;
use crate::{
    decode::{At, Named, leaf::Text},
    hashed::{self, NotAHash, TokenHash},
    model::{BasicAuth, BearerAuth},
    problem::Draft,
    raw,
    tree::Origin,
};

/// More are a data base, not a file; each request with a token is compared with all of them.
const MOST: usize = 10_000;

const PASSWORDS: &str = "\"$argon2id$...\", \"$2y$...\" (bcrypt), or \"sha256:\" and 64 hexadecimal digits";
const TOKENS: &str = "\"sha256:\" and 64 hexadecimal digits";
const NAME: &str = "1 to 128 printable ASCII characters other than ':', no space at either end";

pub(super) fn basic(
    raw: At<raw::BasicAuth>,
    of: &Layers<'_>,
    problems: &mut Vec<Draft>,
) -> Option<BasicAuth> {
    let sources = Sources { own: raw.value.users.as_ref(), file: raw.value.file.as_ref() };
    let users = all(&raw, sources, PASSWORDS, of, problems)?;
    let realm = raw.value.realm.as_ref();
    if let Some(realm) = realm.filter(|realm| !is_plain(&realm.value) || realm.value.contains(['"', '\\'])) {
        problems.push(
            realm.problem("not a realm").allowed("printable ASCII characters other than '\"' and '\\'"),
        );
    }
    let realm = realm.map_or_else(|| of.service.to_owned(), |realm| realm.value.clone());
    Some(BasicAuth { realm, users, forward: raw.value.forward.is_some_and(|forward| forward.value) })
}

pub(super) fn bearer(
    raw: At<raw::BearerAuth>,
    of: &Layers<'_>,
    problems: &mut Vec<Draft>,
) -> Option<BearerAuth> {
    let sources = Sources { own: raw.value.tokens.as_ref(), file: raw.value.file.as_ref() };
    let tokens = all::<_, TokenHash>(&raw, sources, TOKENS, of, problems)?;
    Some(BearerAuth { tokens, forward: raw.value.forward.is_some_and(|forward| forward.value) })
}

/// Where names and hashes stand.
struct Sources<'s> {
    own: Option<&'s At<Named<At<Text>>>>,
    file: Option<&'s At<Text>>,
}

/// A name and its hash, and where they stand.
struct Line<'l> {
    name: &'l str,
    hash: &'l str,
    key: &'l str,
    at: &'l Origin,
}

fn all<R, H: FromStr<Err = NotAHash>>(
    raw: &At<R>,
    Sources { own, file }: Sources<'_>,
    allowed: &str,
    of: &Layers<'_>,
    problems: &mut Vec<Draft>,
) -> Option<BTreeMap<String, H>> {
    let (before, mut known) = (problems.len(), BTreeMap::new());
    for (name, hash) in own.iter().flat_map(|own| &own.value.0) {
        let line = Line { name: &name.value, hash: &hash.value, key: &hash.key, at: &hash.at };
        take(&line, allowed, &mut known, problems);
    }
    let text = file.and_then(|file| read(file, of, problems));
    if let (Some(file), Some(text)) = (file, &text) {
        let shown: Arc<str> = file.value.as_str().into();
        for (index, line) in text.lines().enumerate() {
            let at = Origin::Line(Arc::clone(&shown), index + 1);
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once(':') {
                Some((name, hash)) => {
                    take(&Line { name, hash, key: &file.key, at: &at }, allowed, &mut known, problems);
                }
                None => problems.push(
                    Draft::new(&file.key, &at, "a line without ':'")
                        .allowed("NAME:HASH, an empty line, or # and a comment"),
                ),
            }
        }
    }
    if known.is_empty() && problems.len() == before {
        problems.push(raw.problem("nobody may come").allowed("names and hashes, here or in `file`"));
    }
    if known.len() > MOST {
        problems.push(raw.problem("too many names").allowed(format!("{MOST} at most")));
    }
    Some(known)
}

fn take<H: FromStr<Err = NotAHash>>(
    line: &Line<'_>,
    allowed: &str,
    known: &mut BTreeMap<String, H>,
    problems: &mut Vec<Draft>,
) {
    let draft = |message: &dyn Display| Draft::new(line.key, line.at, message.to_string()).secret();
    if !(1..=128).contains(&line.name.len()) || !is_plain(line.name) || line.name.contains(':') {
        problems.push(draft(&"not a name").allowed(NAME));
        return;
    }
    match line.hash.parse() {
        Ok(hash) => {
            if known.insert(line.name.to_owned(), hash).is_some() {
                problems.push(draft(&format!("{:?} is named twice", line.name)).allowed("each name once"));
            }
        }
        Err(why) => {
            problems.push(
                draft(&format!("{why} (of {:?})", line.name)).allowed(allowed).help(hashed::MAKE.to_owned()),
            );
        }
    }
}

fn is_plain(text: &str) -> bool {
    text.trim() == text && text.bytes().all(|c| (b' '..=b'~').contains(&c))
}

fn read(file: &At<Text>, of: &Layers<'_>, problems: &mut Vec<Draft>) -> Option<String> {
    let path = of.world.path(&file.value);
    match of.world.files.read(&path) {
        Ok(text) => Some(text),
        Err(error) => {
            let draft = file.problem(format!("{} cannot be read: {error}", path.display()));
            problems.push(draft.allowed("a readable file, relative to the folder of this configuration"));
            None
        }
    }
}
