//! Why a registry did not give what was asked: what it means for another try, in words without secrets.

use oci_client::errors::{OciDistributionError as Theirs, OciEnvelope, OciErrorCode};

use crate::{Error, Kind, error::chain};

/// Why a registry did not give what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub why: Why,
    pub words: String,
}

/// What a refusal means for another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It does not have it, or does not let us know.
    Missing,
    /// Not with these credentials.
    Denied,
    /// What came is not what was asked for.
    Wrong,
    /// It does not speak TLS.
    Plain,
    /// It does not do what was asked, for any other reason.
    Refused,
    /// The network, or the registry for now.
    Network,
}

impl Refusal {
    pub(super) fn new(why: Why, words: impl Into<String>) -> Self {
        Self { why, words: clean(&words.into()) }
    }

    /// As the engine's callers hear of it.
    pub(super) fn of(self, image: &str, registry: &str, with: bool) -> Error {
        let with = if with { "with" } else { "without" };
        let hint = match self.why {
            Why::Plain => format!(
                ": {registry} answers without TLS; if that is meant to be, add {registry:?} to images.insecure_registries"
            ),
            Why::Missing => format!(": {registry} does not have it, or not for us: {}", self.words),
            Why::Denied => format!(": {registry} denies it: {}", self.words),
            Why::Wrong | Why::Refused | Why::Network => format!(": {registry}: {}", self.words),
        };
        let kind = if self.why == Why::Network { Kind::Retryable } else { Kind::Permanent };
        Error::new(kind, format!("cannot download the image {image} ({with} credentials){hint}"))
    }
}

impl From<Theirs> for Refusal {
    fn from(error: Theirs) -> Self {
        let why = why(&error);
        let words = match error {
            // What the token service says could repeat what it was told.
            Theirs::AuthenticationFailure(_) => "its token service gives no token".into(),
            Theirs::UnauthorizedError { .. } => "not authorized".into(),
            Theirs::RegistryError { envelope, .. } => said(&envelope),
            Theirs::ServerError { code, message, .. } => format!("status {code}: {message}"),
            Theirs::RequestError(e) => chain(&e.without_url()),
            other => chain(&other),
        };
        Self::new(why, words)
    }
}

fn why(error: &Theirs) -> Why {
    match error {
        Theirs::AuthenticationFailure(said) => {
            let said = said.to_ascii_lowercase();
            let denied = ["unauthorized", "denied", "incorrect", "invalid", "forbidden"]
                .iter()
                .any(|w| said.contains(w));
            if denied { Why::Denied } else { Why::Network }
        }
        Theirs::UnauthorizedError { .. } => Why::Denied,
        Theirs::ImageManifestNotFoundError(_) => Why::Missing,
        Theirs::DigestError(_) => Why::Wrong,
        Theirs::RegistryError { envelope, .. } => by_codes(envelope),
        Theirs::ServerError { code, .. } => by_status(*code),
        Theirs::RequestError(e) if chain(e).contains("InvalidContentType") => Why::Plain,
        Theirs::RequestError(e) if e.is_builder() => Why::Refused,
        Theirs::RequestError(_) | Theirs::IoError(_) => Why::Network,
        _ => Why::Refused,
    }
}

fn by_status(code: u16) -> Why {
    match code {
        404 => Why::Missing,
        401 | 403 => Why::Denied,
        408 | 425 | 429 | 500.. => Why::Network,
        _ => Why::Refused,
    }
}

fn by_codes(envelope: &OciEnvelope) -> Why {
    use OciErrorCode::{
        BlobUnknown, Denied, ManifestBlobUnknown, ManifestUnknown, NameUnknown, NotFound, Toomanyrequests,
        Unauthorized,
    };
    match envelope.errors.first().map(|error| &error.code) {
        Some(BlobUnknown | ManifestBlobUnknown | ManifestUnknown | NameUnknown | NotFound) => Why::Missing,
        Some(Unauthorized | Denied) => Why::Denied,
        Some(Toomanyrequests) => Why::Network,
        _ => Why::Refused,
    }
}

fn said(envelope: &OciEnvelope) -> String {
    let one = |error: &oci_client::errors::OciError| format!("{:?} {}", error.code, error.message);
    envelope.errors.iter().take(3).map(one).collect::<Vec<_>>().join("; ")
}

/// One short line without control characters, and without what addresses carry besides host and path: redirections to
/// object stores have signatures there.
fn clean(words: &str) -> String {
    let bare = |word: &str| match word.split_once("://") {
        Some((before, rest)) => {
            let rest = rest.split(['?', '#']).next().unwrap_or_default();
            let rest = rest.split_once('@').map_or(rest, |(_, after)| after);
            format!("{before}://{rest}")
        }
        None => word.to_owned(),
    };
    let line: Vec<String> = words.split_whitespace().map(bare).collect();
    let line: String = line.join(" ").chars().filter(|c| !c.is_control()).collect();
    line.char_indices().nth(300).map_or(line.clone(), |(end, _)| format!("{}...", &line[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(code: &str) -> OciEnvelope {
        serde_json::from_value(serde_json::json!({"errors": [{"code": code, "message": "said"}]}))
            .expect("valid")
    }

    #[test]
    fn refusals_say_whether_to_try_again() {
        let url = String::from("https://r.example/v2/a");
        let registry = |code: &str| Theirs::RegistryError { envelope: envelope(code), url: url.clone() };
        let server = |code| Theirs::ServerError { code, url: url.clone(), message: "said".into() };
        for (error, why, kind) in [
            (registry("MANIFEST_UNKNOWN"), Why::Missing, Kind::Permanent),
            (registry("DENIED"), Why::Denied, Kind::Permanent),
            (registry("TOOMANYREQUESTS"), Why::Network, Kind::Retryable),
            (registry("UNSUPPORTED"), Why::Refused, Kind::Permanent),
            (server(404), Why::Missing, Kind::Permanent),
            (server(403), Why::Denied, Kind::Permanent),
            (server(416), Why::Refused, Kind::Permanent),
            (server(503), Why::Network, Kind::Retryable),
            (Theirs::UnauthorizedError { url: url.clone() }, Why::Denied, Kind::Permanent),
            (Theirs::AuthenticationFailure("incorrect username".into()), Why::Denied, Kind::Permanent),
            (Theirs::AuthenticationFailure("bad gateway".into()), Why::Network, Kind::Retryable),
            (Theirs::IoError(std::io::ErrorKind::ConnectionReset.into()), Why::Network, Kind::Retryable),
        ] {
            let refusal = Refusal::from(error);
            assert_eq!(refusal.why, why, "{refusal:?}");
            let error = refusal.of("a:1", "r.example", false);
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.message.contains("a:1 (without credentials)"), "{error}");
        }
    }

    #[test]
    fn a_registry_without_tls_names_the_setting() {
        let error = Refusal::new(Why::Plain, "").of("h:5000/a", "h:5000", true);
        assert!(error.message.contains("\"h:5000\" to images.insecure_registries"), "{error}");
    }

    #[test]
    fn words_are_short_and_keep_secrets() {
        for (words, expected) in [
            ("a\r\n b\u{1b}[1m", "a b[1m"),
            ("get https://u:p@h/path?sig=canary#x failed", "get https://h/path failed"),
            ("(https://h/x?a=canary): no", "(https://h/x no"),
        ] {
            assert_eq!(clean(words), expected);
        }
        assert_eq!(clean(&"x".repeat(999)).len(), 303);
        let said = Refusal::from(Theirs::AuthenticationFailure("password canary is incorrect".into()));
        assert!(!format!("{said:?}").contains("canary"));
    }
}
