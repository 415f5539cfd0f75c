//! Watches the file's folder (editors and config maps replace files by renames), loads what changed, and hands a good
//! model to the control loop. A bad file changes nothing and says why.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use metrics::counter;
use notify_debouncer_full::{DebounceEventResult, new_debouncer, notify::RecursiveMode};
use tidegate_config::{Change, model::Model};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{control, telemetry};

/// Changes that come within this time are one.
const SETTLE: Duration = Duration::from_millis(200);

/// Loads the file again, with the environment that the gateway started with.
pub type Loader = Arc<dyn Fn() -> Result<Model, tidegate_config::Problems> + Send + Sync>;

/// Reloads whenever the file changes or `again` asks, until `stop`.
pub async fn run(
    file: PathBuf,
    load: Loader,
    mut again: mpsc::Receiver<()>,
    control: control::Handle,
    stop: CancellationToken,
) {
    let (changed, mut changes) = mpsc::channel(1);
    let watcher = watch(&file, changed);
    if let Err(error) = &watcher {
        tracing::warn!(file = %file.display(), %error, "cannot watch the file; send SIGHUP after a change");
    }
    let mut text = std::fs::read(&file).ok();
    loop {
        // Both channels are cancel-safe: what is not taken stays queued.
        let asked = tokio::select! {
            () = stop.cancelled() => return,
            Some(()) = changes.recv() => false,
            Some(()) = again.recv() => true,
        };
        let now = std::fs::read(&file).ok();
        // The folder's other files change too, and editors touch what they do not change.
        if !asked && now == text {
            continue;
        }
        text = now;
        reload(&load, &control).await;
    }
}

async fn reload(load: &Loader, control: &control::Handle) {
    let outcome = match load() {
        Ok(model) => match control.change(Arc::new(model)).await {
            Ok(changes) => {
                tracing::info!(changes = %words(&changes), "file reloaded");
                "ok"
            }
            Err(ended) => return tracing::debug!(%ended, "not reloaded"),
        },
        Err(problems) => {
            tracing::error!(
                "the changed file is not used, the gateway goes on with the last good one:\n{problems}"
            );
            "bad"
        }
    };
    counter!(telemetry::RELOADS, "outcome" => outcome).increment(1);
}

fn words(changes: &[Change]) -> String {
    let word = |change: &Change| match change {
        Change::Add(service) => format!("added {}", service.name),
        Change::Update { service, launch: true } => format!("new revision of {}", service.name),
        Change::Update { service, launch: false } => format!("new settings of {}", service.name),
        Change::Remove(name) => format!("removed {name}"),
        Change::Gateway => "new settings of the gateway".into(),
        Change::NeedsRestart { key } => format!("{key} needs a restart"),
    };
    if changes.is_empty() { "none".into() } else { changes.iter().map(word).collect::<Vec<_>>().join(", ") }
}

type Watcher = notify_debouncer_full::Debouncer<
    notify_debouncer_full::notify::RecommendedWatcher,
    notify_debouncer_full::RecommendedCache,
>;

fn watch(file: &Path, changed: mpsc::Sender<()>) -> Result<Watcher, notify_debouncer_full::notify::Error> {
    let tell = move |result: DebounceEventResult| {
        if result.is_ok() {
            // One that waits already covers this one.
            let _ = changed.try_send(());
        }
    };
    let mut watcher = new_debouncer(SETTLE, None, tell)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}
