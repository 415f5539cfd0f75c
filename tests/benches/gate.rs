//! How many requests a second one service's gate admits and lets go, from one thread and from two. Part of
//! `make bench-proxy`: the gate is what all requests of a service have in common.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tidegate::fleet::{Bell, Replica, Service, Standing, admission::SlotKey};
use tidegate_config::spec::Protocol;
use tokio_util::task::TaskTracker;

const FOR: Duration = Duration::from_secs(1);

/// Between two looks at the clock.
const BATCH: u32 = 1000;

const CONFIG: &str = r#"services.api = { image = "api:1", scaling = { concurrency = 1000 } }"#;

fn main() {
    let service = service();
    let rates = [1, 2].map(|threads| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let service = Arc::clone(&service);
                thread::spawn(move || admissions(&service))
            })
            .collect();
        let sum: u64 = workers.into_iter().map(|worker| worker.join().expect("a worker's count")).sum();
        sum as f64 / FOR.as_secs_f64() / 1e6
    });
    println!("gate threads=1 million_per_s={:.2} threads=2 million_per_s={:.2}", rates[0], rates[1]);
}

/// One service with one replica that has room for all.
fn service() -> Arc<Service> {
    let model = e2e::world::model(CONFIG);
    let settings = model.services.values().next().expect("one service");
    let service = Arc::new(Service::new(Arc::clone(settings), Bell::default(), TaskTracker::new(), 1));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let id = "api-0-1".parse().expect("a replica's name");
    let replica = Arc::new(Replica::new(id, None, address, Protocol::Http1));
    service.set_slots(SlotKey(1), &replica, 1000);
    service
}

/// How many requests entered and left within the time.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn admissions(service: &Arc<Service>) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (begun, mut count) = (Instant::now(), 0);
    runtime.block_on(async {
        while begun.elapsed() < FOR {
            for _ in 0..BATCH {
                let now = Instant::now();
                let (lease, _) =
                    service.enter(now, now + FOR, Standing::Caller, None).await.expect("room for all");
                drop(lease);
            }
            count += u64::from(BATCH);
        }
    });
    count
}
