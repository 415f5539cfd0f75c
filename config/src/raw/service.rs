//! A service, what is sent to it, and how one version follows another.

use super::{
    balance::Balance,
    duration,
    launch::{Mount, Resources, SecretFile},
    middleware::{Middleware, RouteMiddleware},
    percentages,
    traffic::{Health, Scaling, Upstream},
    wake::Wake,
};
use crate::{
    decode::{
        At, Named,
        leaf::{Loose, OneOrMany, Port, Span, Text, Wanted},
        section,
    },
    model::{self, Placement, Update},
    spec::{self, Profile, Protocol, Pull},
    units::Percent,
};

section! {
    /// A service.
    Service, d = spec::Launch::of("") => {
        /// An image reference as in `nginx:1.27`, or `docker-archive:FILE` (what `docker save` writes), or for the embedded
        /// engine `oci:DIR` or `oci-archive:FILE`; relative to this file's folder. Required, unless there are `upstreams`.
        image: Text,
        /// Addresses that requests are sent to instead of replicas, as in `["10.0.0.5:8080", "app.internal:8080"]`.
        /// Nothing is started for them; each gets requests while it passes the probe. Names are resolved again when
        /// their time is up.
        upstreams: Vec<At<Text>>,
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
        /// What the service speaks: HTTP/1.1, HTTP/2 without TLS, or something else over TCP, which needs `listen` or `sni`.
        protocol: Protocol = d.protocol,
        /// Named volumes and folders of the host, as `"SOURCE:TARGET"` or `"SOURCE:TARGET:ro"`, or as tables. Folders
        /// must be below one of `gateway.allow_mounts`. `{ target = "/cache", tmpfs = "64MiB" }` is an empty one in memory.
        /// A Kubernetes also mounts what it has: `"configmap/settings:/etc/app:ro"`, `"secret/tls:/tls:ro"`.
        volumes: Vec<At<Mount>> = d.volumes,
        /// How far a replica is locked in. `strict`: no capabilities, a read-only root, a user that is not root.
        profile: Profile = d.profile,
        /// What labels of a host must be, as in `{ disk = "ssd", zone = ["a", "b"], rack = "!9" }`: a value, one of several, or
        /// anything but one (or several) that begin with `!`.
        constraints: Named<At<Wanted>> = serde_json::Map::new(),
        /// The hosts that it may run on, in the order in which they are filled, as in `["local", "swarm"]`: the next one
        /// takes over when one is full or lost. Default: all, as `placement` says.
        run_on: Vec<At<Text>> = Vec::<String>::new(),
        /// How replicas are laid over hosts: wide or tight.
        placement: Placement = "spread",
        /// How one version follows another: `rolling` starts the new one beside the old one; `recreate` ends the old one
        /// first, and requests wait meanwhile. Default: `recreate` with a volume that is written to and not `shared`, else
        /// `rolling`.
        update: Update,
        /// With `protocol = "tcp"`: where its connections arrive, as in `"0.0.0.0:5432"`; one address or several.
        listen: OneOrMany<Text>,
        /// With `protocol = "tcp"`: server names of connections over TLS that are passed on as they are, from the gateway's
        /// own listeners for TLS, as in `["db.example.org"]`.
        sni: Vec<At<Text>> = Vec::<String>::new(),
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
        /// What is done with requests and responses on all routes.
        middleware: Middleware,
        /// Which replica gets a request, and which gets none for a while.
        balance: Balance,
        /// How a new version is tried, and how many old ones are kept.
        rollout: Rollout,
        /// What becomes of replicas that are not needed.
        sleep: Sleep,
        /// Who wakes it, and how often.
        wake: Wake,
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
        /// What is done with requests and responses: the keys of `[services.NAME.middleware]`, each instead of that of the
        /// service.
        middleware: RouteMiddleware,
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
