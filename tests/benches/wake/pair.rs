//! Two gateways, one on our own engine and one on Docker's, woken in turns: the same service, the same request, the same
//! machine in the same minutes. FROM=frozen wakes what was frozen; else nothing of the service is left before each wake.

use anyhow::{Context, bail, ensure};
use e2e::{debian, engine::Engine, process::Gateway};
use tokio::time::Instant;

use crate::{config, first_byte, ms, percentile, started};

/// Docker's part of the wakes, at most this many unless DOCKER_N says otherwise: one takes ten times as long, with its end.
const DOCKER_AT_MOST: usize = 200;

/// Measures, and prints the line.
pub(crate) async fn run(cycles: usize) -> anyhow::Result<()> {
    let (from, rest) = match std::env::var("FROM").unwrap_or_default().as_str() {
        "" | "cold" => ("cold", ""),
        "frozen" => ("frozen", "sleep = { frozen = \"1h\" }\n"),
        other => bail!("FROM={other}; expected cold or frozen"),
    };
    let docker_cycles = std::env::var("DOCKER_N").ok().map(|n| n.parse()).transpose()?;
    let docker_cycles = docker_cycles.unwrap_or(DOCKER_AT_MOST).min(cycles);
    let archive = debian::images()?.join("echo.tar");
    let archive = format!("docker-archive:{}", archive.display());
    let (ours, _file) = started(&config(Engine::Embedded, &archive, rest)).await?;
    let docker = started(&config(Engine::Docker, "tidegate-echo:bench", rest)).await;
    let measured = match &docker {
        Ok((docker, _)) => measure([&ours, docker], cycles, docker_cycles, from == "frozen").await,
        Err(_) => Ok(Measured::default()),
    };
    ours.stop().await?;
    docker.context("Docker, which this is compared with")?.0.stop().await?;
    let Measured { times: [ours, docker], errors } = measured?;
    eprintln!("docker: {} wakes", docker.len());
    println!(
        "wake engine=embedded from={from} n={cycles} errors={errors} p50_ms={:.1} p95_ms={:.1} docker_p50_ms={:.1} docker_p95_ms={:.1}",
        percentile(&ours, 50),
        percentile(&ours, 95),
        percentile(&docker, 50),
        percentile(&docker, 95),
    );
    ensure!(errors == 0, "{errors} wakes failed");
    Ok(())
}

#[derive(Default)]
struct Measured {
    times: [Vec<f64>; 2],
    errors: usize,
}

async fn measure(
    gateways: [&Gateway; 2],
    cycles: usize,
    docker_cycles: usize,
    frozen: bool,
) -> anyhow::Result<Measured> {
    let mut measured = Measured::default();
    // What is frozen has to have been there; and the first start of all is not what is measured.
    for gateway in gateways {
        gateway.wake("echo").await?;
    }
    for cycle in 1..=cycles {
        // Spread evenly over the run.
        let docker_too = cycle * docker_cycles / cycles > (cycle - 1) * docker_cycles / cycles;
        for (of, gateway) in gateways.iter().enumerate().take(1 + usize::from(docker_too)) {
            match wake(gateway, frozen).await {
                Ok(time) => measured.times[of].push(time),
                Err(error) => {
                    eprintln!("wake {cycle} on {}: {error:#}", gateway.runs_on());
                    measured.errors += 1;
                }
            }
        }
        if cycle % 100 == 0 {
            eprintln!("{cycle} of {cycles}");
        }
    }
    Ok(measured)
}

/// Puts the service to sleep and asks it until its first byte. Milliseconds.
async fn wake(gateway: &Gateway, frozen: bool) -> anyhow::Result<f64> {
    gateway.sleep("echo").await?;
    let service = gateway.services().await?.into_iter().next().context("the service")?;
    let phases: Vec<&str> = service.replicas.iter().map(|replica| replica.phase.as_str()).collect();
    let expected: &[&str] = if frozen { &["frozen"] } else { &[] };
    ensure!(phases == expected, "before the wake: {phases:?}");
    let begun = Instant::now();
    first_byte(&gateway.address().to_string()).await?;
    Ok(ms(begun))
}
