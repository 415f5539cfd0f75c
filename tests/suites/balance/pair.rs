//! Replicas of one service that behave each in its own way.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use e2e::{
    client::Wire,
    targets::Behaviour,
    world::{Setup, World},
};
use parking_lot::Mutex;

/// What a replica does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    /// It answers at once.
    Answers,
    /// It answers, but takes so long.
    Takes(Duration),
    /// It breaks off.
    Resets,
}

/// Who is told what to do, and how many requests each got.
#[derive(Debug, Clone, Default)]
pub(crate) struct Crew(Arc<Mutex<BTreeMap<SocketAddr, (Does, usize)>>>);

impl Crew {
    /// A world with this file, whose replicas of `api:1` belong to this crew: all answer at once until they are told otherwise.
    pub(crate) async fn world(&self, text: &str) -> World {
        let setup = Setup::new(text);
        let crew = self.clone();
        let behaviour = Behaviour::raw(move |stream| {
            let crew = crew.clone();
            async move {
                let at = stream.local_addr().expect("an accepted socket's address");
                let mut wire = Wire::accepted(stream);
                while wire.head().await.is_some() {
                    match crew.next(at) {
                        Does::Answers => {}
                        // The app's own work.
                        Does::Takes(long) => tokio::time::sleep(long).await,
                        Does::Resets => return wire.reset(),
                    }
                    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                }
            }
        });
        setup.targets.behave("api:1", behaviour);
        setup.start().await
    }

    fn next(&self, at: SocketAddr) -> Does {
        let mut members = self.0.lock();
        let (does, requests) = members.entry(at).or_insert((Does::Answers, 0));
        *requests += 1;
        *does
    }

    /// From now on the replica at this address does so.
    pub(crate) fn tell(&self, at: SocketAddr, does: Does) {
        self.0.lock().entry(at).or_insert((does, 0)).0 = does;
    }

    /// How many requests the replica at this address got.
    pub(crate) fn requests(&self, at: SocketAddr) -> usize {
        self.0.lock().get(&at).map_or(0, |(_, requests)| *requests)
    }
}

/// Where the ready replicas of `api` are, oldest first.
pub(crate) async fn addresses(world: &World, count: usize) -> Vec<SocketAddr> {
    world.until_ready("api", count).await;
    let replicas = world.status("api").await.replicas;
    replicas.iter().map(|r| r.address.as_ref().expect("an address").parse().expect("an address")).collect()
}
