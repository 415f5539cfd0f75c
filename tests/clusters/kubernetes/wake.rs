//! Wakes on a Kubernetes: asleep, then a request until its first byte. The kubelet looks once a second, so that separate
//! starts differ by chance: what the gateway adds is taken inside each wake, from marks that it leaves.

use anyhow::{Context, Result, ensure};
use e2e::chaos::gateway::Gateway;
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use tokio::time::Instant;

use super::{Estate, local};
use crate::{
    Ground,
    wake::{asleep, first_byte, ms, percentile},
};

/// What one wake took, in milliseconds.
struct Wake {
    /// Until the first byte.
    whole: f64,
    /// Of that, the gateway's: until the call that makes the pod, and from the pod's address to the first byte, less
    /// one request to the pod itself.
    ours: f64,
}

/// Measures, and prints the line.
pub(crate) async fn run(cycles: usize) -> Result<()> {
    let mut estate = Estate::up().await?;
    let keys = "wake = { per_client = \"off\", per_service = \"off\" }";
    let config = estate.config() + &local("web", keys, "max = 1\nidle = \"10m\"");
    let mut gateway = estate.gateway(config).await?;
    let measured = measure(&estate, &gateway, cycles).await;
    gateway.terminate().await?;
    estate.clear().await?;
    let (wakes, floors, errors) = measured?;
    let of =
        |value: fn(&Wake) -> f64, percent| percentile(&wakes.iter().map(value).collect::<Vec<_>>(), percent);
    println!(
        "wake engine=kubernetes from=cold n={cycles} errors={errors} p50_ms={:.1} p95_ms={:.1} floor_p50_ms={:.1} \
         overhead_p50_ms={:.1} overhead_p95_ms={:.1}",
        of(|wake| wake.whole, 50),
        of(|wake| wake.whole, 95),
        percentile(&floors, 50),
        of(|wake| wake.ours, 50),
        of(|wake| wake.ours, 95),
    );
    ensure!(errors == 0, "{errors} of {cycles} wakes failed");
    Ok(())
}

async fn measure(estate: &Estate, gateway: &Gateway, cycles: usize) -> Result<(Vec<Wake>, Vec<f64>, usize)> {
    let address = gateway.address().to_string();
    first_byte(&address).await.context("the first wake of all")?;
    let template = template(estate, gateway).await?;
    let (mut wakes, mut floors, mut errors) = (Vec::new(), Vec::new(), 0);
    for cycle in 1..=cycles {
        asleep(gateway).await?;
        match wake(estate, gateway, &address).await {
            Ok(wake) => wakes.push(wake),
            Err(error) => {
                eprintln!("wake {cycle}: {error:#}");
                errors += 1;
            }
        }
        asleep(gateway).await?;
        floors.push(floor(estate, &template, cycle).await.context("the floor")?);
    }
    Ok((wakes, floors, errors))
}

/// One wake, watched from beside it: when the API had the pod, and when the pod had an address.
async fn wake(estate: &Estate, gateway: &Gateway, address: &str) -> Result<Wake> {
    let options = WatchParams::default().labels(&format!("dev.tidegate.instance={}", gateway.instance()?));
    let version =
        estate.pods.list(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
    let mut changes = estate.pods.watch(&options, &version).await?.boxed();
    let begun = Instant::now();
    let watched = async {
        let mut made = None;
        while let Some(change) = changes.next().await {
            let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = change? else { continue };
            made = made.or_else(|| Some(ms(begun)));
            if let Some(ip) = pod.status.and_then(|status| status.pod_ip) {
                return Ok((made.context("it was made")?, ms(begun), ip));
            }
        }
        anyhow::bail!("the watch ended")
    };
    let served = async {
        first_byte(address).await?;
        Ok(ms(begun))
    };
    let ((made, reached, ip), whole) = tokio::try_join!(watched, served)?;
    let asked = Instant::now();
    first_byte(&format!("{ip}:8080")).await?;
    // The API tells of a pod a moment after the call for it was sent: that moment is counted as ours.
    Ok(Wake { whole, ours: made + (whole - reached).max(0.0) - ms(asked) })
}

/// The gateway's own pod, as the cluster has it, without what makes it the gateway's.
async fn template(estate: &Estate, gateway: &Gateway) -> Result<Pod> {
    let pod = estate.pods_of(&gateway.instance()?).await?.pop().context("a pod")?;
    let mut spec = pod.spec.context("it")?;
    spec.node_name = None;
    Ok(Pod { spec: Some(spec), ..Pod::default() })
}

/// Makes the pod, and asks it until its first byte. Milliseconds.
async fn floor(estate: &Estate, template: &Pod, cycle: usize) -> Result<f64> {
    let name = format!("floor-{cycle}");
    let mut pod = template.clone();
    pod.metadata.name = Some(name.clone());
    let version =
        estate.pods.list(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
    let named = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut changes = estate.pods.watch(&named, &version).await?.boxed();
    let begun = Instant::now();
    estate.pods.create(&PostParams::default(), &pod).await?;
    let mut took = None;
    while let Some(change) = changes.next().await {
        let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = change? else { continue };
        let Some(ip) = pod.status.and_then(|status| status.pod_ip) else { continue };
        while first_byte(&format!("{ip}:8080")).await.is_err() {
            ensure!(begun.elapsed().as_secs() < 30, "no answer from {ip}");
        }
        took = Some(ms(begun));
        break;
    }
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    estate.pods.delete(&name, &at_once).await?;
    took.context("no node runs it")
}
