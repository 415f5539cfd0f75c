//! Credentials for a registry, from Docker's config.json, read anew for each download.
//! Order as Docker has it: a helper for this registry, the store of all, the entry in the file. Absent: caching, logs.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use crate::{Error, Kind, Result};

/// What Docker calls its own registry in the file.
const HUB: &str = "https://index.docker.io/v1/";
const HELPER_DEADLINE: Duration = Duration::from_secs(15);

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: HashMap<String, Entry>,
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// Where the credentials of a registry are.
#[derive(Debug, PartialEq)]
enum Source {
    Helper(String),
    File(Box<Credentials>),
    Nowhere,
}

/// What proves to a registry who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// The registry's name in the file.
    pub server: String,
    pub username: Option<String>,
    pub password: Option<String>,
    /// Is exchanged for a registry's token.
    pub identity_token: Option<String>,
    /// Is shown to the registry as it is.
    pub registry_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("server", &self.server).finish_non_exhaustive()
    }
}

/// The credentials for an image's registry, if there are any.
pub(crate) async fn of(image: &str) -> Result<Option<Credentials>> {
    let Some(path) = file() else { return Ok(None) };
    at(&path, registry(image)).await
}

/// The credentials for a registry (`HOST` or `HOST:PORT`), if there are any; `file` instead of the usual one.
pub(crate) async fn of_registry(host: &str, instead: Option<&Path>) -> Result<Option<Credentials>> {
    let Some(path) = instead.map(Path::to_path_buf).or_else(file) else { return Ok(None) };
    at(&path, named(host)).await
}

async fn at(path: &Path, registry: String) -> Result<Option<Credentials>> {
    let text = match tokio::fs::read_to_string(path).await {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(broken(&path.display(), &e)),
    };
    let config: Config = serde_json::from_str(&text).map_err(|e| broken(&path.display(), &e))?;
    match source(&config, &registry) {
        Source::Nowhere => Ok(None),
        Source::File(found) => Ok(Some(*found)),
        Source::Helper(name) => ask(&name, &registry).await,
    }
}

fn file() -> Option<PathBuf> {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
    folder.or_else(home).map(|folder| folder.join("config.json"))
}

fn broken(what: &dyn fmt::Display, why: &dyn fmt::Display) -> Error {
    Error::new(Kind::Permanent, format!("registry credentials: {what}: {why}"))
}

/// The registry of an image, as config.json names it.
fn registry(image: &str) -> String {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => named(host),
        _ => HUB.into(),
    }
}

/// A registry, as config.json names it.
fn named(host: &str) -> String {
    match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB.into(),
        host => host.into(),
    }
}

fn source(config: &Config, registry: &str) -> Source {
    let same = |key: &str| bare(key) == bare(registry);
    if let Some((_, helper)) = config.cred_helpers.iter().find(|(key, _)| same(key)) {
        return Source::Helper(helper.clone());
    }
    if let Some(store) = config.creds_store.as_ref().filter(|s| !s.is_empty()) {
        return Source::Helper(store.clone());
    }
    let entry = config
        .auths
        .get(registry)
        .or_else(|| config.auths.iter().find(|(key, _)| same(key)).map(|(_, entry)| entry));
    entry.and_then(|e| from_entry(e, registry)).map_or(Source::Nowhere, |found| Source::File(Box::new(found)))
}

/// A registry's host without scheme and path: both forms occur in files.
fn bare(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    key.split('/').next().unwrap_or(key)
}

fn from_entry(entry: &Entry, registry: &str) -> Option<Credentials> {
    let decoded =
        STANDARD.decode(entry.auth.trim_end_matches('\0')).ok().and_then(|b| String::from_utf8(b).ok());
    let (username, password) = decoded
        .as_deref()
        .and_then(|pair| pair.split_once(':'))
        .unwrap_or((&entry.username, &entry.password));
    let some = |text: &str| (!text.is_empty()).then(|| text.trim_end_matches('\0').to_owned());
    let found = Credentials {
        username: some(username),
        password: some(password),
        identity_token: some(&entry.identitytoken),
        registry_token: some(&entry.registrytoken),
        server: registry.to_owned(),
    };
    let usable = found.password.is_some() || found.identity_token.is_some() || found.registry_token.is_some();
    usable.then_some(found)
}

/// Asks `docker-credential-NAME get`, as Docker's own client does.
async fn ask(name: &str, registry: &str) -> Result<Option<Credentials>> {
    let program = format!("docker-credential-{name}");
    if !name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.')) {
        return Err(broken(&program, &"not the name of a credential helper"));
    }
    let run = async {
        let mut child = Command::new(&program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(registry.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = timeout(HELPER_DEADLINE, run)
        .await
        .map_err(|_| broken(&program, &format!("no answer within {} s", HELPER_DEADLINE.as_secs())))?
        .map_err(|e| broken(&program, &e))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(broken(&program, &format!("ended with {}: {}", output.status, said.trim())));
    }
    // The parser's own error could quote the answer, which holds a password.
    let answer: HelperAnswer = serde_json::from_slice(&output.stdout)
        .map_err(|_| broken(&program, &"its answer is not understood"))?;
    Ok(Some(from_answer(answer, registry)))
}

fn from_answer(answer: HelperAnswer, registry: &str) -> Credentials {
    let base = Credentials { server: registry.to_owned(), ..Credentials::default() };
    if answer.username == "<token>" {
        Credentials { identity_token: Some(answer.secret), ..base }
    } else {
        Credentials { username: Some(answer.username), password: Some(answer.secret), ..base }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_name_their_registry() {
        for (image, expected) in [
            ("nginx", HUB),
            ("library/nginx:1", HUB),
            ("docker.io/library/nginx", HUB),
            ("ghcr.io/a/b:1", "ghcr.io"),
            ("localhost/a", "localhost"),
            ("host:5000/a", "host:5000"),
        ] {
            assert_eq!(registry(image), expected, "{image}");
        }
    }

    #[test]
    fn sources_have_an_order() {
        let config: Config = serde_json::from_value(serde_json::json!({
            "auths": {
                "https://index.docker.io/v1/": {"auth": STANDARD.encode("me:pass:word")},
                "https://plain.example/v2/": {"username": "u", "password": "p"},
                "token.example": {"identitytoken": "t"},
                "empty.example": {},
            },
            "credHelpers": {"gcr.io": "gcloud"},
        }))
        .expect("valid");
        let found = |registry: &str| source(&config, registry);
        let user = |user: &str, password: &str, server: &str| {
            Source::File(Box::new(Credentials {
                username: Some(user.into()),
                password: Some(password.into()),
                server: server.into(),
                ..Credentials::default()
            }))
        };
        assert_eq!(found(HUB), user("me", "pass:word", HUB));
        assert_eq!(found("plain.example"), user("u", "p", "plain.example"));
        assert_eq!(found("gcr.io"), Source::Helper("gcloud".into()));
        assert_eq!(found("empty.example"), Source::Nowhere);
        assert_eq!(found("other.example"), Source::Nowhere);
        assert!(
            matches!(found("token.example"), Source::File(c) if c.identity_token.as_deref() == Some("t"))
        );

        let config = Config { creds_store: Some("pass".into()), ..config };
        assert_eq!(source(&config, HUB), Source::Helper("pass".into()));
        assert_eq!(source(&config, "gcr.io"), Source::Helper("gcloud".into()));
    }

    #[test]
    fn helpers_answer_with_passwords_or_tokens() {
        let answer = |username: &str| HelperAnswer { username: username.into(), secret: "s".into() };
        assert_eq!(from_answer(answer("me"), "r").password.as_deref(), Some("s"));
        let token = from_answer(answer("<token>"), "r");
        assert_eq!((token.username, token.identity_token.as_deref()), (None, Some("s")));
    }

    #[test]
    fn debug_shows_no_password() {
        let entry = Entry { password: "canary".into(), ..Entry::default() };
        assert!(!format!("{entry:?}").contains("canary"));
        let found = from_entry(&entry, "r.example").expect("it has a password");
        let shown = format!("{found:?}");
        assert!(shown.contains("r.example") && !shown.contains("canary"), "{shown}");
    }
}
