//! A connection that changes its protocol: how whoever asked for that gets hold of it.

use std::{any::Any, sync::Arc};

use http::Request;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Line;
use crate::http1::rewound::Rewound;

/// What is left of the connection for one who asked for another protocol; see [`Switch::of`].
#[derive(Debug, Clone)]
pub(crate) struct Switch {
    line: Arc<Mutex<Option<oneshot::Receiver<Rewound<Line>>>>>,
    /// What the connection holds.
    held: Option<Arc<dyn Any + Send + Sync>>,
}

impl Switch {
    /// The way to a connection that comes by `line`.
    pub(super) fn new(line: oneshot::Receiver<Rewound<Line>>) -> Self {
        Self { line: Arc::new(Mutex::new(Some(line))), held: None }
    }

    /// Whether this request may change its protocol.
    pub(crate) fn is_there<B>(request: &Request<B>) -> bool {
        request.extensions().get::<Self>().is_some()
    }

    /// The way to the connection, if this request may change its protocol.
    pub(crate) fn of<B>(request: &mut Request<B>) -> Option<Self> {
        request.extensions_mut().remove()
    }

    /// If this request may change its protocol, what its connection holds is held for as long as the new protocol is spoken.
    pub(crate) fn hold<B>(request: &mut Request<B>, held: impl FnOnce() -> Arc<dyn Any + Send + Sync>) {
        if let Some(switch) = request.extensions_mut().get_mut::<Self>() {
            switch.held = Some(held());
        }
    }

    /// The connection, once the answer has been written that changes its protocol.
    pub(crate) async fn switched(&self) -> Option<Rewound<Line>> {
        let receiver = self.line.lock().take()?;
        receiver.await.ok()
    }
}
