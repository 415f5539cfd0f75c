//! Who asks, and whether they may: the head of a question over TCP against the tokens of the file. Pure, but for the token
//! files that its caller reads. Holds: tokens are compared in constant time, all of them; who is not known learns nothing
//! but that; wrong tokens are slowed down by address.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{AUTHORIZATION, HOST, ORIGIN},
};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use tidegate_config::model::Role;

/// Wrong tokens that an address may try in a [`WINDOW`].
const TRIES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// Addresses that are remembered; beyond it, the one whose window began first is forgotten.
const ADDRESSES: usize = 4096;

/// Why a question is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denial {
    /// It was asked by a name that is not ours: a page whose own name leads here.
    Name,
    /// A page of another origin asked it.
    Origin,
    /// No token.
    Nobody,
    /// A token that nobody has.
    Stranger,
    /// Too many of those.
    TooMany,
    /// The token's role is not enough.
    Role(Role),
}

impl Denial {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Name | Self::Origin | Self::Role(_) => StatusCode::FORBIDDEN,
            Self::Nobody | Self::Stranger => StatusCode::UNAUTHORIZED,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    pub(super) fn words(self) -> String {
        match self {
            Self::Name => "asked by a name that is not in gateway.admin.names".into(),
            Self::Origin => "asked by a page of another origin".into(),
            Self::Nobody => "no token; send Authorization: Bearer TOKEN".into(),
            Self::Stranger => "nobody has this token".into(),
            Self::TooMany => "too many wrong tokens from this address; wait a minute".into(),
            Self::Role(role) => format!("this needs a token with the role {}", role.word()),
        }
    }
}

/// A token as it is known: who has it, for what, and its hash; `None` where its file cannot be read.
pub(super) type Known<'k> = (&'k str, Role, Option<[u8; 32]>);

/// Whether the head may come from a page that only pretends to be ours.
pub(super) fn check_place(fields: &HeaderMap, names: &[String]) -> Result<(), Denial> {
    let text = |name| fields.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
    let host = text(HOST).unwrap_or_default();
    let name = host_name(host).to_ascii_lowercase();
    if !super::tcp::is_local(host) && !names.contains(&name) {
        return Err(Denial::Name);
    }
    match text(ORIGIN) {
        Some(origin) if origin.split_once("://").map(|(_, origin)| origin) != Some(host) => {
            Err(Denial::Origin)
        }
        _ => Ok(()),
    }
}

fn host_name(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

/// Who has the token that came, and for what.
pub(super) fn identify<'k>(fields: &HeaderMap, known: &[Known<'k>]) -> Result<(&'k str, Role), Denial> {
    let token = bearer(fields).ok_or(Denial::Nobody)?;
    let hash: [u8; 32] = Sha256::digest(token).into();
    // One after the last: nobody. All are looked at, and the time that takes tells nothing of where it was found.
    let mut found = u32::MAX;
    for (index, (_, _, secret)) in (0_u32..).zip(known) {
        let same = secret.map_or(Choice::from(0), |secret| secret.ct_eq(&hash));
        found.conditional_assign(&index, same);
    }
    let found = usize::try_from(found).ok().and_then(|index| known.get(index));
    found.map(|(name, role, _)| (*name, *role)).ok_or(Denial::Stranger)
}

fn bearer(fields: &HeaderMap) -> Option<&[u8]> {
    let mut all = fields.get_all(AUTHORIZATION).iter();
    let (value, None) = (all.next()?.as_bytes(), all.next()) else { return None };
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

/// The hash of what stands in a token's file.
pub(super) fn hash_of_file(contents: &[u8]) -> Option<[u8; 32]> {
    let token = contents.trim_ascii();
    (!token.is_empty()).then(|| Sha256::digest(token).into())
}

/// Wrong tokens by address.
#[derive(Debug, Default)]
pub(super) struct Failures(HashMap<IpAddr, (Instant, u32)>);

impl Failures {
    /// Whether an address has tried too often by now.
    pub(super) fn too_many(&self, from: IpAddr, now: Instant) -> bool {
        let failed = self.0.get(&from);
        failed.is_some_and(|(since, tries)| now.saturating_duration_since(*since) < WINDOW && *tries >= TRIES)
    }

    /// An address has tried once more.
    pub(super) fn note(&mut self, from: IpAddr, now: Instant) {
        let old = |since: Instant| now.saturating_duration_since(since) >= WINDOW;
        if self.0.len() >= ADDRESSES && !self.0.contains_key(&from) {
            self.0.retain(|_, (since, _)| !old(*since));
            let first = self.0.iter().min_by_key(|(_, (since, _))| *since).map(|(address, _)| *address);
            if let Some(first) = first.filter(|_| self.0.len() >= ADDRESSES) {
                self.0.remove(&first);
            }
        }
        let entry = self.0.entry(from).or_insert((now, 0));
        if old(entry.0) {
            *entry = (now, 0);
        }
        entry.1 += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (http::HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        list.iter().map(pair).collect()
    }

    #[test]
    fn a_token_says_who_it_is() {
        let hash = |token: &str| Some(Sha256::digest(token).into());
        let known =
            [("a", Role::Read, hash("one")), ("b", Role::Admin, hash("two")), ("c", Role::Operate, None)];
        for (sent, want) in [
            ("Bearer one", Ok(("a", Role::Read))),
            ("bearer  two ", Ok(("b", Role::Admin))),
            ("Bearer three", Err(Denial::Stranger)),
            ("Bearer ", Err(Denial::Nobody)),
            ("Basic one", Err(Denial::Nobody)),
            ("Be", Err(Denial::Nobody)),
        ] {
            assert_eq!(identify(&fields(&[("authorization", sent)]), &known), want, "{sent}");
        }
        assert_eq!(identify(&HeaderMap::new(), &known), Err(Denial::Nobody));
        let mut twice = fields(&[("authorization", "Bearer one")]);
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer two"));
        assert_eq!(identify(&twice, &known), Err(Denial::Nobody), "which of them?");
        assert_eq!(hash_of_file(b" one\n"), hash("one"));
        assert_eq!(hash_of_file(b" \n"), None, "an empty file lets nobody in");
    }

    #[test]
    fn pages_of_others_are_kept_out() {
        let names = ["admin.example.org".to_owned()];
        for (host, origin, want) in [
            ("127.0.0.1:9902", None, Ok(())),
            ("localhost:9902", Some("http://localhost:9902"), Ok(())),
            ("Admin.example.org:9902", None, Ok(())),
            ("evil.example:9902", None, Err(Denial::Name)),
            ("", None, Err(Denial::Name)),
            ("127.0.0.1:9902", Some("http://evil.example"), Err(Denial::Origin)),
            ("127.0.0.1:9902", Some("null"), Err(Denial::Origin)),
        ] {
            let mut head = fields(&[("host", host)]);
            if let Some(origin) = origin {
                head.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            assert_eq!(check_place(&head, &names), want, "{host} {origin:?}");
        }
    }

    #[test]
    fn wrong_tokens_are_slowed_down_by_address() {
        let mut failures = Failures::default();
        let (from, now) = (IpAddr::from([192, 0, 2, 1]), crate::clock::now());
        for _ in 0..TRIES {
            assert!(!failures.too_many(from, now));
            failures.note(from, now);
        }
        assert!(failures.too_many(from, now));
        assert!(!failures.too_many(IpAddr::from([192, 0, 2, 2]), now), "others may");
        assert!(!failures.too_many(from, now + WINDOW), "and the same later");
        for address in 0..10_000_u32 {
            failures.note(IpAddr::from(address.to_be_bytes()), now);
        }
        assert!(failures.0.len() <= ADDRESSES);
    }
}
