//! The authority that issues certificates: whether it can be asked, for what, and whether proof can be shown.

use super::{World, edge::file_of, value};
use crate::{
    decode::{At, leaf::Text},
    model::{Acme, Challenge, LETS_ENCRYPT, Listener},
    name::Authority,
    problem::Draft,
    raw,
};

pub(super) fn check(
    given: At<raw::Acme>,
    listeners: &[Listener],
    world: &World<'_>,
    problems: &mut Vec<Draft>,
) -> Acme {
    if !listeners.iter().any(|listener| listener.tls) {
        let draft = given.problem("no listener speaks TLS, so nobody would see a certificate");
        problems.push(draft.allowed("a listener with tls = true"));
    }
    let challenge = challenge(&given, listeners, problems);
    let raw::Acme { email, directory, domains, challenge: _, ca, refused: _ } = given.value;
    if let Some(email) = email.as_ref().filter(|email| !is_email(&email.value)) {
        problems.push(email.problem("not an address of mail").allowed("NAME@HOST"));
    }
    if let Some(place) = directory.as_ref().filter(|place| !place.value.starts_with("https://")) {
        problems.push(place.problem("not where an authority could be").allowed("https://HOST/PATH"));
    }
    let domains = domains.map(|list| {
        let domains = list.value.into_iter().filter_map(|domain| name(&domain, problems));
        domains.collect::<Vec<_>>()
    });
    Acme {
        email: email.map(|email| email.value),
        directory: directory.map_or_else(|| LETS_ENCRYPT.to_owned(), |place| place.value),
        domains,
        challenge,
        ca: ca.and_then(|file| file_of(&file, world, problems)),
    }
}

/// Somebody must be there to be asked for proof.
fn challenge(given: &At<raw::Acme>, listeners: &[Listener], problems: &mut Vec<Draft>) -> Challenge {
    let challenge = value::of(given.value.challenge.clone(), Challenge::Http01);
    let plain = listeners.iter().any(|listener| !listener.tls);
    let known = !given.value.refused.contains(&"challenge");
    if challenge == Challenge::Http01 && known && !plain {
        let draft = match &given.value.challenge {
            Some(named) => named.problem("this is proved without TLS, and every listener speaks TLS"),
            None => given.problem("http-01 is proved without TLS, and every listener speaks TLS"),
        };
        problems.push(draft.allowed("another listener, for port 80; or challenge = \"tls-alpn-01\""));
    }
    challenge
}

fn is_email(text: &str) -> bool {
    let plain = !text.contains(char::is_whitespace) && !text.starts_with("mailto:");
    plain && text.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'))
}

fn name(text: &At<Text>, problems: &mut Vec<Draft>) -> Option<String> {
    match value::parsed::<Authority>(text, problems)? {
        Authority::Exact(host) => Some(host),
        Authority::Wildcard(_) | Authority::Any => {
            let draft = text.problem("wildcards cannot be proved by http-01 or tls-alpn-01");
            problems.push(draft.allowed("whole names, as in \"shop.example.org\""));
            None
        }
    }
}
