//! The file as users write it: every table, every key, what it means, and the default as the file would say it.
//! The doc comments below are what the JSON Schema, editors and docs/configuration.md show. Defaults are read from
//! [`crate::model`], where they stand. A pure list, longer than most files.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::{
    decode::{
        At, Decode, Named,
        leaf::{Loose, OneOrMany, Port, Size, Span, Text},
        mismatch, section,
    },
    model::{self, Engine, Idle, Placement, Reach, Update},
    problem::Draft,
    spec::{self, Profile, Protocol, Pull, Scratch},
    tree::{Kind, Node},
    units::Percent,
};

section! {
    /// The whole file.
    File => {
        /// The gateway's own settings.
        gateway: Gateway,
        /// The machines that replicas may run on. Without any: one, named `local`, with `engine = "auto"`.
        hosts: Vec<At<Host>>,
        /// Where the embedded engine's images come from, and how long they are kept.
        images: Images,
        /// The services, by name. A name has 1 to 40 of a-z, 0-9 and `-`.
        services: Named<At<Service>>,
    }
}

section! {
    /// The gateway's own settings.
    Gateway, d = model::Gateway::default() => {
        /// Where requests arrive: an address and port, or several.
        listen: OneOrMany = d.listen[0].to_string(),
        /// Where Prometheus metrics and the readiness and liveness endpoints are served, on loopback; `"off"` for
        /// nowhere.
        metrics: Text = d.metrics.map(|metrics| metrics.to_string()),
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
        /// What clients may ask of the gateway.
        limits: Limits,
    }
}

section! {
    /// What clients may ask of the gateway.
    Limits, d = model::Limits::default() => {
        /// Client connections that may be open at once.
        connections: u32 = d.connections,
        /// From the first byte of a request to the end of its headers.
        header_timeout: Span = duration(d.header_timeout),
        /// The size of a request's headers, together.
        header_bytes: Size = d.header_bytes.to_string(),
        /// The number of a request's headers.
        header_count: u32 = d.header_count,
        /// Requests at once on one HTTP/2 connection.
        h2_streams: u32 = d.h2_streams,
    }
}

section! {
    /// A machine that replicas may run on.
    Host, d = model::Host::local() => {
        /// The host's name: 1 to 40 of a-z, 0-9 and `-`. Required.
        name: Text,
        /// What starts containers there: `docker`, or `embedded`, Tidegate's own engine: on this machine, Linux, as root,
        /// with nothing to install. `auto` is Docker if its socket answers or `endpoint` is set, else `embedded`; that is
        /// chosen once and recorded in the state directory.
        engine: Engine = "auto",
        /// Where the engine answers: `unix:///run/docker.sock`, `tcp://10.0.0.2:2376` (with `tls`) or
        /// `ssh://root@10.0.0.2`. Default: `DOCKER_HOST`, else Docker's socket.
        endpoint: Text,
        /// How a `tcp` endpoint is spoken to. Required for one that is not on loopback.
        tls: Tls,
        /// The host's own address, where the ports of replicas are published and reached. Required for `ssh`, and for
        /// `tcp` that is not on loopback.
        address: Text,
        /// Whether `address` may be a public one: requests then cross the internet as plain text.
        allow_plaintext: bool = false,
        /// How replicas are reached: at their own addresses, or through ports that are published on the host. `auto`:
        /// at their own addresses where they answer there, else `published`.
        reach: Reach = "auto",
        /// Labels that services can ask for with `constraints`.
        labels: Named<Loose> = d.labels,
        /// What fits on the host, instead of what the engine reports.
        capacity: Capacity,
        /// Starts that may be under way at once.
        parallel_starts: u32 = d.parallel_starts,
        /// What replicas that are awake may reserve together before the idlest service is put to sleep. Default: no budget.
        memory_budget: Size,
        /// How long the host may be silent before its replicas are started elsewhere.
        lost_after: Span = duration(d.lost_after),
    }
}

section! {
    /// Where the embedded engine's images come from, and how long they are kept. Docker has settings of its own.
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

section! {
    /// How a `tcp` endpoint is spoken to: both sides show a certificate. Paths are relative to this file's folder.
    Tls => {
        /// A PEM file: who signs the engine's certificate.
        ca: Text,
        /// A PEM file: the gateway's certificate.
        cert: Text,
        /// A PEM file: the key of `cert`.
        key: Text,
    }
}

section! {
    /// What fits on a host. Default: what the engine reports.
    Capacity => {
        /// Cores.
        cpu: f64,
        /// Memory.
        memory: Size,
        /// Replicas.
        replicas: u32,
    }
}

section! {
    /// A service.
    Service, d = spec::Launch::of("") => {
        /// An image reference as in `nginx:1.27`, or `docker-archive:FILE` (what `docker save` writes), or for the embedded
        /// engine `oci:DIR` or `oci-archive:FILE`; relative to this file's folder. Required.
        image: Text,
        /// When the registry is asked for the image.
        pull: Pull = d.pull,
        /// What is run, instead of the image's entrypoint.
        command: Vec<At<Text>> = d.command,
        /// Arguments, instead of the image's.
        args: Vec<At<Text>> = d.args,
        /// Environment variables. They win over those of `env_files`.
        env: Named<At<Loose>> = d.env,
        /// Files with a `NAME=VALUE` on each line, relative to this file's folder. Later files win over earlier ones.
        env_files: Vec<At<Text>> = Vec::<String>::new(),
        /// Environment variables whose values are read from files when a replica starts, as in
        /// `{ TOKEN = "token.txt" }`, relative to this file's folder.
        secrets: Named<At<SecretFile>> = serde_json::Map::new(),
        /// Files below /run/secrets whose contents are read from other files when a replica starts, as in
        /// `{ "db-password" = "db.txt" }`, relative to this file's folder.
        secret_files: Named<At<SecretFile>> = serde_json::Map::new(),
        /// The working folder in the container. Default: the image's.
        working_dir: Text,
        /// Who the process runs as: `user`, `uid` or `uid:gid`. Default: the image's.
        user: Loose,
        /// The port that the service listens on, also put into its environment as `PORT`. Default: the only port that
        /// the image exposes, else 8080.
        port: Port,
        /// What the service speaks: HTTP/1.1, or HTTP/2 without TLS.
        protocol: Protocol = d.protocol,
        /// Named volumes and folders of the host, as `"SOURCE:TARGET"` or `"SOURCE:TARGET:ro"`, or as tables. Folders
        /// must be below one of `gateway.allow_mounts`. `{ target = "/cache", tmpfs = "64MiB" }` is an empty one in memory.
        volumes: Vec<At<Mount>> = d.volumes,
        /// How far a replica is locked in. `strict`: no capabilities, a read-only root, a user that is not root.
        profile: Profile = d.profile,
        /// Labels that a host must have.
        constraints: Named<Loose> = serde_json::Map::new(),
        /// How replicas are laid over hosts: wide or tight.
        placement: Placement = "spread",
        /// How one version follows another: `rolling` starts the new one beside the old one; `recreate` ends the old one
        /// first, and requests wait meanwhile. Default: `recreate` with a volume that is written to and not `shared`, else
        /// `rolling`.
        update: Update,
        /// What is sent to this service. Default: the host `NAME.localhost`, and everything if it is the only service.
        routes: Vec<At<Route>>,
        /// What a replica may use.
        resources: Resources,
        /// How many replicas run.
        scaling: Scaling,
        /// When a replica is ready, and when it has failed.
        health: Health,
        /// How requests are sent to replicas.
        upstream: Upstream,
        /// How a new version is tried, and how many old ones are kept.
        rollout: Rollout,
        /// What becomes of replicas that are not needed.
        sleep: Sleep,
    }
}

section! {
    /// What is sent to a service: a host, a path, or both.
    Route => {
        /// The request's host: `api.example.org`, `*.example.org` for every name below it, or `*` for any.
        host: Text = "*",
        /// How the request's path begins; whole segments.
        path: Text = "/",
        /// Whether `path` is removed before the service sees the request.
        strip: bool = false,
    }
}

section! {
    /// A volume or folder as a table.
    MountTable => {
        /// A named volume, or a path of the host. A path that starts with `./` starts at this file's folder.
        source: Text,
        /// An absolute path in the container.
        target: Text,
        /// Whether the container may only read it.
        read_only: bool = false,
        /// Whether several replicas may write to it at once. If not, the service has one replica at most.
        shared: bool = false,
        /// Instead of a source: how much fits into an empty file system in memory, which counts as the replica's memory.
        tmpfs: Size,
    }
}

section! {
    /// A secret as a table.
    SecretTable => {
        /// The file that holds the value.
        file: Text,
    }
}

section! {
    /// What a replica may use.
    Resources, d = spec::Resources::default() => {
        /// Memory, swap included; at least 6MiB.
        memory: Size = d.memory.to_string(),
        /// Cores, as in 0.5. Default: no limit.
        cpu: f64,
        /// Processes and threads.
        pids: u32 = d.pids,
        /// What a replica may write outside of volumes; at least 1MiB. Default: what the disk has room for.
        disk: Size,
        /// Where it writes that: on the engine's disk, or (`embedded` only) in memory, which counts as its own.
        scratch: Scratch = d.scratch,
        /// What placement counts for each replica.
        reserve: Reserve,
    }
}

section! {
    /// What placement counts for each replica.
    Reserve, d = spec::Resources::default().reserve => {
        /// Memory.
        memory: Size = d.memory.to_string(),
        /// Cores.
        cpu: f64 = d.cpu,
    }
}

section! {
    /// How many replicas run.
    Scaling, d = model::ScalingPolicy::default() => {
        /// Replicas that always run; 0: none while nobody calls.
        min: u32 = d.min,
        /// Replicas that are never exceeded.
        max: u32 = d.max,
        /// Replicas that the first request starts.
        initial: u32 = d.initial,
        /// Requests that a replica gets at once; more wait. Default: no limit, and scaling as if it were 100.
        concurrency: u32,
        /// The share of `concurrency` that scaling aims at.
        target: Percent = d.target.fraction(),
        /// Over how long demand is averaged.
        stable_window: Span = duration(d.stable_window),
        /// The share of `stable_window` in which a surge is looked for.
        surge_window: Percent = d.surge_window.fraction(),
        /// How far demand must exceed what runs to be a surge: 2 is twice. During a surge nothing is scaled down.
        surge_threshold: f64 = d.surge_threshold,
        /// By how much one decision may multiply the replicas.
        max_up_rate: f64 = d.max_up_rate,
        /// By how much one decision may divide the replicas.
        max_down_rate: f64 = d.max_down_rate,
        /// How long demand must stay lower before replicas go.
        scale_down_delay: Span = duration(d.scale_down_delay),
        /// How long nothing must run, stream or wait before the last replica goes; `"kpa"` for Knative's rule.
        idle: Idle = idle(d.idle),
        /// How long a replica that goes may finish its requests.
        drain: Span = duration(d.drain),
        /// How long a request may wait for a replica.
        hold: Span = duration(d.hold),
        /// How many requests may wait.
        queue: u32 = d.queue,
    }
}

section! {
    /// When a replica is ready, and when it has failed.
    Health, d = model::Health::default() => {
        /// What is asked: `"tcp"`, `"http:/path"`, `{ http = "/path", port = 8081 }` or `{ exec = ["cmd"] }`. Default:
        /// the image's own health check where the engine can run it, else `"tcp"`.
        probe: Probe,
        /// Between two checks of a ready replica.
        interval: Span = duration(d.interval),
        /// For one check.
        timeout: Span = duration(d.timeout),
        /// Checks in a row that a ready replica must fail to be replaced.
        failures: u32 = d.failures,
        /// Checks in a row that a starting replica must pass to be ready.
        successes: u32 = d.successes,
        /// From start to ready; after that the start has failed.
        start_deadline: Span = duration(d.start_deadline),
    }
}

section! {
    /// A probe as a table: either `http` (with or without `port`) or `exec`.
    ProbeTable => {
        /// The path of a GET that must answer 2xx or 3xx.
        http: Text,
        /// Another port than the service's, for `http`.
        port: Port,
        /// A command in the container that must end with 0.
        exec: Vec<At<Text>>,
    }
}

section! {
    /// How requests are sent to replicas.
    Upstream, d = model::Upstream::default() => {
        /// For a connection to a replica.
        connect_timeout: Span = duration(d.connect_timeout),
        /// From the request's headers to the response's.
        first_byte_timeout: Span = duration(d.first_byte_timeout),
        /// How long an unused connection is kept; less than the service keeps it.
        idle_connection: Span = duration(d.idle_connection),
        /// Whether paths with encoded slashes or backslashes are passed on instead of refused.
        allow_encoded_slashes: bool = d.allow_encoded_slashes,
    }
}

section! {
    /// How a new version is tried, and how many old ones are kept.
    Rollout, d = model::Rollout::default() => {
        /// The percentages of requests that the new version gets, one after the other, as in `[10, 50, 100]`. The last is
        /// 100.
        steps: Vec<At<u32>> = percentages(&d.steps),
        /// How long each step lasts.
        every: Span = duration(d.every),
        /// How much larger the new version's share of failed requests may be than the old one's before it is taken back.
        margin: Percent = d.margin.fraction(),
        /// Failed replicas of the new version that take it back.
        failures: u32 = d.failures,
        /// Old versions that are kept for `tidegate rollback`.
        keep: u32 = d.keep,
    }
}

section! {
    /// What becomes of replicas that are not needed: first frozen, then stopped, then removed. Default: removed at once.
    Sleep => {
        /// How long a replica is kept with its processes stopped in place and its memory kept. It wakes in milliseconds.
        frozen: Span,
        /// How long a replica is kept with its processes gone and its container kept. It wakes faster than a new one.
        stopped: Span,
    }
}

/// Shares as the file would say them.
fn percentages(shares: &[Percent]) -> Vec<u32> {
    shares.iter().map(|share| share.whole()).collect()
}

/// A duration as the file would say it.
fn duration(duration: std::time::Duration) -> String {
    const DAY: u64 = 24 * 3600;
    let seconds = duration.as_secs();
    if duration.subsec_nanos() == 0 && seconds > 0 && seconds.is_multiple_of(DAY) {
        format!("{}d", seconds / DAY)
    } else if duration.subsec_nanos() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}

/// A rule for the last replica as the file would say it.
fn idle(idle: Idle) -> String {
    match idle {
        Idle::After(length) => duration(length),
        Idle::Kpa => "kpa".into(),
    }
}

/// Implements [`Decode`] and the schema for a value that is a text or else a table.
macro_rules! text_or_table {
    ($(#[$doc:meta])* $name:ident, $table:ty, $title:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub(crate) enum $name {
            /// As one text.
            Text(Text),
            /// As a table.
            Table(Box<$table>),
        }

        impl Decode for $name {
            fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
                match &node.kind {
                    Kind::Text(text) if !text.trim_start().starts_with('{') => {
                        Text::decode(node, key, problems).map(Self::Text)
                    }
                    Kind::Text(_) | Kind::Table(_) => {
                        Decode::decode(node, key, problems).map(|table| Self::Table(Box::new(table)))
                    }
                    _ => {
                        let keys = <$table>::KEYS.join(", ");
                        problems.push(mismatch(node, key, &format!("text, or a table with keys from: {keys}")));
                        None
                    }
                }
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let table = generator.subschema_for::<$table>();
                json_schema!({ "title": $title, "anyOf": [{ "type": "string" }, table] })
            }
        }
    };
}
text_or_table! {
    /// What is asked of a replica.
    Probe, ProbeTable, "text or table"
}
text_or_table! {
    /// A named volume or a folder of the host.
    Mount, MountTable, "text or table"
}
text_or_table! {
    /// Where a secret's value is.
    SecretFile, SecretTable, "text or table"
}
