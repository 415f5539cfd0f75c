//! Environment variables: the service's own, those of its env files, and those whose values are secret; and secrets as
//! files.

use std::collections::BTreeMap;

use super::{World, value};
use crate::{
    decode::{At, Named},
    problem::Draft,
    raw::{self, SecretFile},
    spec::Secret,
    tree::Origin,
};

type Env = BTreeMap<String, String>;
type Secrets = BTreeMap<String, Secret>;

const NAME: &str = "a name of letters, digits, '_', '.' and '-' that does not start with a digit";

const FILE_NAME: &str = "up to 128 letters, digits, '_', '.' and '-', the first not '.'";
const LONGEST_FILE_NAME: usize = 128;

pub(super) fn check(raw: &raw::Service, world: &World<'_>, problems: &mut Vec<Draft>) -> (Env, Secrets) {
    let mut env = Env::new();
    for file in raw.env_files.iter().flat_map(|files| &files.value) {
        env.extend(env_file(file, world, problems));
    }
    let own = value::of(raw.env.clone(), Named::default()).0;
    for (name, _) in &own {
        check_name(name, problems);
    }
    let secrets = secrets(raw, &own, world, problems);
    env.extend(own.into_iter().map(|(name, text)| (name.value, text.value.0)));
    (env, secrets)
}

fn check_name(name: &At<String>, problems: &mut Vec<Draft>) {
    if !is_name(&name.value) {
        problems.push(name.problem("not a variable's name").allowed(NAME));
    }
}

fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(inner)
}

fn secrets(
    raw: &raw::Service,
    own: &[(At<String>, At<crate::decode::leaf::Loose>)],
    world: &World<'_>,
    problems: &mut Vec<Draft>,
) -> Secrets {
    let mut secrets = Secrets::new();
    for (name, secret) in value::of(raw.secrets.clone(), Named::default()).0 {
        check_name(&name, problems);
        if let Some((other, _)) = own.iter().find(|(other, _)| other.value == name.value) {
            let draft =
                name.problem("is in `env` too").allowed("each variable in one of `env` and `secrets`");
            problems.push(draft.also(&other.at, "in `env`"));
        }
        secrets.extend(source(&secret, world, problems).map(|secret| (name.value, secret)));
    }
    secrets
}

/// Secrets as files: a name is a file's, directly below /run/secrets.
pub(super) fn secret_files(raw: &raw::Service, world: &World<'_>, problems: &mut Vec<Draft>) -> Secrets {
    let mut files = Secrets::new();
    for (name, secret) in value::of(raw.secret_files.clone(), Named::default()).0 {
        if !is_file_name(&name.value) {
            problems.push(name.problem("not a file's name").allowed(FILE_NAME));
        }
        files.extend(source(&secret, world, problems).map(|secret| (name.value, secret)));
    }
    files
}

fn is_file_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    (1..=LONGEST_FILE_NAME).contains(&name.len()) && !name.starts_with('.') && name.chars().all(inner)
}

/// Where a secret's value is.
pub(super) fn source(
    secret: &At<SecretFile>,
    world: &World<'_>,
    problems: &mut Vec<Draft>,
) -> Option<Secret> {
    let file = match &secret.value {
        SecretFile::Text(file) => Some(file.clone()),
        SecretFile::Table(table) => table.file.clone().map(|file| file.value),
    };
    let Some(file) = file.filter(|file| !file.is_empty()) else {
        problems.push(secret.problem("names no file").allowed("a file, as in \"token.txt\""));
        return None;
    };
    Some(Secret { file: world.path(&file) })
}

fn env_file(file: &At<String>, world: &World<'_>, problems: &mut Vec<Draft>) -> Env {
    let path = world.path(&file.value);
    let text = match world.files.read(&path) {
        Ok(text) => text,
        Err(error) => {
            let draft = file.problem(format!("{} cannot be read: {error}", path.display()));
            problems.push(draft.allowed("a readable file, relative to the folder of this configuration"));
            return Env::new();
        }
    };
    let mut env = Env::new();
    let shown: std::sync::Arc<str> = file.value.as_str().into();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = Origin::Line(shown.clone(), index + 1);
        match line.split_once('=') {
            Some((name, value)) if is_name(name) && !value.contains('\0') => {
                env.insert(name.to_owned(), value.to_owned());
            }
            // What stands after the name may be secret and is not repeated.
            Some(_) => problems.push(bad_line(file, &at, "not a variable's name before '='").allowed(NAME)),
            None => problems.push(
                bad_line(file, &at, "a line without '='")
                    .allowed("NAME=VALUE, an empty line, or # and a comment"),
            ),
        }
    }
    env
}

fn bad_line(file: &At<String>, at: &Origin, message: &str) -> Draft {
    Draft::new(&file.key, at, message).also(&file.at, "the file is named here")
}
