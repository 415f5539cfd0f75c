//! What must not be asked for again after a restart: the account's key, and each certificate with its key. Files of mode
//! 0600 below the state directory, replaced whole, a folder for each authority.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use instant_acme::AccountCredentials;

use crate::tls::Certificate;

const ACCOUNT: &str = "account.json";

/// The files of one authority.
#[derive(Debug, Clone)]
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    /// The files of the authority with this directory.
    pub(super) fn new(state: &Path, directory: &str) -> Self {
        let place = directory.trim_start_matches("https://").trim_end_matches('/');
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' };
        Self { folder: state.join("acme").join(place.chars().map(plain).collect::<String>()) }
    }

    /// The account, if there is one.
    pub(super) fn account(&self) -> io::Result<Option<AccountCredentials>> {
        match fs::read(self.folder.join(ACCOUNT)) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps the account.
    pub(super) fn keep_account(&self, account: &AccountCredentials) -> io::Result<()> {
        self.replace(ACCOUNT, &serde_json::to_vec(account).map_err(io::Error::other)?)
    }

    /// The certificate of a name, if there is one that makes sense.
    pub(super) fn certificate(&self, domain: &str) -> Option<Certificate> {
        let file = self.file(domain);
        let text = fs::read(self.folder.join(&file)).ok()?;
        Certificate::of(&text, &text, domain.to_owned())
            .inspect_err(|error| tracing::error!(%file, %error, "kept certificate; asked for anew"))
            .ok()
    }

    /// Keeps a certificate and its key.
    pub(super) fn keep_certificate(&self, domain: &str, chain: &str, key: &str) -> io::Result<()> {
        self.replace(&self.file(domain), format!("{}\n{}\n", key.trim_end(), chain.trim_end()).as_bytes())
    }

    fn file(&self, domain: &str) -> String {
        format!("{domain}.pem")
    }

    /// A crash finds the old file or the new one.
    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let beside = self.folder.join(format!("{name}.new"));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(beside, self.folder.join(name))?;
        fs::File::open(&self.folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_owner_reads_what_is_kept_and_authorities_do_not_mix() {
        let state = tempfile::tempdir().expect("a folder");
        let issued = rcgen::generate_simple_self_signed(["a.example.org".to_owned()]).expect("a certificate");
        let (chain, key) = (issued.cert.pem(), issued.signing_key.serialize_pem());
        let store = Store::new(state.path(), "https://one.example.org/directory");
        store.keep_certificate("a.example.org", &chain, &key).expect("a folder");
        assert_eq!(store.certificate("a.example.org").expect("what was kept").names, ["a.example.org"]);
        let other = Store::new(state.path(), "https://two.example.org/directory");
        assert!(other.certificate("a.example.org").is_none());
        let file = state.path().join("acme/one.example.org_directory/a.example.org.pem");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().expect("a folder"))), (0o600, 0o700));
    }
}
