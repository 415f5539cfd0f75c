//! `tidegate up`: everything that can fail, in the order in which people want to hear of it; then runs until told to stop.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tidegate_config::{Problems, model::Model};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};

use super::{Up, engines};
use crate::{
    admin,
    app::{App, Parts},
    control,
    handover::{self, Outcome, systemd},
    listener::Sockets,
    notes,
    reload::{self, Loader},
    state_dir::{self, StateDir},
    tcp::doors,
    telemetry,
    tls::Tls,
};

/// Bounds of the histograms, in seconds: from a proxied request to a slow start.
const BUCKETS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// How often, and how many times, the lock is tried that another gateway has just let go.
const LOCK_AGAIN: Duration = Duration::from_millis(50);
const LOCK_TRIES: u32 = 100;

/// What tells a new process to take over.
const TAKE_OVER: &str = "--take-over";

/// How often old samples are folded into the histograms.
const UPKEEP: Duration = Duration::from_secs(5);

/// Runs the gateway until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps it from starting, with what to do about it.
pub(super) fn run(args: &Up) -> anyhow::Result<ExitCode> {
    let file = super::config_file(args.file.as_deref().or(args.config.as_deref()))?;
    let model = match load(&file) {
        Ok(model) => Arc::new(model),
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(ExitCode::from(2));
        }
    };
    notes::log(&model);
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot make the control runtime")?;
    control.block_on(serve(args, &file, model))
}

fn load(file: &Path) -> Result<Model, Problems> {
    tidegate_config::load(file, super::environment())
}

/// Without an engine nothing can be started; one is looked for at the start only.
fn reload(file: &Path, no_engine: bool) -> Result<Model, Problems> {
    let model = load(file)?;
    if no_engine && model.needs_engine() {
        let problem =
            "has a service with an image now, and this gateway was started without an engine".to_owned();
        let help = "restart it, or upgrade it in place with SIGQUIT".to_owned();
        return Err(Problems::whole(&file.display().to_string(), problem, Some(help)));
    }
    Ok(model)
}

async fn serve(args: &Up, file: &Path, model: Arc<Model>) -> anyhow::Result<ExitCode> {
    // First of all: from here on a signal is never lost, and SIGHUP never ends us.
    let mut signals = Signals::register()?;
    let program = Program::remember()?;
    let (app, state, metrics) = start(args, file, &model).await?;
    systemd::notify(systemd::State::Ready);
    tokio::select! {
        settled = settle(&app, args, &model) => settled?,
        () = signals.stop() => return stop(app, signals).await,
    }
    attend(app, state, &metrics, signals, &program).await
}

/// Builds the gateway, or takes it over from the one that runs, and serves.
async fn start(
    args: &Up,
    file: &Path,
    model: &Arc<Model>,
) -> anyhow::Result<(App, StateDir, PrometheusHandle)> {
    let path = args.state.clone().or(model.gateway.state.clone()).unwrap_or_else(super::default_state);
    let mut passed = systemd::passed()?;
    let mut taken = take_over(args, &path, model).await?;
    let state = take_state(&path, taken.is_some()).await?;
    passed.extend(taken.iter_mut().flat_map(handover::Taken::sockets));
    let tls = Arc::new(Tls::load(model)?);
    let listeners = model.gateway.listen.iter().map(|listener| listener.address);
    let addresses: Vec<_> = listeners.chain(doors::addresses(model)).collect();
    let mut sockets = Sockets::gather(&addresses, passed)?;
    let streams = sockets.split_off(model.gateway.listen.len());
    let admin =
        admin::Listeners::bind(&state.socket(), model.gateway.metrics, model.gateway.admin.as_ref()).await?;
    let others =
        handover::Server::bind(&handover::socket(&path)).context("cannot listen for other gateways")?;
    let runners = engines::runners(model, &state).await?;
    let metrics = install_metrics()?;
    let (reloaded, no_engine) = (file.to_owned(), runners.is_empty());
    let loader: Loader = Arc::new(move || reload(&reloaded, no_engine));
    let app = App::build(Parts {
        model: Arc::clone(model),
        runners,
        sockets,
        streams,
        admin,
        handover: Some(others),
        metrics: metrics.clone(),
        generation: state.generation,
        keeper: state.keeper()?,
        tls,
        folder: path.clone(),
        file: Some(reload::Source { file: file.to_owned(), load: loader }),
        threads: threads(),
    })
    .context("cannot start serving")?;
    match taken {
        Some(taken) => taken.serve(&app).await?,
        None => app.open(),
    }
    Ok((app, state, metrics))
}

/// Asks the running gateway for everything, if that is wanted and one runs.
async fn take_over(args: &Up, path: &Path, model: &Model) -> anyhow::Result<Option<handover::Taken>> {
    if !args.take_over {
        return Ok(None);
    }
    let taken = handover::take_over(&handover::socket(path), handover::fingerprint(model)).await?;
    match &taken {
        Some(_) => tracing::info!("taking over from the running gateway"),
        None => tracing::info!(state = %path.display(), "no gateway to take over from; starting as usual"),
    }
    Ok(taken)
}

/// Takes the state directory; after a handover its lock may be free a moment later.
async fn take_state(path: &Path, handed: bool) -> anyhow::Result<StateDir> {
    let mut tries = tokio::time::interval(LOCK_AGAIN);
    for left in (0..if handed { LOCK_TRIES } else { 1 }).rev() {
        tries.tick().await;
        match StateDir::take(path) {
            Err(state_dir::Error::Held { .. }) if left > 0 => {}
            taken => {
                let state = taken?;
                tracing::info!(state = %path.display(), instance = %state.instance, generation = state.generation, "state");
                return Ok(state);
            }
        }
    }
    unreachable!("the last try returns")
}

/// Serves until told to stop, or until another process has taken over and everything here is finished.
async fn attend(
    mut app: App,
    mut state: StateDir,
    metrics: &PrometheusHandle,
    mut signals: Signals,
    program: &Program,
) -> anyhow::Result<ExitCode> {
    let (mut upkeep, mut successors) = (tokio::time::interval(UPKEEP), JoinSet::new());
    loop {
        // Cancel-safe: a signal or a request that is not taken stays pending, a tick that is due stays due.
        tokio::select! {
            _ = upkeep.tick() => metrics.run_upkeep(),
            asked = signals.next() => match asked {
                Asked::Reload => {
                    systemd::notify(systemd::State::Reloading);
                    app.reload();
                    systemd::notify(systemd::State::Ready);
                }
                Asked::Stop => return stop(app, signals).await,
                Asked::Upgrade => program.start_successor(&mut successors),
            },
            request = app.asked_for() => {
                let pid = request.pid;
                let handed = tokio::select! {
                    handed = handover::hand_over(&mut app, state, request) => handed?,
                    () = signals.stop() => return stop(app, signals).await,
                };
                match handed {
                    Outcome::TakenBack(again) => state = again,
                    Outcome::Given => {
                        systemd::notify(systemd::State::MainPid(pid));
                        return retire(app, signals).await;
                    }
                }
            }
            Some(_) = successors.join_next() => {}
        }
    }
}

/// A worker thread for each core.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

async fn settle(app: &App, args: &Up, model: &Model) -> anyhow::Result<()> {
    if !args.no_prepull {
        say(&format!(
            "tidegate: looking at {} service(s) and what they run from ...\n",
            model.services.len()
        ));
    }
    tokio::select! {
        settled = app.settle(!args.no_prepull) => settled?,
        ended = tell_pulls(app) => ended?,
    }
    let statuses = app.control().status().await?;
    say(&super::welcome::text(model, app.addresses(), app.metrics_address(), &statuses));
    Ok(())
}

/// Tells people. Whoever started us may have gone, and with it our standard output: a successor inherits that too.
pub(super) fn say(text: &str) {
    let mut output = std::io::stdout().lock();
    drop(output.write_all(text.as_bytes()).and_then(|()| output.flush()));
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
                say(&format!("  {}: {}\n", status.service, status.reason));
            }
        }
    }
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
    quit: Signal,
    /// SIGQUIT came while something else was under way.
    upgrade: bool,
}

impl Signals {
    fn register() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("SIGINT")?,
            hangup: signal(SignalKind::hangup()).context("SIGHUP")?,
            quit: signal(SignalKind::quit()).context("SIGQUIT")?,
            upgrade: false,
        })
    }

    async fn next(&mut self) -> Asked {
        if std::mem::take(&mut self.upgrade) {
            return Asked::Upgrade;
        }
        self.heard().await
    }

    async fn heard(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.quit.recv() => Asked::Upgrade,
        }
    }

    /// Waits for SIGTERM or SIGINT. Reloads meanwhile would come too late or too early; an upgrade waits its turn.
    async fn stop(&mut self) {
        loop {
            match self.heard().await {
                Asked::Stop => return,
                Asked::Reload => {}
                Asked::Upgrade => self.upgrade = true,
            }
        }
    }
}

/// What a signal asks for.
enum Asked {
    Stop,
    Reload,
    Upgrade,
}

/// Finishes what runs, or stops at once on a second signal.
async fn stop(app: App, mut signals: Signals) -> anyhow::Result<ExitCode> {
    tracing::info!("stopping: no new connections, what runs may finish");
    systemd::notify(systemd::State::Stopping);
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

/// Finishes what runs after another process has taken over.
async fn retire(app: App, mut signals: Signals) -> anyhow::Result<ExitCode> {
    tokio::select! {
        clean = app.retire() => {
            if !clean {
                tracing::warn!("the drain deadline passed; connections that were still open are cut off");
            }
        }
        () = signals.stop() => tracing::warn!("stopping at once; the new gateway serves on"),
    }
    Ok(ExitCode::SUCCESS)
}

/// How this process was started, to be started again. Looked at early: a program that was replaced on disk meanwhile is
/// then found under its own name.
struct Program {
    path: PathBuf,
    args: Vec<OsString>,
}

impl Program {
    fn remember() -> anyhow::Result<Self> {
        let path = std::env::current_exe().context("cannot tell which program this is")?;
        let mut args: Vec<OsString> = std::env::args_os().skip(1).filter(|arg| arg != TAKE_OVER).collect();
        args.push(TAKE_OVER.into());
        Ok(Self { path, args })
    }

    /// Starts it again, beside this one. It asks for everything by itself; if it ends instead, that is told here.
    fn start_successor(&self, successors: &mut JoinSet<()>) {
        let mut command = tokio::process::Command::new(&self.path);
        command.args(&self.args);
        for name in systemd::VARIABLES {
            command.env_remove(name);
        }
        match command.spawn() {
            Ok(mut child) => {
                tracing::info!(program = %self.path.display(), pid = child.id(), "starting the new gateway");
                successors.spawn(async move {
                    match child.wait().await {
                        // It may have been replaced in turn, long ago.
                        Ok(status) if status.success() => {
                            tracing::debug!("a gateway that was started here has ended")
                        }
                        Ok(status) => tracing::error!(%status, "the new gateway has ended"),
                        Err(error) => tracing::error!(%error, "the new gateway"),
                    }
                });
            }
            Err(error) => {
                tracing::error!(program = %self.path.display(), %error, "cannot start the new gateway; this one goes on");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_engine_nothing_is_taken_up_that_needs_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("tidegate.toml");
        for (text, no_engine, good) in [
            ("services.a.upstreams = ['10.0.0.5:80']", true, true),
            ("services.a.image = 'a:1'", true, false),
            ("services.a.image = 'a:1'", false, true),
            ("", true, false),
        ] {
            std::fs::write(&file, text).expect("a temporary file");
            assert_eq!(reload(&file, no_engine).is_ok(), good, "{text} {no_engine}");
        }
    }
}
