//! The gateway's own settings, and where images come from.

use super::{AccessLog, Admin, GatewayTls, Limits, Listener, Tracing, duration};
use crate::{
    decode::{
        At, Named,
        leaf::{OneOrMany, Size, Span, Text},
        section,
    },
    model,
};

section! {
    /// The gateway's own settings.
    Gateway, d = model::Gateway::default() => {
        /// Where requests arrive: an address and port, or a table (see below), or a list of them.
        listen: OneOrMany<Listener> = d.listen[0].to_string(),
        /// Certificates, and what is demanded of connections over TLS.
        tls: GatewayTls,
        /// Where Prometheus metrics and the readiness and liveness endpoints are served, on loopback; `"off"` for
        /// nowhere.
        metrics: Text = d.metrics.map(|metrics| metrics.to_string()),
        /// Administration over TCP, for people and scripts that have a token.
        admin: Admin,
        /// The folder of everything that must outlive the gateway. Default: /var/lib/tidegate as root, else
        /// `tidegate` below the XDG state home. A relative path starts at the file's folder.
        state: Text,
        /// Addresses or networks whose `X-Forwarded-*` and `Forwarded` headers are believed.
        trusted_proxies: Vec<At<Text>> = d.trusted_proxies,
        /// Whether a refused request is told the cause in words (exit codes, last log lines).
        expose_errors: bool = d.expose_errors,
        /// Whether responses carry `Server-Timing` and `X-Tidegate-Cold`.
        timing_headers: bool = d.timing_headers,
        /// How long running requests may take to finish when the gateway stops.
        drain: Span = duration(d.drain),
        /// Whether replicas are stopped with the gateway. If not, the next one adopts them.
        stop_replicas_on_exit: bool = d.stop_replicas_on_exit,
        /// The network of the containers on each host, as in `10.200.0.0/16`. Default: a free private one.
        subnet: Text,
        /// Whether replicas of the embedded engine may reach 169.254.0.0/16, where clouds keep a machine's credentials.
        allow_metadata: bool = d.allow_metadata,
        /// Folders of the host that services may mount, with everything below them. Others are refused; some, such
        /// as /etc and the Docker socket, always.
        allow_mounts: Vec<At<Text>> = Vec::<String>::new(),
        /// Whether containers reach services by name, at `http://NAME`, through the gateway, which wakes those that sleep.
        internal_names: bool = d.internal_names,
        /// An address of this machine where the containers of remote hosts reach the gateway for that: ports 53 and 80,
        /// as in `10.0.0.1`. Without it, names do not resolve on remote hosts.
        internal_address: Text,
        /// Name servers for the names in `upstreams`, as in `["10.0.0.53"]`. Default: those of /etc/resolv.conf.
        resolvers: Vec<At<Text>> = Vec::<String>::new(),
        /// What clients may ask of the gateway.
        limits: Limits,
        /// A line for each request. Off unless this table is there.
        access_log: AccessLog,
        /// Traces and where their spans go. Off unless this table is there.
        tracing: Tracing,
    }
}

section! {
    /// Where the embedded engine's images come from, and how long they are kept. Docker has settings of its own. Of a
    /// Kubernetes' images, registries and mirrors are asked what they are.
    Images, d = model::Images::default() => {
        /// Registries, `HOST` or `HOST:PORT`, that are spoken to without TLS.
        insecure_registries: Vec<At<Text>> = d.insecure_registries,
        /// For a registry, others that are asked before it, in order, as in
        /// `{ "docker.io" = ["mirror.example.org:5000"] }`.
        mirrors: Named<At<Vec<At<Text>>>> = serde_json::Map::new(),
        /// How long an image is kept that nothing runs.
        keep_unused: Span = duration(d.keep_unused),
        /// What all images may take before those go that were not used for longest. Default: no bound.
        max_size: Size,
    }
}
