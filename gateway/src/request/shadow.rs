//! Copies of requests on their way to another service. Started by [`layered`](super::layered). Holds: a copy delays and
//! fails nobody, ends after a while whatever becomes of it, and is an exchange of that service's own.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use bytes::Bytes;
use http::header::{EXPECT, UPGRADE};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Form, Visit,
    body::Body,
    exchange::{self, Exchange},
    intake::Intake,
    received::{Copy, Received},
};
use crate::{clock, middleware::Mirror};

/// A copy takes no longer, however slow the service is.
const LONGEST: Duration = Duration::from_secs(60);

/// So much of a response is read, so that its connection can be used again; what is longer is cut.
const READ: usize = 1 << 20;

/// The copies that are under way.
#[derive(Debug, Clone, Default)]
pub struct Copies {
    tasks: TaskTracker,
    ending: CancellationToken,
}

impl Copies {
    /// Ends them all. Nobody waits for what they would have come to.
    pub(crate) async fn end(&self) {
        self.ending.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Sends a copy of the request if the mirror is to have one; gives back the body as the original reads it.
pub(super) fn cast(
    mirror: &Mirror,
    visit: &Visit<'_>,
    body: Intake,
    (limit, over): (Option<u64>, &Arc<AtomicBool>),
) -> Received {
    let watched = |body, copy| match (limit, &copy) {
        (None, None) => Received::Plain(body),
        _ => Received::watched(body, limit, Arc::clone(over), copy),
    };
    let too_long = body.size_hint().lower() > mirror.room as u64;
    let turn = if too_long { None } else { mirror.turn(rand::random()) };
    let Some(turn) = turn else { return watched(body, None) };
    let (copy, pieces) = if body.is_end_stream() {
        (None, None)
    } else {
        let (copy, pieces) = Copy::of_at_most(mirror.room);
        (Some(copy), Some(pieces))
    };
    let (mut head, call) = (visit.head.clone(), visit.form == Form::Call);
    head.headers.remove(EXPECT);
    head.headers.remove(UPGRADE);
    let (service, standing, door) = (Arc::clone(&mirror.service), mirror.standing(), Arc::clone(visit.door));
    let copies = visit.door.copies.clone();
    copies.tasks.spawn(async move {
        let sent = async {
            let Some(pieces) = whole(pieces).await else { return };
            let exchange = Exchange {
                settings: service.settings(),
                service,
                standing,
                record: None,
                head,
                body: Received::copied(pieces),
                early: None,
                upgrade: None,
                arrived: clock::now(),
                timing_headers: false,
                call,
                deadline: None,
            };
            if let Ok(response) = exchange::run(Box::new(exchange), &door).await {
                read(response.into_body()).await;
            }
        };
        // Cancel-safe: whatever is dropped gives back what it holds.
        tokio::select! {
            () = door.copies.ending.cancelled() => {}
            _ = tokio::time::timeout(LONGEST, sent) => {}
        }
        drop(turn);
    });
    watched(body, copy)
}

/// The body's copy, once it is whole; `None` if it never is.
async fn whole(pieces: Option<oneshot::Receiver<Vec<Bytes>>>) -> Option<Vec<Bytes>> {
    match pieces {
        None => Some(Vec::new()),
        Some(pieces) => pieces.await.ok(),
    }
}

async fn read(mut body: Body) {
    let mut left = READ;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(less) => left = less,
            None => return,
        }
    }
}
