//! Watches the file's folder and those of certificates (editors, config maps and ACME clients replace files by renames),
//! loads what changed, and hands a good model to the control loop and good certificates to the listeners. A bad file changes
//! nothing and says why.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use metrics::counter;
use notify_debouncer_full::{DebounceEventResult, new_debouncer, notify::RecursiveMode};
use sha2::{Digest, Sha256};
use tidegate_config::{Change, model::Model};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{control, notes, tcp::doors::Doors, telemetry, tls::Tls};

/// Changes that come within this time are one.
const SETTLE: Duration = Duration::from_millis(200);

/// Loads the file again, with the environment that the gateway started with.
pub type Loader = Arc<dyn Fn() -> Result<Model, tidegate_config::Problems> + Send + Sync>;

/// What can be loaded again.
#[derive(Clone)]
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// How it is loaded.
    pub load: Loader,
}

/// Who takes up what has changed, besides the control loop.
#[derive(Debug, Clone)]
pub struct Takers {
    /// Certificates.
    pub tls: Arc<Tls>,
    /// Listeners of TCP services.
    pub doors: Arc<Doors>,
}

/// Reloads whenever the file or a certificate changes or `again` asks, until `stop`.
pub async fn run(
    Source { file, load }: Source,
    mut again: mpsc::Receiver<()>,
    control: control::Handle,
    Takers { tls, doors }: Takers,
    stop: CancellationToken,
) {
    let (changed, mut changes) = mpsc::channel(1);
    let mut watch = Watch::new(changed);
    let (mut text, mut keys) = (std::fs::read(&file).ok(), fingerprint(&tls.files()));
    loop {
        watch.folders(&file, &tls.files());
        // Both channels are cancel-safe: what is not taken stays queued.
        let asked = tokio::select! {
            () = stop.cancelled() => return,
            Some(()) = changes.recv() => false,
            Some(()) = again.recv() => true,
        };
        let (new_text, new_keys) = (std::fs::read(&file).ok(), fingerprint(&tls.files()));
        // The folders' other files change too, and editors touch what they do not change.
        if asked || new_text != text {
            text = new_text;
            reload(&load, &control, &tls, &doors).await;
            // It may name others by now.
            keys = fingerprint(&tls.files());
        } else if new_keys != keys {
            keys = new_keys;
            renew(&tls);
        }
    }
}

/// Whatever can fail does so before anything changes.
async fn reload(load: &Loader, control: &control::Handle, tls: &Tls, doors: &Doors) {
    let loaded = load().map_err(|problems| problems.to_string()).and_then(|model| {
        let prepared = tls.prepare(&model).map_err(|troubles| troubles.to_string())?;
        let bound = doors.bind(&model).map_err(|error| error.to_string())?;
        Ok((Arc::new(model), prepared, bound))
    });
    let outcome = match loaded {
        Ok((model, prepared, bound)) => match control.change(Arc::clone(&model)).await {
            Ok(changes) => {
                tls.take_up(prepared);
                if let Err(error) = doors.take_up(&model, bound) {
                    tracing::error!(%error, "not every listener of the file is open");
                }
                tracing::info!(changes = %words(&changes), "file reloaded");
                notes::log(&model);
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

/// Certificates changed in their files.
fn renew(tls: &Tls) {
    let outcome = match tls.renew() {
        Ok(()) => {
            tracing::info!("certificates read anew");
            "ok"
        }
        Err(troubles) => {
            tracing::error!(
                "changed certificates are not used, the gateway goes on with those it has:\n{troubles}"
            );
            "bad"
        }
    };
    counter!(telemetry::CERTIFICATE_RELOADS, "outcome" => outcome).increment(1);
}

/// What tells one content of files from another.
fn fingerprint(files: &BTreeSet<PathBuf>) -> Vec<u8> {
    let mut all = Sha256::new();
    for file in files {
        all.update(Sha256::digest(std::fs::read(file).unwrap_or_default()));
    }
    all.finalize().to_vec()
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

/// The folders that are watched.
struct Watch {
    watcher: Option<Watcher>,
    folders: BTreeSet<PathBuf>,
}

impl Watch {
    fn new(changed: mpsc::Sender<()>) -> Self {
        let tell = move |result: DebounceEventResult| {
            if result.is_ok() {
                // One that waits already covers this one.
                let _ = changed.try_send(());
            }
        };
        let watcher = new_debouncer(SETTLE, None, tell)
            .inspect_err(|error| tracing::warn!(%error, "cannot watch files; send SIGHUP after a change"))
            .ok();
        Self { watcher, folders: BTreeSet::new() }
    }

    /// Watches the folders of these files, and no others.
    fn folders(&mut self, file: &Path, others: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        let folder = |file: &Path| {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            folder.unwrap_or(Path::new(".")).to_owned()
        };
        let wanted: BTreeSet<_> = others.iter().map(|other| folder(other)).chain([folder(file)]).collect();
        for gone in self.folders.difference(&wanted) {
            // It may have been removed, and with it its watch.
            drop(watcher.unwatch(gone));
        }
        for new in wanted.difference(&self.folders) {
            if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::warn!(folder = %new.display(), %error, "cannot watch it; send SIGHUP after a change");
            }
        }
        self.folders = wanted;
    }
}
