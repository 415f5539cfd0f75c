//! `tidegate up`: everything that can fail, in the order in which people want to hear of it; then runs until told to stop.

use std::{collections::BTreeMap, path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tidegate_config::{
    model::{Engine, Host, Model},
    name::HostName,
};
use tidegate_runner::{Runner, docker};
use tokio::signal::unix::{SignalKind, signal};

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
        file: Some((file.to_owned(), loader)),
        threads: threads(),
    })
    .context("cannot start serving")?;
    let upkeep = async {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            metrics.run_upkeep();
        }
    };
    tokio::select! {
        settled = settle(&app, args, &model) => settled?,
        () = stop_signal()? => return stop(app).await,
    }
    tokio::select! {
        () = upkeep => {}
        () = reload_on_hangup(&app)? => {}
        () = stop_signal()? => {}
    }
    stop(app).await
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

fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn reload_on_hangup(app: &App) -> anyhow::Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            app.reload();
        }
    })
}

/// Finishes what runs, or stops at once on a second signal.
async fn stop(app: App) -> anyhow::Result<ExitCode> {
    tracing::info!("stopping: no new connections, what runs may finish");
    let again = stop_signal()?;
    tokio::select! {
        clean = app.stop() => {
            if !clean {
                tracing::warn!("the drain deadline passed; connections that were still open are cut off");
            }
        }
        () = again => tracing::warn!("stopping at once"),
    }
    Ok(ExitCode::SUCCESS)
}
