//! Administration over TCP: where, how it is protected, and who may ask.

use super::{
    World,
    gateway::{self, overlap},
    value,
};
use crate::{
    decode::{At, leaf::Text},
    model::{Admin, Gateway, Role, Secret, Token},
    problem::Draft,
    raw,
};

pub(super) fn check(
    raw: At<raw::Admin>,
    others: &Gateway,
    world: &World<'_>,
    problems: &mut Vec<Draft>,
) -> Option<Admin> {
    let place = raw.with(());
    let raw = raw.value;
    let Some(listen) = &raw.listen else {
        let draft = place.problem("administration without an address");
        problems.push(draft.allowed("listen = \"127.0.0.1:9902\", or no gateway.admin at all"));
        return None;
    };
    let address = gateway::address(listen, problems);
    let path = |text: &At<Text>| world.path(&text.value);
    let tls = match (&raw.cert, &raw.key) {
        (Some(cert), Some(key)) => Some((path(cert), path(key))),
        (None, None) => None,
        (Some(lone), None) | (None, Some(lone)) => {
            problems.push(lone.problem("a certificate needs its key").allowed("both cert and key"));
            None
        }
    };
    if let Some(address) = address
        && tls.is_none()
        && !address.ip().is_loopback()
    {
        let draft = listen.problem("tokens would cross the network in clear text");
        problems.push(draft.allowed("a loopback address, or cert and key"));
    }
    let taken = others.listen.iter().map(|listener| (listener.address, "gateway.listen"));
    let mut taken = taken.chain(others.metrics.map(|metrics| (metrics, "gateway.metrics")));
    if let Some((_, key)) = taken.find(|(other, _)| address.is_some_and(|address| overlap(address, *other))) {
        let draft = listen.problem(format!("this is where {key} is"));
        problems.push(draft.allowed("an address or port of its own"));
    }
    let tokens: Vec<Token> = match raw.tokens {
        Some(tokens) if !tokens.value.is_empty() => tokens_of(tokens.value, world, problems),
        Some(tokens) => {
            problems.push(tokens.problem("nobody may ask").allowed("one token or more"));
            Vec::new()
        }
        None => {
            let draft = place.problem("nobody may ask");
            problems
                .push(draft.allowed("tokens = [{ name = \"ops\", role = \"read\", token_file = \"...\" }]"));
            Vec::new()
        }
    };
    let names = value::of(raw.names, Vec::new());
    let names = names.into_iter().map(|name| name.value.to_ascii_lowercase()).collect();
    Some(Admin { listen: address?, tls, names, tokens })
}

fn tokens_of(raw: Vec<At<raw::Token>>, world: &World<'_>, problems: &mut Vec<Draft>) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    for entry in raw {
        let Some(token) = token(&entry, world, problems) else { continue };
        if tokens.iter().any(|other| other.name == token.name) {
            let draft = entry.problem("another token has this name").found(&token.name);
            problems.push(draft.allowed("each name once: the log says by it who did what"));
        }
        tokens.push(token);
    }
    tokens
}

fn token(entry: &At<raw::Token>, world: &World<'_>, problems: &mut Vec<Draft>) -> Option<Token> {
    let raw = &entry.value;
    let missing = |problems: &mut Vec<Draft>, what: &str, allowed: &str| {
        problems.push(entry.problem(format!("a token without {what}")).allowed(allowed));
    };
    let name = match &raw.name {
        Some(name) if !name.value.trim().is_empty() => Some(name.value.clone()),
        _ => {
            missing(problems, "a name", "who has it, as in name = \"ops\"");
            None
        }
    };
    let role: Option<Role> = match &raw.role {
        Some(role) => role
            .value
            .parse()
            .map_err(|allowed| problems.push(role.problem("not a role").allowed(allowed)))
            .ok(),
        None => {
            missing(problems, "a role", "read, operate or admin");
            None
        }
    };
    let secret = match (&raw.token, &raw.token_file) {
        (Some(hash), None) => sha256(hash, problems),
        (None, Some(file)) => Some(Secret::File(world.path(&file.value))),
        (_, _) => {
            missing(
                problems,
                "one of token and token_file",
                "token = \"sha256:...\" or token_file = \"ops.token\"",
            );
            None
        }
    };
    Some(Token { name: name?, role: role?, secret: secret? })
}

/// The hash. What was written is not shown: it may be the token itself.
fn sha256(text: &At<Text>, problems: &mut Vec<Draft>) -> Option<Secret> {
    let digits = text.value.strip_prefix("sha256:").filter(|digits| digits.len() == 64 && digits.is_ascii());
    let bytes: Option<Vec<u8>> = digits.and_then(|digits| {
        (0..64).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect()
    });
    let hash = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    if hash.is_none() {
        let draft = Draft::new(&text.key, &text.at, "not the hash of a token").secret();
        let help = "`printf %s \"$TOKEN\" | sha256sum` prints them";
        problems.push(draft.allowed("sha256: and 64 hexadecimal digits").help(help.to_owned()));
    }
    hash.map(Secret::Sha256)
}
