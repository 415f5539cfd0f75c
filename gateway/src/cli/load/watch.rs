//! Looks at the service that is loaded, through the gateway's admin API, and notes what it sees beside the load's figures.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::uri::Authority;
use parking_lot::Mutex;
use tidegate_loadtest::{
    Aim,
    overlay::{Decision, Look, Overlay},
};

use crate::{
    cli::{Gateway, client::Client},
    control::{
        history::{Entry, What},
        status::{Explanation, ServiceStatus},
    },
};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(200);
/// While no replica is ready: when the first one is shall be known well.
const OFTEN: Duration = Duration::from_millis(50);

/// Looks from time to time.
pub(super) struct Watch {
    client: Client,
    seen: Arc<Mutex<Overlay>>,
    /// The last decision that is noted, or was there before the run.
    last: Option<(u64, What)>,
}

impl Watch {
    /// Begins with a look, so that a service that nobody knows is said at once.
    pub(super) async fn open(gateway: &Gateway, service: &str, aims: &[Aim]) -> anyhow::Result<Self> {
        let client = Client::new(gateway);
        let explanation: Explanation = match client.service(service).await {
            Ok(explanation) => explanation,
            Err(error) => return Err(blame(&client, service, error).await),
        };
        let last =
            decisions(&explanation.history).next_back().map(|(entry, ..)| (entry.at, entry.what.clone()));
        let targets = leading(&explanation.status.routes, aims);
        let seen = Overlay { targets, ..Overlay::new(service) };
        Ok(Self { client, seen: Arc::new(Mutex::new(seen)), last })
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> Arc<Mutex<Overlay>> {
        Arc::clone(&self.seen)
    }

    /// Looks until it is dropped. A gateway that does not answer is looked at again.
    pub(super) async fn look(mut self, start: Instant) {
        let service = self.seen.lock().service.clone();
        loop {
            let some = self.seen.lock().looks.last().is_some_and(|look| look.ready > 0);
            tokio::time::sleep(if some { EVERY } else { OFTEN }).await;
            if let Ok(explanation) = self.client.service::<Explanation>(&service).await {
                self.note(&explanation, crate::clock::now().saturating_duration_since(start).as_secs_f64());
            }
        }
    }

    fn note(&mut self, explanation: &Explanation, at: f64) {
        let mut seen = self.seen.lock();
        seen.look(look(&explanation.status, at));
        for (entry, want, because) in new(&explanation.history, self.last.as_ref()) {
            let (because, reason) = (because.to_owned(), entry.reason.clone());
            seen.decide(Decision { at, want, because, reason });
            self.last = Some((entry.at, entry.what.clone()));
        }
    }
}

/// A name that the gateway does not know was typed wrong; a gateway that does not answer is a failure.
async fn blame(client: &Client, service: &str, error: anyhow::Error) -> anyhow::Error {
    match client.services::<Vec<ServiceStatus>>().await {
        Ok(known) if known.iter().all(|status| status.service != service) => super::misused(error),
        Ok(_) | Err(_) => error,
    }
}

/// The targets whose host is one of a service's.
fn leading(routes: &[String], aims: &[Aim]) -> Vec<String> {
    let host = |route: &String| {
        let authority: Authority = route.split('/').next()?.parse().ok()?;
        Some(authority.host().to_ascii_lowercase())
    };
    let hosts: Vec<String> = routes.iter().filter_map(host).collect();
    let leads = |aim: &&Aim| aim.host_name().is_some_and(|host| hosts.contains(&host));
    aims.iter().filter(leads).map(|aim| aim.name.clone()).collect()
}

fn look(status: &ServiceStatus, at: f64) -> Look {
    let mut look =
        Look { at, want: status.want, queued: status.queued, in_flight: status.in_flight, ..Look::default() };
    for replica in &status.replicas {
        match replica.phase.as_str() {
            "ready" => look.ready += 1,
            "pulling" | "starting" | "thawing" => look.starting += 1,
            "draining" | "stopping" | "freezing" => look.leaving += 1,
            // Asleep, failed or gone: it takes no part.
            _ => {}
        }
    }
    look
}

/// The entries that are decisions about how many replicas are wanted.
fn decisions(history: &[Entry]) -> impl DoubleEndedIterator<Item = (&Entry, u32, &str)> {
    history.iter().filter_map(|entry| match &entry.what {
        What::Want { replicas, because } => Some((entry, *replicas, because.as_str())),
        What::Phase { .. } | What::Rollout | What::Image | What::Asked => None,
    })
}

/// The decisions behind the last one that is known; all of them if that was forgotten meanwhile.
fn new<'a>(history: &'a [Entry], last: Option<&(u64, What)>) -> Vec<(&'a Entry, u32, &'a str)> {
    let all: Vec<_> = decisions(history).collect();
    let known = last
        .and_then(|(at, what)| all.iter().rposition(|(entry, ..)| entry.at == *at && entry.what == *what));
    all[known.map_or(0, |known| known + 1)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at: u64, replicas: u32) -> Entry {
        let what = What::Want { replicas, because: "demand".into() };
        Entry { at, what, reason: format!("want {replicas}"), times: 1 }
    }

    #[test]
    fn targets_lead_to_a_service_by_their_host() {
        let aim = |name: &str, url: &str, host: Option<&str>| Aim {
            name: name.into(),
            host: host.map(Into::into),
            ..Aim::new(url)
        };
        let aims = [
            aim("path", "http://API.localhost:8080/a?b", None),
            aim("other", "http://web.localhost:8080/", None),
            aim("host", "http://127.0.0.1:8080", Some("api.localhost")),
        ];
        let routes = ["api.localhost/".to_owned(), "tcp://127.0.0.1:5432".to_owned()];
        assert_eq!(leading(&routes, &aims), ["path", "host"]);
        assert!(leading(&[], &aims).is_empty());
    }

    #[test]
    fn a_decision_is_noted_once() {
        let phase = Entry {
            at: 6,
            what: What::Phase { replica: "api-1-1".into(), to: "ready".into() },
            reason: String::new(),
            times: 1,
        };
        let history = [entry(5, 0), phase, entry(7, 1), entry(9, 2), entry(9, 1)];
        let seen = |last: Option<(u64, What)>| -> Vec<u32> {
            new(&history, last.as_ref()).iter().map(|(_, want, _)| *want).collect()
        };
        assert_eq!(seen(None), [0, 1, 2, 1]);
        assert_eq!(seen(Some((7, entry(7, 1).what))), [2, 1]);
        assert_eq!(seen(Some((9, entry(9, 1).what))), Vec::<u32>::new());
        assert_eq!(seen(Some((1, entry(1, 9).what))), [0, 1, 2, 1], "forgotten meanwhile");
    }
}
