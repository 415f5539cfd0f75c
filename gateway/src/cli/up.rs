//! `tidegate up`: everything that can fail, in the order in which people want to hear of it; then runs until told to stop.

use std::{collections::BTreeMap, path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tidegate_config::{
    model::{Engine, Host, Model},
    name::HostName,
};
use tidegate_runner::{Runner, docker};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Up;
use crate::{
    admin,
    app::{App, Parts},
    control,
    listener::Sockets,
    reload::Loader,
    state_dir::StateDir,
    telemetry,
};

/// Bounds of the histograms, in seconds: from a proxied request to a slow start.
const BUCKETS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// How often old samples are folded into the histograms.
const UPKEEP: Duration = Duration::from_secs(5);

/// Runs the gateway until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps it from starting, with what to do about it.
pub(super) fn run(args: &Up) -> anyhow::Result<ExitCode> {
    let file = super::config_file(args.config.as_deref())?;
    let model = match load(&file) {
        Ok(model) => Arc::new(model),
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(ExitCode::from(2));
        }
    };
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot make the control runtime")?;
    control.block_on(serve(args, &file, model))
}

fn load(file: &Path) -> Result<Model, tidegate_config::Problems> {
    tidegate_config::load(file, super::environment())
}

async fn serve(args: &Up, file: &Path, model: Arc<Model>) -> anyhow::Result<ExitCode> {
    // First of all: from here on a signal is never lost, and SIGHUP never ends us.
    let mut signals = Signals::register()?;
    let state = take_state(args, &model)?;
    let sockets = Sockets::bind(&model.gateway.listen)?;
    let admin = admin::Listeners::bind(&state.socket(), model.gateway.metrics).await?;
    let runners = runners(&model, &state).await?;
    let metrics = install_metrics()?;
    let reloaded = file.to_owned();
    let loader: Loader = Arc::new(move || load(&reloaded));
    let app = App::start(Parts {
        model: Arc::clone(&model),
        runners,
        sockets,
        admin,
        metrics: metrics.clone(),
        generation: state.generation,
        keeper: state.keeper()?,
        file: Some((file.to_owned(), loader)),
        threads: threads(),
    })
    .context("cannot start serving")?;
    tokio::select! {
        settled = settle(&app, args, &model) => settled?,
        () = signals.stop() => return stop(app, signals).await,
    }
    let mut upkeep = tokio::time::interval(UPKEEP);
    loop {
        // Cancel-safe: a signal that is not taken stays pending, a tick that is due stays due.
        tokio::select! {
            _ = upkeep.tick() => metrics.run_upkeep(),
            asked = signals.next() => match asked {
                Asked::Reload => app.reload(),
                Asked::Stop => return stop(app, signals).await,
            },
        }
    }
}

fn take_state(args: &Up, model: &Model) -> anyhow::Result<StateDir> {
    let path = args.state.clone().or(model.gateway.state.clone()).unwrap_or_else(super::default_state);
    let state = StateDir::take(&path)?;
    tracing::info!(state = %state.path().display(), instance = %state.instance, generation = state.generation, "state");
    Ok(state)
}

/// A worker thread for each core.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

async fn settle(app: &App, args: &Up, model: &Model) -> anyhow::Result<()> {
    if !args.no_prepull {
        println!("tidegate: looking at {} service(s) and their images ...", model.services.len());
    }
    tokio::select! {
        settled = app.settle(!args.no_prepull) => settled?,
        ended = tell_pulls(app) => ended?,
    }
    let statuses = app.control().status().await?;
    print!("{}", super::welcome::text(model, app.addresses(), app.metrics_address(), &statuses));
    Ok(())
}

/// Says how far each download is, whenever that has changed.
async fn tell_pulls(app: &App) -> Result<(), control::Ended> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut told = BTreeMap::new();
    loop {
        ticks.tick().await;
        for status in app.control().status().await?.into_iter().filter(|status| status.state == "pulling") {
            let before = told.insert(status.service.clone(), status.reason.clone());
            if before.as_ref() != Some(&status.reason) {
                println!("  {}: {}", status.service, status.reason);
            }
        }
    }
}

/// One runner per host; the engine that `auto` turns out to be is remembered, and later starts never switch.
async fn runners(model: &Model, state: &StateDir) -> anyhow::Result<BTreeMap<HostName, Arc<dyn Runner>>> {
    let mut runners: BTreeMap<HostName, Arc<dyn Runner>> = BTreeMap::new();
    for host in &model.hosts {
        remember_engine(host, state)?;
        let options = docker::Options {
            endpoint: host.endpoint.clone(),
            instance: state.instance.clone(),
            subnet: model.gateway.subnet,
            host: host.name.clone(),
        };
        let docker = docker::Docker::connect(options).await.with_context(|| format!("host {}", host.name))?;
        runners.insert(host.name.clone(), Arc::new(docker));
    }
    Ok(runners)
}

fn remember_engine(host: &Host, state: &StateDir) -> anyhow::Result<()> {
    let key = format!("engine-{}", host.name);
    let before = state.recall(&key)?;
    if before.is_none() {
        let how = match host.engine {
            Engine::Auto => "chosen automatically",
            Engine::Docker => "as the file says",
        };
        println!("tidegate: host {} runs its containers with Docker ({how})", host.name);
        state.remember(&key, "docker")?;
    }
    Ok(())
}

fn install_metrics() -> anyhow::Result<PrometheusHandle> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS)
        .context("histogram bounds")?;
    let handle = builder.install_recorder().context("cannot install the metrics recorder")?;
    telemetry::describe();
    Ok(handle)
}

/// The signals that people and service managers send.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn register() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("SIGINT")?,
            hangup: signal(SignalKind::hangup()).context("SIGHUP")?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// Waits for SIGTERM or SIGINT; reloads meanwhile would come too late or too early.
    async fn stop(&mut self) {
        while !matches!(self.next().await, Asked::Stop) {}
    }
}

/// What a signal asks for.
enum Asked {
    Stop,
    Reload,
}

/// Finishes what runs, or stops at once on a second signal.
async fn stop(app: App, mut signals: Signals) -> anyhow::Result<ExitCode> {
    tracing::info!("stopping: no new connections, what runs may finish");
    tokio::select! {
        clean = app.stop() => {
            if !clean {
                tracing::warn!("the drain deadline passed; connections that were still open are cut off");
            }
        }
        () = signals.stop() => tracing::warn!("stopping at once"),
    }
    Ok(ExitCode::SUCCESS)
}
