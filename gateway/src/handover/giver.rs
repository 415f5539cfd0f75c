//! The running gateway's side of a handover: it stands still, gives lock and sockets away, and either leaves or, if the
//! other one does not come to serve, goes on as before. Its data plane serves all the while.

use std::{io, os::fd::AsFd, path::PathBuf, time::Duration};

use super::{
    leader::Request,
    wire::{Answer, Handed, Serving, Socket},
};
use crate::{
    app::App,
    state_dir::{self, StateDir},
};

/// How long the new gateway may take until it serves: engines are asked and replicas probed in that time.
const SERVING_WITHIN: Duration = Duration::from_secs(30);

/// Between two tries to get the lock back.
const AGAIN: Duration = Duration::from_millis(100);

/// What became of a handover.
#[derive(Debug)]
pub enum Outcome {
    /// The other process is the gateway; this one finishes what it has, see [`App::retire`].
    Given,
    /// It was taken back; everything is as before.
    TakenBack(StateDir),
}

/// Hands everything over to whoever asks.
///
/// # Errors
/// When it has to be taken back and cannot be: the state directory cannot be written any more.
pub async fn hand_over(
    app: &mut App,
    state: StateDir,
    request: Request,
) -> Result<Outcome, state_dir::Error> {
    let path = state.path().to_owned();
    tracing::info!(pid = request.pid, version = request.version, "handing over");
    app.pause().await;
    if app.fingerprint() != request.fingerprint {
        tracing::info!("the new gateway serves another file than this one; its changes come with it");
    }
    // Before the sockets go: whoever has them may take the lock.
    drop(state);
    app.follow(super::socket(&path));
    match give(app, request).await {
        Ok(()) => {
            app.leave();
            tracing::info!("handed over; finishing what runs");
            Ok(Outcome::Given)
        }
        Err(error) => {
            tracing::error!(%error, "the new gateway does not serve; going on without it");
            take_back(app, path).await.map(Outcome::TakenBack)
        }
    }
}

async fn give(app: &App, request: Request) -> io::Result<()> {
    let mut channel = request.channel;
    let sockets = app.passing()?;
    let handed = Handed {
        generation: app.generation(),
        sockets: sockets
            .iter()
            .map(|socket| Socket { name: "http".into(), configured: socket.configured })
            .collect(),
        fingerprint: app.fingerprint(),
    };
    let fds: Vec<_> = sockets.iter().map(|socket| socket.listener.as_fd()).collect();
    channel.writer.send_with(&Answer::Handed(handed), &fds).await?;
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("not within {SERVING_WITHIN:?}"));
    let serving = tokio::time::timeout(SERVING_WITHIN, channel.reader.receive::<Serving>());
    let serving = serving.await.map_err(|_| late())??;
    serving.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "it ended"))?;
    channel.writer.send(&Answer::Yielded).await
}

/// Gets the lock back and goes on. As long as the other process lives and has it, that one is the gateway: it lets go
/// as soon as it sees that we are alive and have not yielded.
async fn take_back(app: &mut App, path: PathBuf) -> Result<StateDir, state_dir::Error> {
    let state = loop {
        match StateDir::take(&path) {
            Err(state_dir::Error::Held { .. }) => tokio::time::sleep(AGAIN).await,
            other => break other?,
        }
    };
    app.resume(&state).await;
    tracing::info!(generation = state.generation, "taken back");
    Ok(state)
}
