//! The gateway's own settings.

use super::{Settings, below, fingerprint, list, or_default, or_none, settings, time};
use crate::model::{
    AccessLog, Acme, Admin, Certificate, Challenge, Gateway, GatewayTls, Limits, LogFormat, LogTo,
    RequestLimits, Secret, TlsVersion, Token, Tracing,
};

/// Describes the gateway's own settings: those that apply at once, and those that wait for its next start.
#[must_use]
pub fn describe_gateway(gateway: &Gateway) -> (Settings, Settings) {
    let Gateway {
        listen,
        tls,
        metrics,
        admin,
        state,
        trusted_proxies,
        expose_errors,
        timing_headers,
        drain,
        stop_replicas_on_exit,
        subnet,
        allow_metadata,
        internal_names,
        internal_address,
        resolvers,
        limits,
        access_log,
        tracing,
    } = gateway;
    let mut live = settings([
        ("trusted_proxies", list(trusted_proxies)),
        ("expose_errors", expose_errors.to_string()),
        ("timing_headers", timing_headers.to_string()),
        ("resolvers", if resolvers.is_empty() { "default".to_owned() } else { list(resolvers) }),
        ("drain", time(*drain)),
        ("stop_replicas_on_exit", stop_replicas_on_exit.to_string()),
    ]);
    live.extend(below("tls", describe_tls(tls)));
    let (asking, place) = describe_admin(admin.as_ref());
    live.extend(asking);
    live.extend(below("access_log", describe_access_log(access_log.as_ref())));
    live.extend(below("tracing", describe_tracing(tracing.as_ref())));
    let (limits_live, limits) = describe_limits(limits);
    live.extend(below("limits", limits_live));
    let mut at_start = settings([
        ("listen", list(listen)),
        ("metrics", metrics.map_or_else(|| "off".to_owned(), |metrics| metrics.to_string())),
        ("state", or_default(state.as_ref().map(|state| state.display()))),
        ("subnet", or_default(*subnet)),
        ("allow_metadata", allow_metadata.to_string()),
        ("internal_names", internal_names.to_string()),
        ("internal_address", or_none(*internal_address)),
    ]);
    at_start.extend(below("limits", limits));
    at_start.extend(place);
    (below("gateway", live), below("gateway", at_start))
}

/// Who may ask, and where. Hashes are told apart and not told: a short token could be found from one.
fn describe_admin(admin: Option<&Admin>) -> (Settings, Settings) {
    let Some(Admin { listen, tls, names, tokens }) = admin else { return Default::default() };
    let token = |Token { name, role, secret }: &Token| {
        let known = match secret {
            Secret::Sha256(hash) => fingerprint(&format!("{hash:?}")),
            Secret::File(file) => file.display().to_string(),
        };
        (format!("admin.tokens.{name}"), format!("{} {known}", role.word()))
    };
    let mut asking = settings([("admin.names", list(names))]);
    asking.extend(tokens.iter().map(token));
    let mut place = settings([("admin.listen", listen.to_string())]);
    if let Some((cert, key)) = tls {
        place.extend(settings([
            ("admin.cert", cert.display().to_string()),
            ("admin.key", key.display().to_string()),
        ]));
    }
    (asking, place)
}

fn describe_limits(limits: &Limits) -> (Settings, Settings) {
    let Limits {
        connections,
        connections_per_address,
        handshakes,
        handshake_rate_per_address,
        handshake_rate,
        header_timeout,
        header_bytes,
        header_count,
        idle_timeout,
        keep_alive_requests,
        send_timeout,
        send_rate,
        send_grace,
        h2_streams,
        h2_streams_total,
        h2_resets,
        h2_ping,
        requests: RequestLimits { uri_bytes, body_bytes, body_rate, body_grace, timeout },
    } = limits;
    let live = settings([
        ("uri_bytes", uri_bytes.to_string()),
        ("body_bytes", or_none(*body_bytes)),
        ("body_rate", body_rate.to_string()),
        ("body_grace", time(*body_grace)),
        ("request_timeout", or_none(timeout.map(time))),
    ]);
    let at_start = settings([
        ("connections", connections.to_string()),
        ("connections_per_address", or_none(*connections_per_address)),
        ("handshakes", handshakes.to_string()),
        ("handshake_rate_per_address", or_none(*handshake_rate_per_address)),
        ("handshake_rate", or_none(*handshake_rate)),
        ("header_timeout", time(*header_timeout)),
        ("header_bytes", header_bytes.to_string()),
        ("header_count", header_count.to_string()),
        ("idle_timeout", time(*idle_timeout)),
        ("keep_alive_requests", or_none(*keep_alive_requests)),
        ("send_timeout", time(*send_timeout)),
        ("send_rate", send_rate.to_string()),
        ("send_grace", time(*send_grace)),
        ("h2_streams", h2_streams.to_string()),
        ("h2_streams_total", h2_streams_total.to_string()),
        ("h2_resets", h2_resets.to_string()),
        ("h2_ping", time(*h2_ping)),
    ]);
    (live, at_start)
}

fn describe_tls(tls: &GatewayTls) -> Settings {
    let GatewayTls { certificates, min_version, handshake_timeout, hsts, hsts_subdomains, acme } = tls;
    let certificates = certificates.iter().map(|Certificate { cert, key, default }| {
        let default = if *default { " (default)" } else { "" };
        format!("{} with {}{default}", cert.display(), key.display())
    });
    let min_version = match min_version {
        TlsVersion::V12 => "1.2",
        TlsVersion::V13 => "1.3",
    };
    let mut all = settings([
        ("certificates", list(certificates)),
        ("min_version", min_version.to_owned()),
        ("handshake_timeout", time(*handshake_timeout)),
        ("hsts", or_none(hsts.map(time))),
        ("hsts_subdomains", hsts_subdomains.to_string()),
    ]);
    if let Some(acme) = acme {
        all.extend(below("acme", describe_acme(acme)));
    }
    all
}

fn describe_acme(acme: &Acme) -> Settings {
    let Acme { email, directory, domains, challenge, ca } = acme;
    let challenge = match challenge {
        Challenge::Http01 => "http-01",
        Challenge::TlsAlpn01 => "tls-alpn-01",
    };
    settings([
        ("email", or_none(email.as_ref())),
        ("directory", directory.clone()),
        ("domains", domains.as_ref().map_or_else(|| "from routes".to_owned(), list)),
        ("challenge", challenge.to_owned()),
        ("ca", or_none(ca.as_ref().map(|ca| ca.display()))),
    ])
}

fn describe_access_log(log: Option<&AccessLog>) -> Settings {
    let Some(AccessLog { format, to, sample, slow, redact_query }) = log else {
        return settings([("to", "nowhere".to_owned())]);
    };
    let to = match to {
        LogTo::Stdout => "stdout".to_owned(),
        LogTo::Stderr => "stderr".to_owned(),
        LogTo::File(path) => path.display().to_string(),
    };
    let format = match format {
        LogFormat::Json => "json",
        LogFormat::Combined => "combined",
    };
    settings([
        ("format", format.to_owned()),
        ("to", to),
        ("sample", sample.to_string()),
        ("slow", time(*slow)),
        ("redact_query", redact_query.to_string()),
    ])
}

fn describe_tracing(tracing: Option<&Tracing>) -> Settings {
    let Some(Tracing { endpoint, ca, sample, headers }) = tracing else {
        return settings([("endpoint", "none".to_owned())]);
    };
    let mut all = settings([("endpoint", endpoint.clone()), ("sample", sample.to_string())]);
    let files = headers.iter().map(|(name, file)| (name.clone(), file.display().to_string()));
    all.extend(below("headers", files.collect()));
    all.extend(ca.iter().map(|file| ("ca".to_owned(), file.display().to_string())));
    all
}
