//! Who may come: users with passwords and holders of tokens. Called by [`Chain`](super::Chain) before a request reaches the
//! gate. Holds: nothing is told apart by how long an answer takes, a name that is not known among them.

mod credentials;
mod known;
mod verify;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use tidegate_config::{
    hashed::PasswordHash,
    model::{BasicAuth, BearerAuth, Middleware},
};

use self::credentials::Credentials;
use crate::request::Refusal;

/// Who may come.
#[derive(Debug)]
pub(crate) struct Auth {
    basic: Option<BasicAuth>,
    bearer: Option<BearerAuth>,
    /// What those are told who may not.
    challenges: Arc<[HeaderValue]>,
}

impl Auth {
    /// From a route's settings; `None` if all may come.
    pub(crate) fn new(settings: &Middleware) -> Option<Self> {
        let (basic, bearer) = (settings.basic_auth.clone(), settings.bearer_auth.clone());
        let named = basic.as_ref().map(|basic| format!("Basic realm=\"{}\", charset=\"UTF-8\"", basic.realm));
        let challenges = named.into_iter().chain(bearer.as_ref().map(|_| "Bearer".to_owned()));
        let challenges: Arc<[_]> = challenges.filter_map(|text| HeaderValue::try_from(text).ok()).collect();
        (basic.is_some() || bearer.is_some()).then_some(Self { basic, bearer, challenges })
    }

    /// Who sends the request.
    ///
    /// # Errors
    /// When nobody does who may.
    pub(crate) async fn admit(&self, headers: &HeaderMap) -> Result<Admitted, Refusal> {
        let (name, forward) = match (credentials::parse(headers), &self.basic, &self.bearer) {
            (Some(Credentials::Basic { user, password }), Some(basic), _) => {
                (Box::pin(by_password(basic, user, &password)).await?, basic.forward)
            }
            (Some(Credentials::Bearer(token)), _, Some(bearer)) => {
                (by_token(bearer, token.as_bytes()), bearer.forward)
            }
            _ => (None, false),
        };
        let user = name.and_then(|name| HeaderValue::try_from(name).ok());
        let admitted = user.map(|user| Admitted { user, forward });
        admitted.ok_or_else(|| Refusal::Unauthorized { challenges: Arc::clone(&self.challenges) })
    }
}

/// Somebody who may come.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// The name.
    pub(crate) user: HeaderValue,
    /// Whether the service gets that by which it was known, too.
    pub(crate) forward: bool,
}

async fn by_password(basic: &BasicAuth, user: String, password: &[u8]) -> Result<Option<String>, Refusal> {
    if let Some(hash) = basic.users.get(&user) {
        return Ok(verify::is_password(hash, password).await?.then_some(user));
    }
    // As much work as for a name that is known.
    let slow = |hash: &&PasswordHash| !matches!(hash, PasswordHash::Sha256(_));
    let decoy = basic.users.values().find(slow).or_else(|| basic.users.values().next());
    if let Some(decoy) = decoy {
        verify::is_password(decoy, password).await?;
    }
    Ok(None)
}

/// Compares with all, so that it takes as long for the first as for none.
fn by_token(bearer: &BearerAuth, token: &[u8]) -> Option<String> {
    let mut found = None;
    for (name, hash) in &bearer.tokens {
        if verify::is_token(hash, token) {
            found = Some(name);
        }
    }
    found.cloned()
}
