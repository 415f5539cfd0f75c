//! `tidegate hash`: the hash of a password or token, for the configuration. Reads standard input, so that the secret stands
//! in no list of processes and no shell's history.

use std::{
    fmt::Write as _,
    io::{IsTerminal, Read},
    process::ExitCode,
};

use anyhow::{Context, ensure};
use argon2::{Argon2, PasswordHasher};
use clap::Args;
use sha2::{Digest, Sha256};

use super::output::print;

/// Longer secrets are mistakes: a file that was meant for something else.
const LONGEST: u64 = 4096;

#[derive(Debug, Args)]
pub(super) struct Hash {
    /// For tokens, and for passwords that nobody can guess: quick to verify, and no protection for short ones
    #[arg(long)]
    sha256: bool,
}

pub(super) fn run(args: &Hash) -> anyhow::Result<ExitCode> {
    if std::io::stdin().is_terminal() {
        eprintln!("type the secret and press Enter; it shows as you type, so better: tidegate hash < FILE");
    }
    let mut text = String::new();
    let input = std::io::stdin();
    let read = if input.is_terminal() {
        input.read_line(&mut text)
    } else {
        input.take(LONGEST + 1).read_to_string(&mut text)
    };
    let read = read.context("standard input is not text")?;
    ensure!(read as u64 <= LONGEST, "more than {LONGEST} bytes, which is no password");
    // What an editor or echo puts at a line's end is no part of it.
    let secret = text.strip_suffix('\n').unwrap_or(&text);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    ensure!(
        !secret.is_empty(),
        "nothing to hash: the secret is read from standard input, as in `tidegate hash < FILE`"
    );
    ensure!(!secret.contains('\n'), "several lines: one secret at a time");
    print(&format!("{}\n", if args.sha256 { sha256(secret) } else { argon2(secret)? }))?;
    Ok(ExitCode::SUCCESS)
}

fn sha256(secret: &str) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(secret.as_bytes()) {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
    }
    text
}

/// With a salt of its own and the library's parameters, which are those that OWASP asks for.
fn argon2(secret: &str) -> anyhow::Result<String> {
    let hash = Argon2::default().hash_password(secret.as_bytes());
    Ok(hash.map_err(|error| anyhow::anyhow!("cannot hash: {error}"))?.to_string())
}

#[cfg(test)]
mod tests {
    use tidegate_config::hashed::{PasswordHash, TokenHash};

    use super::*;

    #[test]
    fn what_it_makes_is_what_the_file_takes() {
        let argon2 = argon2("s3cret").expect("a hash");
        assert!(matches!(argon2.parse(), Ok(PasswordHash::Argon2(_))), "{argon2}");
        assert_ne!(argon2, self::argon2("s3cret").expect("a hash"), "each has a salt of its own");
        let sha256 = sha256("s3cret");
        assert_eq!(sha256, "sha256:1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0");
        assert!(sha256.parse::<TokenHash>().is_ok());
    }
}
