//! How a running gateway lets go of what only one can have (control loop, admin API, lock), and takes it back. Called by
//! [`handover`](crate::handover); the data plane serves all the while.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::App;
use crate::{admin, clock, handover, sockets::Socket, state_dir::StateDir};

/// How long connections over HTTP/1 may wait for their last request, so that they end with an answer. One on which
/// nothing came for so long is closed.
const LAST_REQUEST_WITHIN: Duration = Duration::from_secs(5);

impl App {
    /// Waits until somebody wants to take over. Cancel-safe.
    pub async fn asked_for(&mut self) -> handover::Request {
        match self.asked.recv().await {
            Some(request) => request,
            // Nobody may ask, or nobody can any more.
            None => std::future::pending().await,
        }
    }

    /// Which start on its state directory this is.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The file that it serves, as one word.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.standing.as_ref().map_or_else(|| self.fingerprint.clone(), |standing| standing.fingerprint())
    }

    /// Its listening sockets, to be passed on.
    ///
    /// # Errors
    /// When this process has no more file descriptors.
    pub(crate) fn passing(&self) -> std::io::Result<Vec<Socket>> {
        let requests = self.passing.iter().map(Socket::duplicate);
        requests.chain(self.doors.duplicates()?.into_iter().map(Ok)).collect()
    }

    /// Closes the admin API, stops the control loop and waits for its calls.
    pub(crate) async fn pause(&mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        // After those: they say goodbye to the loop.
        self.halt.cancel();
        while let Some(ended) = self.running.join_next().await {
            match ended {
                Ok(mut standing) => {
                    standing.quiesce().await;
                    self.standing = Some(standing);
                }
                Err(error) => tracing::error!(%error, "the control loop did not end well"),
            }
        }
    }

    /// Serves with the word of the gateway that answers on `path`.
    pub(crate) fn follow(&mut self, path: PathBuf) {
        self.unfollow = CancellationToken::new();
        let (fleet, bell) = (Arc::clone(&self.fleet), self.bell.clone());
        self.following.spawn(handover::follow(path, self.generation, fleet, bell, self.unfollow.clone()));
    }

    /// Undoes [`App::pause`] on a state directory that is held again.
    pub(crate) async fn resume(&mut self, state: &StateDir) {
        self.unfollow.cancel();
        while self.following.join_next().await.is_some() {}
        handover::forget_borrowed(&self.fleet);
        self.generation = state.generation;
        if let Some(standing) = &mut self.standing {
            standing.resume(state.generation);
        }
        let wanted = self.door.settings.load().metrics;
        let mut remote = self.started.gateway.admin.clone();
        if let (Some(remote), Some(address)) = (&mut remote, self.administered) {
            remote.listen = address;
        }
        // What cannot be had is missed by operators; requests are served without it.
        let admin = admin::Listeners::bind(&state.socket(), self.metrics.or(wanted), remote.as_ref()).await;
        let admin = admin.inspect_err(|error| tracing::error!(%error, "no admin API until the next start"));
        let others = handover::Server::bind(&handover::socket(state.path()));
        let others = others.inspect_err(|error| tracing::error!(%error, "no upgrades until the next start"));
        self.run(admin.ok(), others.ok());
    }

    /// Accepts nothing any more; another process does, on the same sockets.
    pub(crate) fn leave(&mut self) {
        self.passing.clear();
        self.doors.close();
        // With it end its probes and what listens to engines.
        self.standing = None;
        self.front.leave();
    }

    /// Finishes what runs, within the drain deadline, after everything was handed over. True if nothing was cut off.
    pub async fn retire(mut self) -> bool {
        self.ready.set(false);
        let drain = self.door.settings.load().drain;
        let deadline = clock::now() + drain;
        self.front.drained(LAST_REQUEST_WITHIN.min(drain)).await;
        self.front.stop_accepting();
        let clean = self.finish(deadline).await;
        self.end().await;
        clean
    }
}
