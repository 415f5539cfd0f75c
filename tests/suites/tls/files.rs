//! Files that are not what they should be: what is wrong is said with its file and its line, by `tidegate check`, at the start
//! and on a reload.

use std::{collections::BTreeMap, fs, path::Path};

use e2e::secure::{Authority, Good, put};
use tidegate::tls;
use tidegate_config::model::Model;

/// A file that names whatever can be named.
const FILE: &str = r#"
[gateway]
listen = [{ address = "127.0.0.1:0", tls = true, client_ca = "ca.pem" }]
[gateway.tls]
certificates = [{ cert = "a.pem", key = "a.key" }]
[gateway.tls.acme]
email = "a@example.org"
challenge = "tls-alpn-01"
ca = "ca.pem"
[gateway.admin]
listen = "127.0.0.1:0"
cert = "admin.pem"
key = "admin.key"
tokens = [{ name = "me", role = "read", token_file = "token" }]
[[hosts]]
name = "far"
endpoint = "tcp://10.0.0.2:2376"
address = "10.0.0.2"
tls = { ca = "ca.pem", cert = "far.pem", key = "far.key" }
[services.a]
image = "a:1"
routes = [{ host = "a.example.org" }]
"#;

struct Folder(tempfile::TempDir, Authority);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new(folder.path(), "ca");
        for name in ["a", "admin", "far"] {
            authority.write(name, &["a.example.org"]);
        }
        put(folder.path(), "tidegate.toml", FILE, 0o644);
        Self(folder, authority)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn put(&self, name: &str, text: &str) {
        put(self.path(), name, text, if name.ends_with(".key") { 0o600 } else { 0o644 });
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).expect("a file")
    }

    fn model(&self) -> Model {
        tidegate_config::load(&self.path().join("tidegate.toml"), BTreeMap::new()).expect("a good file")
    }

    /// What is wrong, without the folder's name.
    fn trouble(&self) -> Vec<String> {
        let folder = format!("{}/", self.path().display());
        tls::trouble(&self.model()).into_iter().map(|line| line.replace(&folder, "")).collect()
    }
}

/// With one file instead of another, this is said and nothing else; `LAST` is the line on which its last block begins.
#[track_caller]
fn check(file: &str, text: impl FnOnce(&Folder) -> String, said: &[&str]) {
    let folder = Folder::new();
    let text = text(&folder);
    let last = text.lines().collect::<Vec<_>>().iter().rposition(|line| line.starts_with("-----BEGIN"));
    let last = last.map_or_else(String::new, |line| (line + 1).to_string());
    folder.put(file, &text);
    let trouble = folder.trouble();
    assert_eq!(trouble.len(), said.len(), "{trouble:#?}");
    for (line, want) in trouble.iter().zip(said) {
        let want = want.replace("LAST", &last);
        assert!(line.starts_with(&want), "{line}\ninstead of\n{want}");
    }
}

#[test]
fn good_files_are_no_trouble() {
    assert_eq!(Folder::new().trouble(), [""; 0]);
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_with_its_line() {
    const CERT: &str = "gateway.tls.certificates[0].cert: a.pem";
    check("a.pem", |_| "nonsense\n".into(), &[&format!("{CERT}:1: is not PEM: no line says")]);
    check(
        "a.pem",
        |_| "\n-----BEGIN CERTIFICATE-----\n".into(),
        &[&format!("{CERT}:2: the block that begins here has no -----END CERTIFICATE-----")],
    );
    check(
        "a.pem",
        |folder| folder.read("a.pem").replacen('\n', "\n*", 1),
        &[&format!("{CERT}:2: this line is not base64")],
    );
    check(
        "a.pem",
        |folder| folder.read("a.key"),
        &[&format!("{CERT}:1: holds -----BEGIN PRIVATE KEY----- and no certificate")],
    );
    // The second one is as bad.
    let second = |folder: &Folder| {
        folder.read("a.pem") + "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"
    };
    check("a.pem", second, &[&format!("{CERT}:LAST: the certificate that begins here cannot be read")]);
    let nameless = |folder: &Folder| folder.1.issue(&[], Good::Now).0;
    check("a.pem", nameless, &[&format!("{CERT}:1: the certificate that begins here names no host")]);
}

#[test]
fn what_is_wrong_with_a_key_is_said_with_its_line() {
    const KEY: &str = "gateway.tls.certificates[0].key: a.key";
    check(
        "a.key",
        |folder| folder.read("a.pem"),
        &[&format!("{KEY}:1: holds a certificate and no private key; are")],
    );
    check(
        "a.key",
        |folder| folder.read("far.key"),
        &[&format!("{KEY}:1: is not the key of the first certificate in a.pem")],
    );
    check(
        "a.key",
        |_| "-----BEGIN PUBLIC KEY-----\naGVs\n-----END PUBLIC KEY-----\n".into(),
        &[&format!("{KEY}:1: holds -----BEGIN PUBLIC KEY----- and no private key")],
    );
    check(
        "a.key",
        |_| "# mine\n-----BEGIN PRIVATE KEY-----\naGVs\n-----END PRIVATE KEY-----\n".into(),
        &[&format!("{KEY}:2: the key that begins here cannot be used")],
    );
    check(
        "a.key",
        |_| "-----BEGIN ENCRYPTED PRIVATE KEY-----\naGVs\n-----END ENCRYPTED PRIVATE KEY-----\n".into(),
        &[&format!("{KEY}:1: this key is encrypted")],
    );
    // The chain is in the wrong order.
    let turned = |folder: &Folder| {
        folder.read("ca.pem").replacen("-----BEGIN", "\n-----BEGIN", 1) + &folder.read("a.pem")
    };
    check(
        "a.pem",
        turned,
        &["gateway.tls.certificates[0].cert: a.pem:2: the certificate that begins here names no host"],
    );
    let turned = |folder: &Folder| folder.read("far.pem") + &folder.read("a.pem");
    check(
        "a.pem",
        turned,
        &[&format!("{KEY}:1: is not the key of the first certificate in a.pem, but of the one on line LAST")],
    );
}

#[test]
fn whatever_the_file_names_is_looked_at() {
    check("admin.key", |folder| folder.read("a.key"), &["gateway.admin: admin.key:1: is not the key"]);
    check("far.pem", |_| "x".into(), &["hosts.far.tls: far.pem:1: is not PEM"]);
    check(
        "ca.pem",
        |folder| folder.read("a.key"),
        &[
            "gateway.listen[0].client_ca: ca.pem:1: holds -----BEGIN PRIVATE KEY----- and no certificate",
            "gateway.tls.acme.ca: ca.pem:1: holds",
            "hosts.far.tls.ca: ca.pem:1: holds",
        ],
    );
    let folder = Folder::new();
    fs::remove_file(folder.path().join("a.key")).expect("a file");
    put(folder.path(), "admin.key", &folder.read("admin.key"), 0o644);
    let trouble = folder.trouble();
    assert!(
        trouble[0].starts_with("gateway.tls.certificates[0].key: a.key: cannot be read: No such file"),
        "{trouble:?}"
    );
    assert!(
        trouble[1].contains("admin.key: every user of this machine can read this private key (mode 644)"),
        "{trouble:?}"
    );
}

#[test]
fn an_expired_certificate_is_worth_a_note_and_no_more() {
    let folder = Folder::new();
    let (cert, key) = folder.1.issue(&["a.example.org"], Good::Once);
    folder.put("a.pem", &cert);
    folder.put("a.key", &key);
    assert_eq!(folder.trouble(), [""; 0]);
    let stale = tls::stale(&folder.model());
    assert!(
        stale.len() == 1 && stale[0].contains("a.pem: expired ") && stale[0].ends_with(" days ago"),
        "{stale:?}"
    );
}
