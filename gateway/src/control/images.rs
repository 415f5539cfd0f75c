//! What a service's image is on each host: looked up and downloaded when a plan says so, looked at again when somebody
//! asks or time has passed, because a tag may mean something else by then. Calls run as tasks and come back as events.

use std::{sync::Arc, time::Duration};

use tidegate_autoscaler::snapshot::Image;
use tidegate_config::{
    model::Service,
    name::{HostName, ServiceName},
    revision,
    spec::{Pull, Revision, Version},
};
use tidegate_runner::{self as runner, Prepared, PullProgress};

use super::{
    Control,
    apply::send,
    event::{About, Event, Purpose},
    history::What,
    state::{ImageState, State},
};
use crate::clock;

/// A pull that failed is tried again after this, doubled each time up to [`PULL_AGAIN_MOST`].
const PULL_AGAIN: Duration = Duration::from_secs(5);
const PULL_AGAIN_MOST: Duration = Duration::from_secs(300);

/// The port of an image that exposes none, or several.
const DEFAULT_PORT: u16 = 8080;

impl Control {
    pub(super) fn prepare(&mut self, service: &ServiceName, host: HostName) {
        let Some(handle) = self.handle(&host) else { return };
        let Some(state) = self.states.get_mut(service) else { return };
        let failures = state.images.get(&host).map_or(0, |image| image.failures);
        state.images.insert(host.clone(), ImageState::pulling(failures));
        let launch = state.fleet.settings().launch.clone();
        let about = About { service: service.clone(), host, epoch: state.epoch };
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let (told, tell) = (about.clone(), events.clone());
            // A loop that is behind misses a figure on a download's progress and nothing else.
            let progress = Arc::new(move |at| drop(tell.try_send(Event::Pulling(told.clone(), at))));
            let call = handle.runner.prepare(&launch.image, launch.pull, progress);
            let outcome = handle.call("prepare", call).await;
            send(&events, Event::Prepared(about, outcome)).await;
        });
    }

    /// Asks a host whether it has another version than the one that the settings name.
    pub(super) fn find_version(&mut self, service: &ServiceName, host: HostName, version: Version) {
        let Some(handle) = self.handle(&host) else { return };
        let Some(state) = self.states.get_mut(service) else { return };
        let key = (host.clone(), version.revision.clone());
        if state.found.contains_key(&key) {
            return;
        }
        state.found.insert(key, None);
        let about = About { service: service.clone(), host, epoch: state.epoch };
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let call = handle.runner.prepare(&version.digest.0, Pull::Never, Arc::new(|_| ()));
            let outcome = handle.call("prepare", call).await;
            send(&events, Event::Found(about, version.revision, outcome)).await;
        });
    }

    pub(super) fn found_version(
        &mut self,
        about: &About,
        revision: Revision,
        outcome: runner::Result<Prepared>,
    ) {
        let Some(state) = self.states.get_mut(&about.service) else { return };
        let key = (about.host.clone(), revision);
        match outcome {
            Ok(_) => drop(state.found.insert(key, Some(true))),
            // Asked again by the next plan that wants it.
            Err(error) if error.kind.may_pass() => drop(state.found.remove(&key)),
            Err(_) => drop(state.found.insert(key, Some(false))),
        }
        self.evaluate(&about.service, false);
    }

    /// Looks at a service's image again wherever it is present; what is in use stays in use meanwhile.
    pub(super) fn look_again(&mut self, service: &ServiceName, purpose: Purpose) {
        let Some(state) = self.states.get_mut(service) else { return };
        let present = |image: &ImageState| matches!(image.image, Image::Present { .. });
        let hosts: Vec<_> =
            state.images.iter().filter(|(_, image)| present(image)).map(|(host, _)| host.clone()).collect();
        let (launch, epoch) = (state.fleet.settings().launch.clone(), state.epoch);
        for host in hosts {
            let Some(engine) = self.engine(&host).filter(|engine| engine.is_up()) else { continue };
            let handle = engine.handle.clone();
            let pull = if purpose == Purpose::Tell { Pull::Never } else { launch.pull };
            let about = About { service: service.clone(), host: host.clone(), epoch };
            let (events, image) = (self.events.clone(), launch.image.clone());
            if purpose == Purpose::Restart
                && let Some(state) = self.states.get_mut(service)
            {
                state.restarting.insert(host);
            }
            self.tasks.spawn(async move {
                let call = handle.runner.prepare(&image, pull, Arc::new(|_| ()));
                let outcome = handle.call("prepare", call).await;
                send(&events, Event::Looked(about, purpose, outcome)).await;
            });
        }
        if purpose == Purpose::Restart {
            self.restart_if_looked(service);
        }
    }

    pub(super) fn looked(&mut self, about: &About, purpose: Purpose, outcome: runner::Result<Prepared>) {
        let Some(state) = self.states.get_mut(&about.service) else { return };
        state.restarting.remove(&about.host);
        if state.epoch == about.epoch
            && let Ok(found) = outcome
        {
            state.take_up(&about.host, purpose, found);
        }
        if purpose == Purpose::Restart {
            self.restart_if_looked(&about.service);
        }
        self.evaluate(&about.service, false);
    }

    /// Every host has been asked what the image is by now: replicas of the same content are replaced as they are, a new
    /// content replaces them by itself.
    fn restart_if_looked(&mut self, service: &ServiceName) {
        let Some(state) = self.states.get_mut(service).filter(|state| state.restarting.is_empty()) else {
            return;
        };
        if !std::mem::take(&mut state.changed_meanwhile) {
            state.asked.restart = Some(clock::now());
        }
    }

    pub(super) fn pulling(&mut self, about: &About, progress: PullProgress) {
        if let Some(image) = self.image(about) {
            image.progress = Some(progress);
        }
    }

    fn image(&mut self, about: &About) -> Option<&mut ImageState> {
        let state = self.states.get_mut(&about.service).filter(|state| state.epoch == about.epoch)?;
        state.images.get_mut(&about.host)
    }

    pub(super) fn prepared(&mut self, about: &About, outcome: runner::Result<Prepared>) {
        let Some(settings) = self.states.get(&about.service).map(|state| state.fleet.settings()) else {
            return;
        };
        let Some(image) = self.image(about) else { return };
        let words = match outcome {
            Ok(found) => {
                let words = format!("{} is {}", settings.launch.image, found.digest.short());
                *image = present(&settings, found);
                words
            }
            Err(error) => {
                image.failures += 1;
                let pause = PULL_AGAIN.saturating_mul(1 << (image.failures - 1).min(10)).min(PULL_AGAIN_MOST);
                let retry_at = error.kind.may_pass().then(|| clock::now() + pause);
                let message = tidegate_runner::chain(&error);
                tracing::warn!(service = %about.service, host = %about.host, error = %message, "no image");
                image.image = Image::Failed { message: message.clone(), retry_at };
                message
            }
        };
        if let Some(state) = self.states.get_mut(&about.service) {
            state.history.note(What::Image, words);
        }
        self.evaluate(&about.service, false);
    }
}

fn present(settings: &Service, found: Prepared) -> ImageState {
    let only = match found.exposed[..] {
        [port] => port,
        _ => DEFAULT_PORT,
    };
    let image = Image::Present {
        revision: revision(&settings.launch, &found.digest),
        digest: found.digest,
        port: settings.launch.port.unwrap_or(only),
    };
    ImageState { image, healthcheck: found.healthcheck, progress: None, failures: 0 }
}

impl State {
    /// A host does not have this version any more.
    pub(super) fn image_gone(&mut self, host: &HostName, revision: &Revision) {
        self.found.remove(&(host.clone(), revision.clone()));
        let is_it = |image: &ImageState| matches!(&image.image, Image::Present { revision: there, .. } if there == revision);
        if !self.images.get(host).is_some_and(is_it) {
            return;
        }
        let now = clock::now();
        let again = self.image_gone_at.replace(now).is_some_and(|at| at + PULL_AGAIN > now);
        if !again {
            self.images.remove(host);
        } else if let Some(image) = self.images.get_mut(host) {
            // Found, and gone when it is started, time and again: not as fast as the engine answers.
            let message = "the engine finds it, and then says that it does not exist".to_owned();
            image.image = Image::Failed { message, retry_at: Some(now + PULL_AGAIN) };
        }
    }

    /// What the image means on a host by now.
    fn take_up(&mut self, host: &HostName, purpose: Purpose, found: Prepared) {
        let Some(Image::Present { digest, .. }) = self.images.get(host).map(|image| &image.image) else {
            return;
        };
        if *digest == found.digest {
            return self.newer = None;
        }
        if purpose == Purpose::Tell {
            return self.newer = Some(found.digest);
        }
        let words = format!("{} is {} by now", self.fleet.settings().launch.image, found.digest.short());
        tracing::info!(service = %self.fleet.name, %host, "{words}");
        self.history.note(What::Image, words);
        (self.newer, self.changed_meanwhile) = (None, purpose == Purpose::Restart);
        self.images.insert(host.clone(), present(&self.fleet.settings(), found));
    }
}
