//! Who listens to an engine, and is told what happens there. Holds: who falls behind is told to list again.

use futures_util::{StreamExt, stream::BoxStream};
use tokio::sync::broadcast;
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};

use crate::Event;

/// Events that a slow listener may be behind before it is told to list again.
const BACKLOG: usize = 1024;

/// Everyone who listens.
#[derive(Debug)]
pub(crate) struct Events(broadcast::Sender<Event>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }
}

impl Events {
    /// Tells everyone who listens; nobody may.
    pub(crate) fn tell(&self, event: Event) {
        tracing::debug!(?event, "replica event");
        let _ = self.0.send(event);
    }

    /// What is told from now on.
    pub(crate) fn listen(&self) -> BoxStream<'static, Event> {
        let missed = |BroadcastStreamRecvError::Lagged(_)| Event::Resync;
        BroadcastStream::new(self.0.subscribe()).map(move |event| event.unwrap_or_else(missed)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_falls_behind_is_told_to_list_again() {
        let events = Events::default();
        events.tell(Event::Gone("api-1-1".parse().expect("valid")));
        let mut listener = events.listen();
        for number in 0..=BACKLOG {
            events.tell(Event::Gone(format!("api-2-{number}").parse().expect("valid")));
        }
        assert_eq!(listener.next().await, Some(Event::Resync));
        assert_eq!(listener.next().await, Some(Event::Gone("api-2-1".parse().expect("valid"))));
    }
}
