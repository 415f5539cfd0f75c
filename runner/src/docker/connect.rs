//! Finding an engine and making sure that it answers.

use std::{sync::Arc, time::Duration};

use bollard::API_DEFAULT_VERSION;
use http::HeaderValue;
use ipnet::Ipv4Net;
use tidegate_config::name::HostName;
use tokio::{task::JoinSet, time::timeout};

use super::{
    Docker,
    call::{READ, failed, within},
    events,
    inner::Inner,
    network::Network,
};
use crate::{Error, InstanceId, Kind, Result};

const SOCKET: &str = "unix:///var/run/docker.sock";
/// bollard's own timeout ends with the headers of an answer; ours ([`within`]) come first, except for streams.
const NEVER: u64 = 24 * 60 * 60;
/// For the question whether there is an engine at all.
const ANSWERS: Duration = Duration::from_secs(3);

/// How an engine is reached and for whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// As in `unix:///run/docker.sock`; `None`: `DOCKER_HOST`, else Docker's socket.
    pub endpoint: Option<String>,
    /// Whose containers are ours.
    pub instance: InstanceId,
    /// The subnet of the containers' network; `None`: a free private one.
    pub subnet: Option<Ipv4Net>,
    /// What the file calls the engine's host.
    pub host: HostName,
}

impl Docker {
    /// Connects to an engine that answers.
    ///
    /// # Errors
    /// When nothing answers there, or the endpoint is not one that may be used.
    pub async fn connect(options: Options) -> Result<Self> {
        let endpoint = endpoint(options.endpoint.as_deref());
        let api = client(&endpoint)?;
        within("ping", READ, api.ping()).await.map_err(|f| silent(&endpoint, &f.words))?;
        let network = Network::new(options.instance.clone(), options.subnet);
        let inner = Inner::new(api, options.host, options.instance, network);
        let mut tasks = JoinSet::new();
        tasks.spawn(events::follow(Arc::clone(&inner)));
        Ok(Self { inner, _events: tasks })
    }
}

/// Whether a Docker engine answers at an endpoint; `None` as in [`Options::endpoint`].
pub async fn answers(at: Option<&str>) -> bool {
    let Ok(api) = client(&endpoint(at)) else { return false };
    matches!(timeout(ANSWERS, api.ping()).await, Ok(Ok(_)))
}

fn endpoint(given: Option<&str>) -> String {
    let environment = || std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    given.map(String::from).or_else(environment).unwrap_or_else(|| SOCKET.into())
}

fn client(endpoint: &str) -> Result<bollard::Docker> {
    let made = if endpoint.starts_with("unix://") || endpoint.starts_with('/') {
        bollard::Docker::connect_with_unix(endpoint, NEVER, API_DEFAULT_VERSION)
    } else if let Some(rest) = endpoint.strip_prefix("tcp://").or_else(|| endpoint.strip_prefix("http://")) {
        if !is_loopback(rest) {
            return Err(Error::new(
                Kind::Permanent,
                format!(
                    "refusing {endpoint}: whoever reaches an engine over plain TCP owns its host; \
                     use a Unix socket, such as one forwarded by ssh"
                ),
            ));
        }
        bollard::Docker::connect_with_http(endpoint, NEVER, API_DEFAULT_VERSION)
    } else {
        return Err(Error::new(
            Kind::Permanent,
            format!("{endpoint} is not an engine's address: expected unix:///PATH or tcp://127.0.0.1:PORT"),
        ));
    };
    let api = made.map_err(|e| silent(endpoint, &failed(e).words))?;
    Ok(api.with_request_modifier(|mut request| {
        // bollard writes the credentials in base64's other alphabet, which the engine refuses to read.
        for name in ["x-registry-auth", "x-registry-config"] {
            if let Some(value) = request.headers().get(name).and_then(url_safe) {
                request.headers_mut().insert(name, value);
            }
        }
        request
    }))
}

fn url_safe(value: &HeaderValue) -> Option<HeaderValue> {
    let text = value.to_str().ok()?.replace('+', "-").replace('/', "_");
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn is_loopback(authority: &str) -> bool {
    let authority = authority.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn silent(endpoint: &str, words: &str) -> Error {
    let hint = if words.to_ascii_lowercase().contains("permission denied") {
        "may this user reach it? Being in the group `docker` is the usual way"
    } else {
        "is dockerd running? `systemctl start docker` starts it where systemd is"
    };
    Error::new(Kind::Retryable, format!("Docker did not answer at {endpoint}: {words}; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn silence_is_said_in_words() {
        let options = |endpoint: &str| Options {
            endpoint: Some(endpoint.into()),
            instance: InstanceId::from_bits(7),
            subnet: None,
            host: "local".parse().expect("valid"),
        };
        for (endpoint, kind, words) in [
            ("unix:///nowhere/docker.sock", Kind::Retryable, "is dockerd running?"),
            ("tcp://127.0.0.1:1", Kind::Retryable, "Docker did not answer at tcp://127.0.0.1:1"),
            ("tcp://192.0.2.1:2375", Kind::Permanent, "over plain TCP"),
            ("ftp://x", Kind::Permanent, "expected unix:///PATH"),
        ] {
            let Err(error) = Docker::connect(options(endpoint)).await else {
                panic!("nothing is there: {endpoint}")
            };
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.message.contains(words), "{error}");
            assert!(!answers(Some(endpoint)).await);
        }
    }

    #[test]
    fn headers_get_the_alphabet_that_the_engine_reads() {
        let value = HeaderValue::from_static("a+/b=");
        assert_eq!(url_safe(&value).as_ref().map(HeaderValue::as_bytes), Some(&b"a-_b="[..]));
    }
}
