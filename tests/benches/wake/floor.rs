//! Docker's wakes (sleep, then a request until its first byte) alternate with floors: the same container started directly
//! through the engine's API until its first byte.

use std::time::Duration;

use anyhow::{Context, ensure};
use bollard::{
    Docker,
    models::{ContainerCreateBody, ContainerInspectResponse, NetworkingConfig},
    query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder},
};
use e2e::{engine::Engine, process::Gateway};
use tokio::time::Instant;

use crate::{config, first_byte, ms, percentile, started};

/// Connects of the floor are tried this often: as densely as the gateway's own probe.
const PAUSE: Duration = Duration::from_millis(2);

/// Measures, and prints the line.
pub(crate) async fn run(cycles: usize) -> anyhow::Result<()> {
    let (gateway, _folder) = started(&config(Engine::Docker, "tidegate-echo:bench", "")).await?;
    let measured = measure(&gateway, cycles).await;
    gateway.stop().await?;
    let Measured { wakes, floors, errors } = measured?;
    let [wake_50, wake_95] = [50, 95].map(|p| percentile(&wakes, p));
    let [floor_50, floor_95] = [50, 95].map(|p| percentile(&floors, p));
    println!(
        "wake engine=docker n={cycles} errors={errors} p50_ms={wake_50:.1} p95_ms={wake_95:.1} floor_p50_ms={floor_50:.1} \
         overhead_p50_ms={:.1} overhead_p95_ms={:.1}",
        wake_50 - floor_50,
        wake_95 - floor_95,
    );
    ensure!(errors == 0, "{errors} of {cycles} wakes failed");
    Ok(())
}

struct Measured {
    wakes: Vec<f64>,
    floors: Vec<f64>,
    errors: usize,
}

async fn measure(gateway: &Gateway, cycles: usize) -> anyhow::Result<Measured> {
    let docker = Docker::connect_with_local_defaults()?;
    let mut measured = Measured { wakes: Vec::new(), floors: Vec::new(), errors: 0 };
    let template = template(gateway, &docker).await?;
    for cycle in 1..=cycles {
        gateway.sleep("echo").await?;
        let begun = Instant::now();
        match first_byte(&gateway.address().to_string()).await {
            Ok(()) => measured.wakes.push(ms(begun)),
            Err(error) => {
                eprintln!("wake {cycle}: {error:#}");
                measured.errors += 1;
            }
        }
        gateway.sleep("echo").await?;
        measured.floors.push(floor(&docker, &template, cycle).await.context("the floor")?);
        if cycle % 20 == 0 {
            eprintln!("{cycle} of {cycles}");
        }
    }
    Ok(measured)
}

/// What the gateway's own container looks like to the engine: the floor's are made just so.
async fn template(gateway: &Gateway, docker: &Docker) -> anyhow::Result<ContainerCreateBody> {
    gateway.wake("echo").await?;
    let services = gateway.services().await?;
    let replica = services.first().and_then(|service| service.replicas.first()).context("a replica")?;
    let instance = std::fs::read_to_string(gateway.state().join("instance"))?;
    let name = format!("tg-{}-{}", &instance[..8], replica.id);
    let seen: ContainerInspectResponse = docker.inspect_container(&name, None).await?;
    let config = seen.config.context("its configuration")?;
    let networks = seen.network_settings.and_then(|settings| settings.networks).context("its networks")?;
    let networks =
        networks.into_keys().map(|name| (name, bollard::models::EndpointSettings::default())).collect();
    Ok(ContainerCreateBody {
        image: config.image,
        cmd: config.cmd,
        entrypoint: config.entrypoint,
        env: config.env,
        labels: config.labels,
        user: config.user,
        host_config: seen.host_config,
        networking_config: Some(NetworkingConfig { endpoints_config: Some(networks) }),
        ..ContainerCreateBody::default()
    })
}

/// Creates and starts a container, and asks it until its first byte. Milliseconds.
async fn floor(docker: &Docker, template: &ContainerCreateBody, cycle: usize) -> anyhow::Result<f64> {
    let name = format!("tidegate-bench-floor-{}-{cycle}", std::process::id());
    let begun = Instant::now();
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    docker.create_container(Some(options), template.clone()).await?;
    let answered = async {
        docker.start_container(&name, None).await?;
        let seen = docker.inspect_container(&name, None).await?;
        let networks = seen.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let address = networks.into_values().find_map(|network| network.ip_address).context("its address")?;
        let address = format!("{address}:8080");
        while first_byte(&address).await.is_err() {
            ensure!(begun.elapsed() < Duration::from_secs(30), "no answer from {address}");
            tokio::time::sleep(PAUSE).await;
        }
        anyhow::Ok(ms(begun))
    };
    let answered = answered.await;
    docker
        .remove_container(&name, Some(RemoveContainerOptionsBuilder::default().force(true).build()))
        .await?;
    answered
}
