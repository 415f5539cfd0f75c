//! What a replica says before its answer (1xx; RFC 9110, 15.2), on its way to the client: early hints, mostly.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};

use super::shared::Handle;

/// The way to the client ahead of the answer.
#[derive(Debug, Clone)]
pub(crate) struct Early(Handle);

impl Early {
    pub(super) fn new(shared: &Handle) -> Self {
        Self(Arc::clone(shared))
    }

    /// Says it, unless the client takes so little that too much would wait for it. From within the connection's task, which
    /// writes it when it waits next.
    pub(crate) fn say(&self, status: StatusCode, headers: &HeaderMap) {
        self.0.lock().say(status, headers);
    }
}
