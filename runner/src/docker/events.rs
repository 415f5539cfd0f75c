//! The engine's event stream as our events: reconnected for ever, read again from where it stopped, filtered here
//! (Docker and Podman differ in words). A stream on which nothing comes may be dead: the engine is asked beside it
//! whether it answers, and is followed anew after any call that it has not answered.
//! Holds: an engine that goes silent is one line in the log, and one when it is back, when everyone is told to list again.
//! Absent: starts, freezes and thaws of our own doing, of which the engine's word is not needed.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bollard::{models::EventMessage, models::EventMessageTypeEnum, query_parameters::EventsOptions};
use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use tokio::time::{Instant, sleep, timeout};

use super::{Inner, call::failed, labels};
use crate::{Event, call::PATIENT};
use tidegate_config::{name::ReplicaId, spec::Exit};

/// A stream without a word for this long is opened anew, also if the engine answers beside it.
const SILENCE: Duration = Duration::from_secs(60);
/// Between two questions whether the engine answers.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// A stream that lasted this long was well.
const WELL: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Look-ups under way at once; the order of events is kept.
const LOOKUPS: usize = 16;

/// Something about a container of ours.
#[derive(Debug, Clone, PartialEq)]
struct Happened {
    id: ReplicaId,
    container: String,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Started,
    Ended { code: i64 },
    Changed,
    Gone,
}

/// Follows the engine until the task is dropped.
pub(super) async fn follow(inner: Arc<Inner>) {
    let mut since = stamp(SystemTime::now());
    let mut pause = FIRST_PAUSE;
    loop {
        let opened = Instant::now();
        // Noted from here on, so that no failure is missed while the stream is opened.
        let unheard = inner.api.unheard();
        let why = tokio::select! {
            why = stream_once(&inner, &mut since) => why,
            () = unheard => "a call without an answer".into(),
            never = ask_for_ever(&inner) => match never {},
        };
        // An engine that ends streams at once must not make this a busy loop.
        pause = if opened.elapsed() < WELL { (pause * 2).min(LONGEST_PAUSE) } else { FIRST_PAUSE };
        tracing::debug!(why, "the engine's event stream ended; opening it again");
        sleep(pause).await;
        until_answered(&inner).await;
        inner.events.tell(Event::Resync);
    }
}

/// Asks the engine now and then whether it answers. What comes of it is `unheard`'s business.
async fn ask_for_ever(inner: &Inner) -> std::convert::Infallible {
    loop {
        sleep(ASK_EVERY).await;
        let _ = inner.api.ping().await;
    }
}

/// Ends once the engine answers.
async fn until_answered(inner: &Inner) {
    let mut pause = FIRST_PAUSE;
    let mut told = false;
    // Patiently, because a connection may have to be made first.
    while let Err(failed) = inner.api.ask(PATIENT).await {
        if !told {
            tracing::warn!(host = %inner.host, error = failed.words, "the engine does not answer");
            told = true;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    if told {
        tracing::info!(host = %inner.host, "the engine answers again");
    }
}

/// Reads one stream to its end; says why it ended.
async fn stream_once(inner: &Arc<Inner>, since: &mut String) -> String {
    let options = EventsOptions { since: Some(since.clone()), ..EventsOptions::default() };
    let lookups = inner.api.events(Some(options)).map(|message| lookup(inner, message)).boxed();
    let mut found = lookups.buffered(LOOKUPS);
    loop {
        match timeout(SILENCE, found.next()).await {
            Err(_) => return "silence".into(),
            Ok(None) => return "its end".into(),
            Ok(Some((_, Found::Ended(words)))) => return words,
            Ok(Some((at, found))) => {
                if let Some(at) = at {
                    *since = nanos(at);
                }
                if let Found::Event(event) = found {
                    inner.events.tell(event);
                }
            }
        }
    }
}

enum Found {
    Event(Event),
    Nothing,
    Ended(String),
}

/// A message's meaning, with its time; it may take a look at the container.
fn lookup(
    inner: &Arc<Inner>,
    message: std::result::Result<EventMessage, bollard::errors::Error>,
) -> BoxFuture<'static, (Option<i64>, Found)> {
    let inner = Arc::clone(inner);
    async move {
        match message {
            Ok(message) => (message.time_nano, translate(&inner, &message).await),
            Err(error) => (None, Found::Ended(failed(error).words)),
        }
    }
    .boxed()
}

async fn translate(inner: &Inner, message: &EventMessage) -> Found {
    let Some(happened) = read(inner, message) else { return Found::Nothing };
    match happened.what {
        // `start` and `restart` have told, or are about to.
        What::Started if inner.made_here(&happened.container) => Found::Nothing,
        What::Gone => {
            inner.forget(&happened.id, &happened.container);
            Found::Event(Event::Gone(happened.id))
        }
        What::Changed if inner.changed_here(&happened.container) => Found::Nothing,
        What::Changed => Found::Event(Event::Resync),
        What::Started => look(inner, happened, None).await,
        What::Ended { code } => look(inner, happened, Some(code)).await,
    }
}

/// What the container is by now. One that is gone already still ended with the code that the event had.
async fn look(inner: &Inner, happened: Happened, code: Option<i64>) -> Found {
    match inner.inspect_event(&happened.container).await {
        Ok(Some(event)) => Found::Event(event),
        Ok(None) => match code {
            Some(code) => {
                let exit = Exit { code, out_of_memory: false, disrupted: false, message: None };
                Found::Event(Event::Exited { id: happened.id, exit })
            }
            None => Found::Nothing,
        },
        Err(_) => Found::Event(Event::Resync),
    }
}

fn read(inner: &Inner, message: &EventMessage) -> Option<Happened> {
    (message.typ? == EventMessageTypeEnum::CONTAINER).then_some(())?;
    let actor = message.actor.as_ref()?;
    let attributes = actor.attributes.as_ref()?;
    let stamp = labels::read(&inner.instance, attributes.get("name")?, attributes)?;
    let code = || {
        let text = attributes.get("exitCode").or_else(|| attributes.get("containerExitCode"));
        text.and_then(|t| t.parse().ok()).unwrap_or(-1)
    };
    let what = what(message.action.as_deref()?, code)?;
    Some(Happened { id: stamp.id, container: actor.id.clone()?, what })
}

/// The words of both engines. Others (`create`, `attach`, `exec_start: ...`, `kill`, `oom`, Podman's `init`) say
/// nothing that these do not.
fn what(action: &str, code: impl Fn() -> i64) -> Option<What> {
    match action {
        "start" => Some(What::Started),
        "die" | "died" => Some(What::Ended { code: code() }),
        "destroy" | "remove" => Some(What::Gone),
        "pause" | "unpause" | "rename" => Some(What::Changed),
        _ => None,
    }
}

fn stamp(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
}

fn nanos(at: i64) -> String {
    format!("{}.{:09}", at / 1_000_000_000, at % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_both_engines_are_known() {
        for (action, expected) in [
            ("start", Some(What::Started)),
            ("die", Some(What::Ended { code: 7 })),
            ("died", Some(What::Ended { code: 7 })),
            ("destroy", Some(What::Gone)),
            ("remove", Some(What::Gone)),
            ("pause", Some(What::Changed)),
            ("exec_die", None),
            ("cleanup", None),
            ("kill", None),
        ] {
            assert_eq!(what(action, || 7), expected, "{action}");
        }
    }

    #[test]
    fn stamps_are_seconds_and_nanoseconds() {
        assert_eq!(nanos(1_700_000_000_000_000_042), "1700000000.000000042");
        assert_eq!(stamp(SystemTime::UNIX_EPOCH + Duration::from_millis(1500)), "1.500000000");
    }
}
