//! From [`Options`] to a [`Docker`], and whether its engine answers.
//! Holds: connecting dials nothing and fails only for what no waiting cures; an engine that is down is a lost host.

use std::sync::Arc;

use bollard::API_DEFAULT_VERSION;
use http::HeaderValue;
use tidegate_config::model::Tls;
use tokio::task::JoinSet;

use super::{
    Docker, Options,
    call::{Api, failed},
    endpoint::Endpoint,
    events,
    inner::Inner,
    line::Line,
    network::Network,
    reach::Reaching,
};
use crate::{Error, Kind, Result, call::PATIENT};

const SOCKET: &str = "unix:///var/run/docker.sock";
/// bollard's own timeout ends with the headers of an answer; ours (in `call`) come first, except for streams.
const NEVER: u64 = 24 * 60 * 60;

impl Docker {
    /// Makes ready to speak to an engine, and follows it from now on, whether or not it answers yet.
    ///
    /// # Errors
    /// `Kind::Permanent`, for what no waiting cures: an endpoint that is none, plain TCP to another machine, PEM files
    /// that cannot be used, no `ssh` program, no address for published ports.
    pub async fn connect(options: Options) -> Result<Self> {
        let (endpoint, api) = api(options.endpoint.as_deref(), options.tls.as_ref())?;
        let reaching = Reaching::new(&options, &endpoint)?;
        let network = Network::new(options.instance.clone(), options.subnet);
        let inner = Inner::new(api, options.host, options.instance, network, reaching);
        let mut tasks = JoinSet::new();
        tasks.spawn(events::follow(Arc::clone(&inner)));
        Ok(Self { inner, endpoint, _events: tasks })
    }

    /// Whether the engine answers, more patiently than [`Runner::ping`](crate::Runner::ping), and in words that say what
    /// to do if it does not.
    ///
    /// # Errors
    /// `Kind::Retryable`: nothing answered within a few seconds.
    pub async fn answers(&self) -> Result<()> {
        self.inner.api.ask(PATIENT).await.map_err(|f| silent(&self.endpoint, &f.words))
    }
}

/// An engine's API, by what the file says of where it answers; dials nothing.
///
/// # Errors
/// As [`Docker::connect`] has them.
pub(crate) fn api(endpoint: Option<&str>, tls: Option<&Tls>) -> Result<(Endpoint, Api)> {
    let endpoint = Endpoint::parse(&place(endpoint))?;
    let line = Line::to(&endpoint, tls)?;
    let api = Api::new(client(&line)?, line);
    Ok((endpoint, api))
}

fn place(given: Option<&str>) -> String {
    let environment = || std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    given.map(String::from).or_else(environment).unwrap_or_else(|| SOCKET.into())
}

fn client(line: &Arc<Line>) -> Result<bollard::Docker> {
    let made = bollard::Docker::connect_with_custom_transport(
        line.carry(),
        Some("http://engine"),
        NEVER,
        API_DEFAULT_VERSION,
    );
    let api = made.map_err(|e| failed(e).permanent("make a client of the engine"))?;
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

fn silent(endpoint: &Endpoint, words: &str) -> Error {
    let hint = match endpoint {
        Endpoint::Ssh { .. } if words.to_ascii_lowercase().contains("permission denied (") => {
            "`ssh` must get in without a question: is our key there?"
        }
        Endpoint::Unix(_) if words.to_ascii_lowercase().contains("permission denied") => {
            "may this user reach it? Being in the group `docker` is the usual way"
        }
        Endpoint::Unix(_) => "is dockerd running? `systemctl start docker` starts it where systemd is",
        Endpoint::Tcp { .. } => "is dockerd running there, and does it listen on that port?",
        Endpoint::Ssh { .. } => "does `ssh` to it work, and does `docker system dial-stdio` there?",
    };
    Error::new(Kind::Retryable, format!("Docker did not answer at {endpoint}: {words}; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InstanceId;
    use tidegate_config::model::Host;

    fn options(endpoint: &str) -> Options {
        let host = Host { endpoint: Some(endpoint.into()), ..Host::local() };
        Options::of(&host, InstanceId::from_bits(7), None)
    }

    #[tokio::test]
    async fn silence_is_said_in_words_and_is_no_failure_to_connect() {
        for (endpoint, words) in [
            ("unix:///nowhere/docker.sock", "is dockerd running?"),
            ("tcp://127.0.0.1:1", "Docker did not answer at tcp://127.0.0.1:1"),
        ] {
            let docker = Docker::connect(options(endpoint)).await.expect(endpoint);
            let error = docker.answers().await.expect_err("nothing is there");
            assert_eq!(error.kind, Kind::Retryable, "{error}");
            assert!(!error.message.contains("hyper"), "for people: {error}");
            assert!(error.message.contains(words), "{error}");
        }
    }

    #[tokio::test]
    async fn what_no_waiting_cures_is_permanent() {
        let nowhere = || Tls { ca: "/nowhere/ca.pem".into(), cert: "/x".into(), key: "/y".into() };
        let remote = "tcp://192.0.2.1:2376";
        for (given, words) in [
            (options("tcp://192.0.2.1:2375"), "over plain TCP"),
            (options("ftp://x"), "expected unix:///PATH"),
            (Options { tls: Some(nowhere()), ..options(remote) }, "/nowhere/ca.pem"),
        ] {
            let Err(error) = Docker::connect(given).await else { panic!("accepted: {words}") };
            assert_eq!(error.kind, Kind::Permanent, "{error}");
            assert!(error.message.contains(words), "{error}");
        }
    }

    #[test]
    fn headers_get_the_alphabet_that_the_engine_reads() {
        let value = HeaderValue::from_static("a+/b=");
        assert_eq!(url_safe(&value).as_ref().map(HeaderValue::as_bytes), Some(&b"a-_b="[..]));
    }
}
