//! `make demo`: a cold start, a load that needs more replicas, and the way back to none, told as it happens.
//! Everything is real: a gateway process, the container engine, requests over sockets. Exit 0 only if all of it worked.
//! The engine is Tidegate's own, or Docker with ENGINE=docker.

use std::{
    io::IsTerminal,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use e2e::{engine::Engine, process::Gateway};
use parking_lot::Mutex;
use tidegate_loadtest::{
    Options, Report, Snapshot,
    plan::{Plan, Process, Shape},
    report::human,
};
use tokio::time::Instant;

/// How long the service may take to fall asleep; its file says 5 s idle and 5 s drain.
const ASLEEP_WITHIN: Duration = Duration::from_secs(60);

const LINES: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let paint = Paint(std::io::stdout().is_terminal());
    println!("{}", paint.bold("Tidegate: containers that start when somebody calls"));
    let engine = Engine::named()?.unwrap_or(Engine::Embedded);
    let runs = match engine {
        Engine::Embedded => {
            "Tidegate's own engine: no Docker, no daemon, one process per container that watches over it"
        }
        Engine::Docker => "Docker",
    };
    println!("One service, `echo`, from examples/demo.toml. Nothing of it runs yet.");
    println!("{}\n", paint.dim(&format!("Its containers are run by {runs}.")));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("demo.toml");
    std::fs::write(&file, config(engine)?)?;
    let gateway = Gateway::start(&file).await?;
    let told = tell(&gateway, &paint).await;
    let stopped = gateway.stop().await;
    let told = told?;
    stopped?;
    ensure!(told.errors == 0, "{} of {} requests failed", told.errors, told.requests);
    println!(
        "demo: ok requests={} errors={} cold_start_ms={} peak_replicas={} scaled_to_zero=yes",
        told.requests,
        told.errors,
        told.cold_start.as_millis(),
        told.peak
    );
    Ok(())
}

/// The example as it is, for this engine; the image's file is looked for from where we are.
fn config(engine: Engine) -> anyhow::Result<String> {
    let text = std::fs::read_to_string("examples/demo.toml").context("run this in the project's folder")?;
    let target = Path::new("target").canonicalize().context("the image: scripts/demo builds it")?;
    let text = text.replace("docker-archive:../target", &format!("docker-archive:{}", target.display()));
    Ok(text.replace("engine = \"embedded\"", &format!("engine = \"{engine}\"")))
}

struct Told {
    requests: u64,
    errors: u64,
    cold_start: Duration,
    peak: usize,
}

async fn tell(gateway: &Gateway, paint: &Paint) -> anyhow::Result<Told> {
    let url = format!("http://{}/", gateway.address());
    println!("{}", paint.bold("1  The first request starts a container and waits for it"));
    let begun = Instant::now();
    let first = load(&url, Shape::constant(1.0, Duration::from_secs(1)), |_| {}).await?;
    let cold_start = first.latency.max().context("the first request was not answered")?;
    println!("   $ curl {url}");
    println!(
        "   answered after {} (a request to a running replica takes about 40 ms)\n",
        paint.hot(&human(cold_start))
    );

    println!("{}", paint.bold("2  Load rises from 20 to 400 requests per second; a replica takes 4 at once"));
    println!("   {}", paint.dim("  time    rate  in flight  waiting     p50     p99  errors  replicas (● ready ◐ starting ◌ leaving)"));
    let steps = [(20.0, 3), (100.0, 4), (250.0, 5), (400.0, 6), (20.0, 4)];
    let steps = steps.map(|(rate, seconds)| (rate, Duration::from_secs(seconds)));
    let latest: Arc<Mutex<Option<Snapshot>>> = Arc::default();
    let sending = {
        let latest = Arc::clone(&latest);
        load(&url, Shape::steps(steps), move |snapshot| *latest.lock() = Some(snapshot))
    };
    let finished = AtomicBool::new(false);
    let sending = async {
        let report = sending.await;
        finished.store(true, Ordering::Relaxed);
        report
    };
    let watching = async {
        let mut peak = 0;
        while !finished.load(Ordering::Relaxed) {
            let snapshot = latest.lock().take();
            peak = peak.max(line(gateway, paint, begun, snapshot.as_ref()).await?);
            tokio::time::sleep(LINES).await;
        }
        anyhow::Ok(peak)
    };
    let (report, peak) = tokio::join!(sending, watching);
    let (report, peak) = (report?, peak?);

    println!("\n{}", paint.bold("3  Nobody calls any more: after 5 s idle the last replica goes"));
    let slept = Instant::now();
    while line(gateway, paint, begun, None).await? > 0 {
        ensure!(slept.elapsed() < ASLEEP_WITHIN, "the service did not scale to zero");
        tokio::time::sleep(2 * LINES).await;
    }
    println!("   {}\n", paint.dim("the image stays; the next request would start it again"));
    Ok(Told {
        requests: first.requests + report.requests,
        errors: first.counts.errors.total() + report.counts.errors.total(),
        cold_start,
        peak,
    })
}

async fn load(url: &str, shape: Shape, progress: impl FnMut(Snapshot) + Send) -> anyhow::Result<Report> {
    tidegate_loadtest::run(Options::new(url), Plan::new(shape, Process::Uniform, 0)?, progress).await
}

/// One line of the live view; tells how many replicas there are.
async fn line(
    gateway: &Gateway,
    paint: &Paint,
    begun: Instant,
    load: Option<&Snapshot>,
) -> anyhow::Result<usize> {
    let services = gateway.services().await?;
    let service = services.first().context("the service")?;
    let dots: String = service
        .replicas
        .iter()
        .map(|replica| match replica.phase.as_str() {
            "ready" => paint.good("● "),
            "starting" => paint.hot("◐ "),
            _ => paint.dim("◌ "),
        })
        .collect();
    let time = |of: Option<Duration>| of.map_or_else(|| "-".into(), human);
    let (rate, p50, p99, errors) = match load {
        Some(load) => {
            (format!("{:.0}/s", load.rate), time(load.p50), time(load.p99), load.errors.to_string())
        }
        None => ("-".into(), "-".into(), "-".into(), "-".into()),
    };
    let asleep = if service.replicas.is_empty() { paint.dim("asleep") } else { String::new() };
    println!(
        "   {:>5.1}s {rate:>7} {:>10} {:>8} {p50:>7} {p99:>7} {errors:>7}  {dots}{asleep}",
        begun.elapsed().as_secs_f64(),
        service.in_flight,
        service.queued,
    );
    Ok(service.replicas.len())
}

/// Colours, where somebody sees them.
struct Paint(bool);

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.with("2", text)
    }

    fn good(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn hot(&self, text: &str) -> String {
        self.with("33", text)
    }
}
