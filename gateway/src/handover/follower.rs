//! The old gateway's side after a handover: no control loop any more, only requests that finish. What the leader says is
//! ready becomes slots; what runs and waits here is told to it. If the leader goes, the next one is looked for.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tidegate_config::name::ReplicaId;
use tokio_util::sync::CancellationToken;

use super::{
    EVERY,
    channel::Channel,
    wire::{Closed, Demands, Hello, PROTOCOL, ReadySet, ServiceDemand, ServiceReady, Why, Wish},
};
use crate::{
    clock,
    fleet::{Bell, Fleet, Replica, Service, admission::SlotKey},
    request::Refusal,
};

/// Between two looks for a leader.
const AGAIN: Duration = Duration::from_millis(50);

/// Slots of replicas that only the leader knows have keys from here on, so that they never meet those of our own loop.
const BORROWED: u64 = 1 << 40;

/// How long a service is mentioned after its last request.
const REMEMBERED: Duration = Duration::from_secs(10);

/// Follows whoever answers on `path`, until `stop`.
pub(crate) async fn follow(
    path: PathBuf,
    generation: u64,
    fleet: Arc<Fleet>,
    bell: Bell,
    stop: CancellationToken,
) {
    let always = async {
        loop {
            if let Ok(channel) = Channel::connect(&path).await
                && let Err(error) = attend(channel, generation, &fleet, &bell).await
            {
                tracing::debug!(%error, "the leader is gone; looking for the next one");
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = always => {}
    }
}

async fn attend(channel: Channel, generation: u64, fleet: &Fleet, bell: &Bell) -> io::Result<()> {
    let Channel { mut reader, writer } = channel;
    let hello = Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        wish: Wish::Follow { generation },
    };
    writer.send(&hello).await?;
    let (mut seq, mut ticks) = (0, tokio::time::interval(EVERY));
    loop {
        // Cancel-safe: a message that is not whole yet stays with the reader, a ring that is not heard stays rung.
        let suspects = tokio::select! {
            set = reader.receive::<ReadySet>() => {
                let set = set?.ok_or(io::ErrorKind::UnexpectedEof)?;
                // Never one that has been overtaken.
                if set.generation > generation {
                    apply(fleet, &set, clock::now());
                    seq = set.seq;
                }
                Vec::new()
            }
            rung = bell.wait() => rung.suspects.into_iter().collect(),
            _ = ticks.tick() => Vec::new(),
        };
        writer.send(&Demands { seq, suspects, services: demand(fleet, clock::now()) }).await?;
    }
}

/// Makes a set the one in force.
fn apply(fleet: &Fleet, set: &ReadySet, now: Instant) {
    for service in fleet.all() {
        if let Some(ready) = set.services.get(&service.name) {
            apply_to(&service, ready, set.complete, now);
        }
    }
}

fn apply_to(service: &Arc<Service>, ready: &ServiceReady, complete: bool, now: Instant) {
    let slots = service.slots();
    let mut next = slots.iter().map(|(key, _)| key.0 + 1).fold(BORROWED, u64::max);
    for named in &ready.replicas {
        match slots.iter().find(|(_, replica)| replica.id == named.id) {
            Some((key, replica)) => service.set_slots(*key, replica, named.share),
            None if named.share > 0 => {
                let replica = Replica::new(named.id.clone(), None, named.address, named.protocol);
                service.set_slots(SlotKey(next), &Arc::new(replica), named.share);
                next += 1;
            }
            None => {}
        }
    }
    let named = |id: &ReplicaId| ready.replicas.iter().any(|named| named.id == *id);
    for (key, replica) in slots.iter().filter(|(_, replica)| complete && !named(&replica.id)) {
        replica.cut.cancel();
        service.remove_slots(*key);
    }
    match &ready.closed {
        Some(closed) => service.close(refusal(closed, now)),
        None => service.open(ready.late.as_ref().map(|late| refusal(late, now))),
    }
}

fn refusal(closed: &Closed, now: Instant) -> Refusal {
    let cause = closed.cause.clone();
    let again = closed.retry_ms.map(|ms| now + Duration::from_millis(ms));
    match closed.why {
        Why::StartFailed => Refusal::StartFailed { cause, again },
        Why::CrashLooping => Refusal::CrashLooping { cause, again },
        Why::OutOfResources => Refusal::OutOfResources { cause },
        Why::NoCapacity => Refusal::NoCapacity { cause },
        Why::Pulling => Refusal::Pulling { cause },
    }
}

fn demand(fleet: &Fleet, now: Instant) -> BTreeMap<tidegate_config::name::ServiceName, ServiceDemand> {
    let told = |service: Arc<Service>| {
        let (sample, slots) = (service.sample(now), service.slots());
        let seen = sample.demand;
        let idle = seen.idle_since.map(|since| now.saturating_duration_since(since));
        if idle.is_some_and(|idle| idle > REMEMBERED) && seen.samples.iter().all(|second| *second == 0.0) {
            return None;
        }
        let mut replicas = BTreeMap::new();
        for (key, running) in sample.per_slot.iter().filter(|(_, running)| *running > 0) {
            if let Some((_, replica)) = slots.iter().find(|(slot, _)| slot == key) {
                *replicas.entry(replica.id.clone()).or_default() += *running;
            }
        }
        let demand = ServiceDemand {
            in_flight: seen.in_flight,
            queued: seen.queued,
            idle_ms: idle.map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)),
            seconds: seen.samples,
            replicas,
        };
        Some((service.name.clone(), demand))
    };
    fleet.all().into_iter().filter_map(told).collect()
}

/// Takes away the slots of replicas that only a leader knew: the own loop is about to go on.
pub(crate) fn forget_borrowed(fleet: &Fleet) {
    for service in fleet.all() {
        for (key, _) in service.slots().into_iter().filter(|(key, _)| key.0 >= BORROWED) {
            service.remove_slots(key);
        }
    }
}
