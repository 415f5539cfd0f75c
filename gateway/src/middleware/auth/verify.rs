//! Compares passwords with their hashes. Slow ones are computed on threads for that, few at a time, and what was good is
//! remembered for a short while. Holds: the workers never compute a slow hash; whoever waits is one of a bounded number.

use std::sync::{Arc, LazyLock};

use argon2::{Argon2, PasswordVerifier, password_hash::phc};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use tidegate_config::hashed::{PasswordHash, TokenHash};
use tokio::sync::Semaphore;

use super::known::{Digest, Known};
use crate::{clock, request::Refusal};

/// Slow hashes at once. Each takes a core, and argon2 its memory too.
const AT_ONCE: usize = 2;

/// Requests that may wait for that.
const WAITING: usize = 256;

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| Verifier {
    key: rand::random(),
    known: Mutex::default(),
    turns: Arc::new(Semaphore::new(AT_ONCE)),
    places: Arc::new(Semaphore::new(WAITING)),
});

struct Verifier {
    key: [u8; 32],
    known: Mutex<Known>,
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

/// Whether a token is the hashed one, in the same time whatever it is.
pub(crate) fn is_token(hash: &TokenHash, token: &[u8]) -> bool {
    Sha256::digest(token).as_slice().ct_eq(&hash.0).into()
}

/// Whether a password is the hashed one.
///
/// # Errors
/// When too many wait to be told already.
pub(crate) async fn is_password(hash: &PasswordHash, password: &[u8]) -> Result<bool, Refusal> {
    if let PasswordHash::Sha256(hash) = hash {
        return Ok(is_token(hash, password));
    }
    let verifier = &*VERIFIER;
    let digest = verifier.digest(hash, password);
    let knows = || verifier.known.lock().knows(&digest, clock::now());
    if knows() {
        return Ok(true);
    }
    let busy = || Refusal::RateLimited { again: clock::now() };
    let place = Arc::clone(&verifier.places).try_acquire_owned().map_err(|_| busy())?;
    let turn = Arc::clone(&verifier.turns).acquire_owned().await.map_err(|_| busy())?;
    // Somebody else with the same credentials may have had the turn before.
    if knows() {
        return Ok(true);
    }
    let (hash, password) = (hash.clone(), password.to_vec());
    // The turn is taken along: it ends with the work, also when the client leaves.
    let computed = tokio::task::spawn_blocking(move || {
        let good = matches(&hash, &password);
        drop((turn, place));
        good
    });
    let good = computed.await.unwrap_or(false);
    if good {
        verifier.known.lock().remember(digest, clock::now());
    }
    Ok(good)
}

impl Verifier {
    fn digest(&self, hash: &PasswordHash, password: &[u8]) -> Digest {
        let text = match hash {
            PasswordHash::Argon2(text) | PasswordHash::Bcrypt(text) => text.as_bytes(),
            PasswordHash::Sha256(hash) => &hash.0,
        };
        let mut digest = Sha256::new_with_prefix(self.key);
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text);
        digest.update(password);
        digest.finalize().into()
    }
}

fn matches(hash: &PasswordHash, password: &[u8]) -> bool {
    match hash {
        PasswordHash::Argon2(text) => phc::PasswordHash::new(text)
            .is_ok_and(|parsed| Argon2::default().verify_password(password, &parsed).is_ok()),
        PasswordHash::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
        PasswordHash::Sha256(hash) => is_token(hash, password),
    }
}

#[cfg(test)]
mod tests {
    use argon2::PasswordHasher;

    use super::*;

    #[tokio::test]
    async fn passwords_are_compared_with_their_hashes() {
        // Of the least cost there is.
        let cheap = argon2::Params::new(8, 1, 1, None).expect("parameters");
        let argon2 = Argon2::from(cheap).hash_password(b"s3cret").expect("a hash").to_string();
        for text in [
            "$2y$04$abcdefghijklmnopqrstuuLZYjhNQAOdpbzt4WxWlUHjv1wsyH5DG",
            &argon2,
            "sha256:1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0",
        ] {
            let hash: PasswordHash = text.parse().expect("a hash");
            for (password, want) in [("s3cret", true), ("s3cret", true), ("S3cret", false), ("", false)] {
                assert_eq!(is_password(&hash, password.as_bytes()).await, Ok(want), "{text} {password}");
            }
        }
    }
}
