//! How many replicas run, when they count as well, and how requests are sent to them.

use super::{duration, text_or_table, worth};
use crate::{
    decode::{
        At,
        leaf::{Port, Span, Text},
        section,
    },
    model::{self, Idle, Law},
    units::Percent,
};

section! {
    /// How many replicas run.
    Scaling, d = model::ScalingPolicy::default() => {
        /// Replicas that always run; 0: none while nobody calls.
        min: u32 = d.min,
        /// Replicas that are never exceeded.
        max: u32 = d.max,
        /// Replicas that the first request starts.
        initial: u32 = d.initial,
        /// Replicas that are kept at some times, whatever comes: `[{ cron = "0 8 * * mon-fri", lasts = "10h", replicas = 2 }]`.
        keep_warm: Vec<At<KeepWarm>> = Vec::<String>::new(),
        /// Requests per second that a replica is good for. With any policy there are at least as many replicas as that takes.
        target_rps: f64,
        /// The share of `resources.cpu` (of one core without that) that replicas are to use. With any policy there are at least as
        /// many as that takes, while the service is awake. For engines that measure: Docker's, our own, and a Kubernetes that
        /// has a metrics API.
        target_cpu: Percent,
        /// The same for `resources.memory`.
        target_memory: Percent,
        /// How the number of replicas is worked out: `"work"` from the work that comes, what a start takes and what a late
        /// request is worth (docs/scaling.md), `"kpa"` as Knative does it, `"hpa"` as Kubernetes does it.
        policy: Law = "work",
        /// With `policy = "work"`: how long requests may wait, as in `"p95 wait < 50ms"`; `tidegate explain` says whether they do.
        goal: Text,
        /// With `policy = "work"`: the share of requests that may have to wait at all.
        wait_probability: f64,
        /// With `policy = "work"`, instead of a goal: how many seconds of a replica it may cost to spare one request a wait
        /// of more than `late_after`. More makes waiting rarer and replicas more.
        late_worth: Span = worth(),
        /// With `policy = "work"`: a request that waits longer is late.
        late_after: Span = duration(d.work.late_after),
        /// With `policy = "work"`: how long fewer replicas must do before any goes but the last, which `idle` speaks of. Where starts
        /// are slow and dear it is one and a half times as long as one takes.
        calm: Span = duration(d.work.calm),
        /// Requests that a replica gets at once; more wait. Default: no limit, and scaling as if it were 100.
        concurrency: u32,
        /// With `policy = "kpa"` or `"hpa"`: the share of `concurrency` that scaling aims at.
        target: Percent = d.target.fraction(),
        /// Over how long demand is averaged.
        stable_window: Span = duration(d.stable_window),
        /// With `policy = "kpa"`: the share of `stable_window` in which a surge is looked for.
        surge_window: Percent = d.surge_window.fraction(),
        /// With `policy = "kpa"` or `target_rps`: how far demand must exceed what runs to be a surge: 2 is twice. During a surge
        /// nothing is scaled down.
        surge_threshold: f64 = d.surge_threshold,
        /// With `policy = "kpa"`: by how much one decision may multiply the replicas.
        max_up_rate: f64 = d.max_up_rate,
        /// With `policy = "kpa"`: by how much one decision may divide the replicas.
        max_down_rate: f64 = d.max_down_rate,
        /// With `policy = "kpa"`: how long demand must stay lower before replicas go.
        scale_down_delay: Span = duration(d.scale_down_delay),
        /// How long nothing must run, stream or wait before the last replica goes. `"auto"`: with `policy = "work"` as long as
        /// the gaps between earlier requests say, and there again before the next one is likely; else 60 s. `"kpa"` for Knative's
        /// rule.
        idle: Idle = "auto",
        /// How long a replica that goes may finish its requests.
        drain: Span = duration(d.drain),
        /// How long a request may wait for a replica.
        hold: Span = duration(d.hold),
        /// How many requests may wait.
        queue: u32 = d.queue,
    }
}

section! {
    /// Replicas that are kept by the clock.
    KeepWarm => {
        /// When it begins: minute, hour, day, month and day of the week, as in crontab.
        cron: Text,
        /// For how long each time. A minute lets the expression name all the minutes: `"* 8-17 * * mon-fri"`.
        lasts: Span = "1m",
        /// How many are kept at the least.
        replicas: u32 = 1,
        /// Whose clocks are meant, as in `"Europe/Berlin"`.
        zone: Text = "UTC",
    }
}

section! {
    /// When a replica is ready, and when it has failed.
    Health, d = model::Health::default() => {
        /// What is asked: `"tcp"`, `"http:/path"`, `"grpc"`, `{ http = "/path", port = 8081 }`, `{ grpc = "pkg.Service" }`
        /// or `{ exec = ["cmd"] }`. Default: the image's own health check where the engine can run it, else `"tcp"`.
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
    /// A probe as a table: `http` or `grpc` (with or without `port`), or `exec`.
    ProbeTable => {
        /// The path of a GET that must answer 2xx or 3xx.
        http: Text,
        /// The service whose health is asked for by gRPC's health protocol (grpc.health.v1); `""` for the whole server.
        grpc: Text,
        /// Another port than the service's, for `http` and `grpc`.
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
        /// With `protocol = "tcp"`: how long nothing may move on a connection before it is closed. Default: no bound, but
        /// an end that is gone is noticed within two minutes.
        idle_timeout: Span,
        /// With `protocol = "tcp"`: whether a connection to a replica begins with a PROXY protocol header (version 2), which
        /// says who the client is.
        proxy_protocol: bool = d.proxy_protocol,
        /// Whether paths with encoded slashes or backslashes are passed on instead of refused.
        allow_encoded_slashes: bool = d.allow_encoded_slashes,
    }
}

text_or_table! {
    /// What is asked of a replica.
    Probe, ProbeTable, "text or table"
}
