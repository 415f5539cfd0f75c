//! Passwords and tokens as a file may hold them: hashed. What is not a hash that we verify is told apart by what it looks
//! like, so that whoever wrote it learns what to write. Pure. Absent: verifying, which is the gateway's.

use std::{fmt, str::FromStr};

/// The command that makes a hash.
pub(crate) const MAKE: &str =
    "`tidegate hash` reads a password and prints its hash; `tidegate hash --sha256` does for tokens";

/// A bcrypt cost above this takes seconds for each request that is not remembered.
const DEAREST_BCRYPT: u32 = 16;

/// Argon2 parameters above these do the same: KiB of memory, passes, lanes.
const DEAREST_ARGON2: (u32, u32, u32) = (1 << 20, 64, 64);

/// A hashed password.
#[derive(Clone, PartialEq, Eq)]
pub enum PasswordHash {
    /// `$argon2id$...`, and `argon2i`, `argon2d`, as a whole.
    Argon2(String),
    /// `$2b$...`, `$2a$` and `$2y$`, as a whole.
    Bcrypt(String),
    /// `sha256:...`: for passwords that nobody can guess, as made by a machine.
    Sha256(TokenHash),
}

/// A hashed token: `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash(pub [u8; 32]);

/// Why a text is no hash that we verify. The text itself is never repeated: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAHash {
    /// It looks like the secret itself.
    #[error("not a hash, but plain text")]
    Plain,
    /// A way of hashing that is too weak, or not known.
    #[error("a hash of a kind that is not accepted: {0}")]
    Kind(&'static str),
    /// One that is known, but broken.
    #[error("not a whole {0} hash")]
    Broken(&'static str),
    /// One that takes too long to verify.
    #[error("a hash that takes seconds to verify")]
    Dear,
}

impl FromStr for TokenHash {
    type Err = NotAHash;
    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let Some(digits) = text.strip_prefix("sha256:") else {
            return Err(match text.parse::<PasswordHash>() {
                Ok(_) => NotAHash::Kind("tokens are compared by sha256"),
                Err(why) => why,
            });
        };
        let mut bytes = [0; 32];
        if digits.len() != 64 || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(NotAHash::Broken("sha256"));
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let pair = str::from_utf8(pair).map_err(|_| NotAHash::Broken("sha256"))?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotAHash::Broken("sha256"))?;
        }
        Ok(Self(bytes))
    }
}

impl FromStr for PasswordHash {
    type Err = NotAHash;
    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
        if starts(&["sha256:"]) {
            return text.parse().map(Self::Sha256);
        }
        if starts(&["$argon2"]) {
            return argon2(text).map(|()| Self::Argon2(text.to_owned()));
        }
        if starts(&["$2a$", "$2b$", "$2y$"]) {
            return bcrypt(text).map(|()| Self::Bcrypt(text.to_owned()));
        }
        Err(match text {
            _ if starts(&["$apr1$", "$1$"]) => NotAHash::Kind("MD5"),
            _ if starts(&["{SHA}", "{SSHA}"]) => NotAHash::Kind("SHA-1"),
            _ if starts(&["$5$", "$6$", "$y$", "$7$", "$scrypt$", "$pbkdf2", "$2x$", "$2$"]) => {
                NotAHash::Kind("argon2, bcrypt and sha256 are")
            }
            _ => NotAHash::Plain,
        })
    }
}

/// `$2b$12$` and 53 characters.
fn bcrypt(text: &str) -> Result<(), NotAHash> {
    const BROKEN: NotAHash = NotAHash::Broken("bcrypt");
    let (cost, rest) = text[4..].split_once('$').ok_or(BROKEN)?;
    let cost: u32 = cost.parse().ok().filter(|_| cost.len() == 2).ok_or(BROKEN)?;
    let known = |c: u8| c.is_ascii_alphanumeric() || c == b'.' || c == b'/';
    if !(4..=31).contains(&cost) || rest.len() != 53 || !rest.bytes().all(known) {
        return Err(BROKEN);
    }
    if cost > DEAREST_BCRYPT { Err(NotAHash::Dear) } else { Ok(()) }
}

/// `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`.
fn argon2(text: &str) -> Result<(), NotAHash> {
    const BROKEN: NotAHash = NotAHash::Broken("argon2");
    let parts: Vec<&str> = text.split('$').collect();
    let ["", kind, version, parameters, salt, hash] = parts[..] else { return Err(BROKEN) };
    let known = |c: u8| c.is_ascii_alphanumeric() || c == b'+' || c == b'/';
    let is_base64 = |part: &str| part.len() % 4 != 1 && part.bytes().all(known);
    let well = matches!(kind, "argon2id" | "argon2i" | "argon2d")
        && matches!(version, "v=19" | "v=16")
        && (11..=64).contains(&salt.len())
        && (22..=86).contains(&hash.len())
        && is_base64(salt)
        && is_base64(hash);
    let mut numbers = parameters.split(',').zip(["m=", "t=", "p="]).map(|(part, name)| {
        let digits = part.strip_prefix(name).filter(|digits| !digits.starts_with(['0', '+']))?;
        digits.parse::<u32>().ok()
    });
    let three = (numbers.next().flatten(), numbers.next().flatten(), numbers.next().flatten());
    let (Some(memory), Some(passes), Some(lanes)) = three else { return Err(BROKEN) };
    if !well || parameters.split(',').count() != 3 || u64::from(memory) < 8 * u64::from(lanes) {
        return Err(BROKEN);
    }
    let (most_memory, most_passes, most_lanes) = DEAREST_ARGON2;
    let dear = memory > most_memory || passes > most_passes || lanes > most_lanes;
    if dear { Err(NotAHash::Dear) } else { Ok(()) }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Argon2(_) => "PasswordHash(argon2)",
            Self::Bcrypt(_) => "PasswordHash(bcrypt)",
            Self::Sha256(_) => "PasswordHash(sha256)",
        })
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(sha256)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BCRYPT: &str = "L6Bc/AlTQHyd9liGgGEZyOFLPHNgyxeEPfgYfBCVxJ7JIlwxyVU3u";
    const ARGON2: &str = "$c29tZXNhbHRzb21l$c29tZWhhc2hzb21laGFzaA";

    fn check(text: &str, want: Result<&str, NotAHash>) {
        let got = text.parse::<PasswordHash>().map(|hash| format!("{hash:?}"));
        let want = want.map(|kind| format!("PasswordHash({kind})"));
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn hashes_are_told_from_what_is_none() {
        check(&format!("$2y$12${BCRYPT}"), Ok("bcrypt"));
        check(&format!("$2y$17${BCRYPT}"), Err(NotAHash::Dear));
        check(&format!("$2y$3${BCRYPT}"), Err(NotAHash::Broken("bcrypt")));
        check(&format!("$2b$12${BCRYPT}x"), Err(NotAHash::Broken("bcrypt")));
        check(&format!("$argon2id$v=19$m=19456,t=2,p=1{ARGON2}"), Ok("argon2"));
        check(&format!("$argon2id$v=19$m=99999999,t=2,p=1{ARGON2}"), Err(NotAHash::Dear));
        check(&format!("$argon2id$v=19$m=4,t=2,p=1{ARGON2}"), Err(NotAHash::Broken("argon2")));
        check(&format!("$argon2x$v=19$m=19456,t=2,p=1{ARGON2}"), Err(NotAHash::Broken("argon2")));
        check("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA", Err(NotAHash::Broken("argon2")));
        check(&format!("sha256:{}", "aB".repeat(32)), Ok("sha256"));
        check("sha256:abc", Err(NotAHash::Broken("sha256")));
        check("$apr1$x$y", Err(NotAHash::Kind("MD5")));
        check("{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs=", Err(NotAHash::Kind("SHA-1")));
        check("hunter2", Err(NotAHash::Plain));
        check("", Err(NotAHash::Plain));
    }

    #[test]
    fn tokens_are_sha256_only() {
        let token = |text: &str| text.parse::<TokenHash>();
        assert_eq!(token(&format!("sha256:{}", "0f".repeat(32))), Ok(TokenHash([15; 32])));
        assert_eq!(token(&format!("$2y$12${BCRYPT}")), Err(NotAHash::Kind("tokens are compared by sha256")));
        assert_eq!(token("t0ken"), Err(NotAHash::Plain));
    }
}
