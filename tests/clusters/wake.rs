//! Wakes on a swarm (asleep, then a request until its first byte) in turns with floors: the same service, made directly
//! through the manager's API and looked at densely, until the first byte of its task.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bollard::{
    Docker,
    models::{ServiceSpec, TaskState},
    query_parameters::{InspectServiceOptions, ListTasksOptions},
};
use e2e::{
    chaos::{IMAGE, gateway::Gateway},
    eventually::eventually,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{Ground, estate::Estate};

/// Looks of the floor: as dense as is of any use.
const PAUSE: Duration = Duration::from_millis(2);

/// Measures, and prints the line.
pub(crate) async fn run(cycles: usize) -> Result<()> {
    let mut estate = Estate::up().await?;
    let config = estate.config()
        + &format!(
            "[services.web]\nimage = \"{IMAGE}\"\nscaling = {{ max = 1, idle = \"10m\" }}\nwake = {{ per_client = \"off\", per_service = \"off\" }}\n"
        );
    let mut gateway = estate.gateway(config).await?;
    let measured = measure(&estate, &gateway, cycles).await;
    gateway.terminate().await?;
    estate.clear().await?;
    let (wakes, floors, errors) = measured?;
    let [wake_50, wake_95] = [50, 95].map(|percent| percentile(&wakes, percent));
    let [floor_50, floor_95] = [50, 95].map(|percent| percentile(&floors, percent));
    println!(
        "wake engine=swarm from=cold n={cycles} errors={errors} p50_ms={wake_50:.1} p95_ms={wake_95:.1} \
         floor_p50_ms={floor_50:.1} overhead_p50_ms={:.1} overhead_p95_ms={:.1}",
        wake_50 - floor_50,
        wake_95 - floor_95,
    );
    ensure!(errors == 0, "{errors} of {cycles} wakes failed");
    Ok(())
}

async fn measure(estate: &Estate, gateway: &Gateway, cycles: usize) -> Result<(Vec<f64>, Vec<f64>, usize)> {
    let manager = estate.manager()?;
    let address = gateway.address().to_string();
    first_byte(&address).await.context("the first wake of all")?;
    let template = template(gateway, &manager).await?;
    let (mut wakes, mut floors, mut errors) = (Vec::new(), Vec::new(), 0);
    for cycle in 1..=cycles {
        asleep(gateway).await?;
        let begun = Instant::now();
        match first_byte(&address).await {
            Ok(()) => wakes.push(ms(begun)),
            Err(error) => {
                eprintln!("wake {cycle}: {error:#}");
                errors += 1;
            }
        }
        asleep(gateway).await?;
        floors.push(floor(estate, &manager, &template, cycle).await.context("the floor")?);
    }
    Ok((wakes, floors, errors))
}

/// Puts a service to sleep and waits until it is.
pub(crate) async fn asleep(gateway: &Gateway) -> Result<()> {
    gateway.post("/v1/services/web/sleep").await?;
    eventually("it sleeps", async || Ok(gateway.service("web").await?.replicas.is_empty())).await
}

/// The gateway's own service, as the swarm has it, without what makes it the gateway's.
async fn template(gateway: &Gateway, manager: &Docker) -> Result<ServiceSpec> {
    let replica = gateway.service("web").await?.replicas.into_iter().next().context("a replica")?;
    let name = format!("tg-{}-{}", &gateway.instance()?[..8], replica.id);
    let spec = manager.inspect_service(&name, None::<InspectServiceOptions>).await?.spec.context("it")?;
    Ok(ServiceSpec { labels: None, ..spec })
}

/// Makes the service, and asks it until its first byte. Milliseconds.
async fn floor(estate: &Estate, manager: &Docker, template: &ServiceSpec, cycle: usize) -> Result<f64> {
    let name = format!("floor-{cycle}");
    let spec = ServiceSpec { name: Some(name.clone()), ..template.clone() };
    let begun = Instant::now();
    manager.create_service(spec, None).await?;
    let answered = async {
        let address = loop {
            if let Some(address) = reached(estate, manager, &name).await? {
                break address;
            }
            ensure!(begun.elapsed() < Duration::from_secs(30), "no node runs it");
            sleep(PAUSE).await;
        };
        while first_byte(&address).await.is_err() {
            ensure!(begun.elapsed() < Duration::from_secs(30), "no answer from {address}");
            sleep(PAUSE).await;
        }
        Ok(ms(begun))
    };
    let answered = answered.await;
    manager.delete_service(&name).await?;
    eventually("the floor's service has ended", async || Ok(tasks(manager, &name).await?.is_empty())).await?;
    answered
}

async fn tasks(manager: &Docker, service: &str) -> Result<Vec<bollard::models::Task>> {
    let filters = Some([("service".to_owned(), vec![service.to_owned()])].into());
    match manager.list_tasks(Some(ListTasksOptions { filters })).await {
        Ok(tasks) => Ok(tasks),
        // No service of this name any more.
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Where the service's task is reached, once it runs.
async fn reached(estate: &Estate, manager: &Docker, service: &str) -> Result<Option<String>> {
    let Some(task) = tasks(manager, service).await?.into_iter().next() else { return Ok(None) };
    let (Some(status), Some(node)) = (task.status, task.node_id) else { return Ok(None) };
    if status.state != Some(TaskState::RUNNING) {
        return Ok(None);
    }
    let ports = status.port_status.and_then(|ports| ports.ports).unwrap_or_default();
    let Some(port) = ports.into_iter().find_map(|port| port.published_port) else { return Ok(None) };
    let address = estate.address_of(&node)?;
    Ok(Some(format!("{address}:{port}")))
}

/// Sends a request and waits for the first byte of a good answer.
pub(crate) async fn first_byte(address: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: web.localhost\r\nconnection: close\r\n\r\n").await?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    ensure!(&head == b"HTTP/1.1 200", "{}", String::from_utf8_lossy(&head));
    Ok(())
}

/// Milliseconds since then.
pub(crate) fn ms(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}

/// So many percent of the values are below it.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(f64::NAN)
}
