//! `make bench-choice`: what choosing a replica costs. Requests that enter and leave one service's gate, which is two lock operations
//! each, per second: on one thread and on two, over several replicas, with and without a hard limit. No sockets.

use std::{num::NonZeroU32, sync::Arc, thread, time::Duration};

use anyhow::Context;
use futures_util::FutureExt;
use http::StatusCode;
use tidegate::{
    clock,
    fleet::{Bell, Replica, Service, admission::SlotKey, service::Standing},
};
use tidegate_config::{model, name::ServiceName, spec::Protocol};
use tokio_util::task::TaskTracker;

/// Requests per thread and row.
const REQUESTS: u32 = 1_000_000;

fn main() -> anyhow::Result<()> {
    println!("replicas  limit  threads  requests/s  ns/request");
    for replicas in [1, 4, 16] {
        for limit in [None, NonZeroU32::new(100), NonZeroU32::new(2)] {
            for threads in [1, 2] {
                row(replicas, limit, threads)?;
            }
        }
    }
    Ok(())
}

fn row(replicas: u64, limit: Option<NonZeroU32>, threads: u32) -> anyhow::Result<()> {
    let service = service(replicas, limit)?;
    let begun = clock::now();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| requests(&service))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker"))
    })?;
    let took = clock::now() - begun;
    let all = f64::from(REQUESTS * threads);
    let (rate, each) = (all / took.as_secs_f64(), took.as_secs_f64() * 1e9 / all);
    let limit = limit.map_or_else(|| "none".into(), |limit| limit.to_string());
    println!("{replicas:>8}  {limit:>5}  {threads:>7}  {rate:>10.0}  {each:>10.0}");
    Ok(())
}

fn service(replicas: u64, limit: Option<NonZeroU32>) -> anyhow::Result<Arc<Service>> {
    let name: ServiceName = "api".parse()?;
    let mut settings = model::Service::of(name, "api:1");
    settings.scaling.concurrency = limit;
    let service = Arc::new(Service::new(Arc::new(settings), Bell::default(), TaskTracker::new(), 1));
    for number in 1..=replicas {
        let id = format!("api-1-{number}").parse()?;
        let replica = Replica::new(id, None, ([127, 0, 0, 1], 1).into(), Protocol::Http1);
        let capacity = limit.map_or(u32::MAX, NonZeroU32::get);
        service.set_slots(SlotKey(number), &Arc::new(replica), capacity);
    }
    Ok(service)
}

/// As the data plane does it, the answer's instant included.
fn requests(service: &Arc<Service>) -> anyhow::Result<()> {
    for _ in 0..REQUESTS {
        let arrived = clock::now();
        let entered =
            service.enter(arrived, arrived + Duration::from_secs(60), Standing::Caller, None).now_or_never();
        let (mut lease, _) = entered.context("a free slot")??;
        lease.answered(StatusCode::OK, arrived, false);
        lease.leave(clock::now());
    }
    Ok(())
}
