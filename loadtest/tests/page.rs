//! The page of a report in a browser: what it draws, that it complains about nothing and asks nobody for anything.
//! Needs Chromium (`scripts/setup test`) and fails without it.

use std::{
    fs, io,
    path::Path,
    pin::Pin,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tidegate_loadtest::{
    Dial, Io, Options, Report, Threshold,
    overlay::{Decision, Look, Overlay},
    plan::{Plan, Process, language},
    report::html::html,
    run_over,
    target::Target,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

const SLO: Duration = Duration::from_millis(200);

/// A service that is asleep at first, starts within 1.4 s, and has too few replicas for the spike for a while.
#[derive(Debug)]
struct Service {
    start: Instant,
    serving: std::sync::Mutex<JoinSet<()>>,
}

impl Dial for Service {
    fn dial<'a>(
        &'a self,
        _: &'a Target,
        _: bool,
    ) -> Pin<Box<dyn Future<Output = io::Result<Io>> + Send + 'a>> {
        let (near, far) = duplex(1 << 10);
        self.serving.lock().expect("no panic").spawn(serve(far, self.start));
        Box::pin(async { Ok(Io::Other(Box::new(near))) })
    }
}

async fn serve(mut stream: DuplexStream, start: Instant) {
    let mut request = [0; 1024];
    while let Ok(1..) = stream.read(&mut request).await {
        let arrived = start.elapsed();
        let ready = start + Duration::from_millis(2400);
        let cold = arrived < Duration::from_millis(2400);
        if cold {
            sleep_until(ready).await;
        }
        // From 22 s on the queue grows, until more replicas come.
        let crowd = Duration::from_secs_f64((arrived.as_secs_f64() - 22.0).clamp(0.0, 4.0) * 0.12);
        let queue = if arrived > Duration::from_millis(28_500) { Duration::ZERO } else { crowd };
        // Some requests are harder than others: 12 ms for most, up to 200 ms for few.
        let hard = f64::from(arrived.subsec_micros() % 1009) / 1009.0;
        sleep(queue + Duration::from_secs_f64(0.008 + 0.004 / (1.02 - hard))).await;
        let waited = if cold { start.elapsed() - arrived } else { Duration::ZERO };
        let (code, reason) =
            if queue > Duration::from_millis(460) { (503, "Service Unavailable") } else { (200, "OK") };
        let answer = format!(
            "HTTP/1.1 {code} {reason}\r\ncontent-length: 2\r\nx-tidegate-cold: {}\r\nserver-timing: queue;dur={:.1}, start;dur={:.1}, \
             upstream;dur=12.0\r\n\r\nok",
            u8::from(cold),
            (queue + waited).as_secs_f64() * 1e3,
            waited.as_secs_f64() * 1e3
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn seen() -> Overlay {
    let mut seen = Overlay::new("checkout");
    for tenth in 0..600_u32 {
        let at = f64::from(tenth) / 10.0;
        let (ready, starting, leaving, want) = match at {
            ..1.0 => (0, 0, 0, 0),
            1.0..2.4 => (0, 1, 0, 1),
            2.4..24.0 => (1, 0, 0, 1),
            24.0..26.5 => (1, 4, 0, 5),
            26.5..27.5 => (3, 3, 0, 6),
            27.5..46.0 => (6, 0, 0, 6),
            46.0..50.0 => (3, 0, 3, 3),
            _ => (2, 0, 0, 2),
        };
        let queued = if (22.0..28.5).contains(&at) { ((at - 22.0) * 40.0) as u32 } else { 0 };
        seen.look(Look { at, ready, starting, leaving, want, queued, in_flight: 2 + ready * 4 });
    }
    for (at, want, reason) in [
        (1.0, 1, "a request waits and no replica is ready"),
        (24.0, 5, "surge: 38.2 requests at once over 6 s, a replica takes 8"),
        (26.0, 6, "surge: 45.0 requests at once over 6 s, a replica takes 8"),
        (46.0, 3, "22.1 requests at once over 60 s, a replica takes 8"),
        (50.0, 2, "14.9 requests at once over 60 s, a replica takes 8"),
    ] {
        seen.decide(Decision { at, want, because: "demand".to_owned(), reason: reason.to_owned() });
    }
    seen
}

async fn report() -> Report {
    let text = "pause 1s | const 20 19s | spike 60->400@2s for 18s | ramp 60..0 18s";
    let shape =
        language::parse(text, |_, _| Err(String::new())).and_then(|load| load.open(text)).expect("valid");
    let plan = Plan::new(shape, Process::Poisson, 5).expect("valid");
    let service = Service { start: Instant::now(), serving: std::sync::Mutex::default() };
    let options = Options { connections: 400, ..Options::new("http://checkout.localhost:8080/") };
    let mut report = run_over(Arc::new(service), options, plan, |_| ()).await.expect("the run starts");
    report.name = "burst from zero".to_owned();
    report.started = 1_795_646_401;
    report.overlay = Some(seen());
    report
}

/// What the browser makes of a page: the document after its script has run, what was complained about, and who was asked.
struct Seen {
    document: String,
    complaints: Vec<String>,
    asked: Vec<String>,
}

fn browse(page: &Path, folder: &Path) -> Seen {
    let log = folder.join("net.json");
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--no-first-run",
        ])
        .args(["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--dump-dom"])
        .args(["--enable-logging=stderr", "--window-size=1280,1000", "--host-resolver-rules=MAP * ~NOTFOUND"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("--log-net-log={}", log.display()))
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .output()
        .expect("Chromium runs; scripts/setup test installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stderr);
    let net = fs::read_to_string(log).expect("the log of the network");
    let urls = net.split("\"url\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    Seen {
        document: String::from_utf8_lossy(&output.stdout).into_owned(),
        complaints: said.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect(),
        asked: urls.filter(|url| !is_the_browsers(url)).map(str::to_owned).collect(),
    }
}

/// What the browser asks for without any page; names resolve to nothing here.
fn is_the_browsers(url: &str) -> bool {
    let host = url.split('/').nth(2).unwrap_or_default();
    url.starts_with("file:") || host.ends_with(".google.com") || host.ends_with(".googleapis.com")
}

#[tokio::test(start_paused = true)]
async fn the_page_of_a_report_draws_itself_and_asks_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("report.html");
    let report = report().await;
    let promises = ["p99<250ms", "cold.p95<1.5s", "slo(200ms)>=90%", "error_rate<1%"];
    let outcomes: Vec<_> =
        promises.map(|promise| promise.parse::<Threshold>().expect(promise).check(&report)).to_vec();
    let text = html(&report, &outcomes, Some(SLO));
    fs::write(&page, &text).expect("written");
    if let Some(kept) = std::env::var_os("KEEP_PAGE") {
        fs::write(kept, &text).expect("written");
    }
    let Seen { document, complaints, asked } = browse(&page, folder.path());
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert!(asked.is_empty(), "{asked:#?}");
    assert!(
        document.contains("data-drawn=\"5\""),
        "five charts: {}",
        &document[document.len().saturating_sub(300)..]
    );
    assert_eq!(document.matches("class=\"tick\"").count(), 5, "a tick for each decision");
    for part in [
        "burst from zero",
        "surge: 45.0 requests at once",
        "want 6. surge",
        "replica-seconds",
        "to the first ready replica",
        "longest SLO breach",
        "Where time goes",
        "slo(200ms)&gt;=90%",
    ] {
        assert!(document.contains(part), "{part}");
    }
    let shown = document.split("<script").next().expect("a document");
    // The errors' bars begin below the lowest that a response time can be.
    let chart = shown.split("<svg").nth(1).expect("response times");
    let number = |text: &str, key: &str| -> Option<f64> {
        text.split(&format!(" {key}=\"")).nth(1)?.split('"').next()?.parse().ok()
    };
    let bars = chart.split("<rect").skip(1).filter_map(|bar| number(bar, "y"));
    let grid = chart.split("class=\"grid\"").skip(1).filter_map(|line| number(line, "y1"));
    let (highest, lowest) = (bars.reduce(f64::min), grid.reduce(f64::max));
    assert!(highest > lowest && lowest.is_some(), "{highest:?} {lowest:?}");
    assert!(!shown.contains("NaN") && !shown.contains("undefined"), "a figure is missing");
}

#[tokio::test(start_paused = true)]
async fn a_page_of_a_server_that_says_nothing_of_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("report.html");
    let mut report = report().await;
    report.overlay = None;
    report.counts.parts = tidegate_loadtest::record::Parts::default();
    fs::write(&page, html(&report, &[], None)).expect("written");
    let Seen { document, complaints, asked } = browse(&page, folder.path());
    assert!(complaints.is_empty() && asked.is_empty(), "{complaints:#?} {asked:#?}");
    assert!(document.contains("data-drawn=\"2\""), "response times and rates");
}

#[tokio::test(start_paused = true)]
async fn a_page_of_a_run_that_was_ended_early_ends_where_the_run_did() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("report.html");
    let mut report = report().await;
    let last = |document: &str| {
        // The labels of the time axis are the last ones of the last chart.
        let texts = document.split("</text>").filter_map(|text| text.rsplit('>').next());
        texts.filter(|text| text.ends_with(" s")).last().map(str::to_owned)
    };
    fs::write(&page, html(&report, &[], None)).expect("written");
    let shown =
        |document: &str| document.split("<script").next().is_some_and(|text| text.contains("Ended early"));
    let whole = browse(&page, folder.path()).document;
    assert!(!shown(&whole));
    report.duration *= 60;
    let mut lost = seen();
    lost.end(200.0);
    lost.left_out = 12;
    report.counts.examples.insert("connect".to_owned(), "Connection refused <1>".to_owned());
    report.overlay = Some(lost);
    fs::write(&page, html(&report, &[], None)).expect("written");
    let Seen { document, complaints, .. } = browse(&page, folder.path());
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert!(shown(&document));
    let warned = |document: &str| document.contains("The gateway did not answer for 140 s of 200 s");
    assert!(document.contains("Connection refused &lt;1&gt;"), "an example");
    assert!(document.contains("12 more came later and are not listed"));
    assert!(warned(&document) && !warned(&whole));
    assert!(last(&whole).is_some() && last(&document) == last(&whole), "{:?}", last(&document));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_broke_or_asked_would_be_noticed() {
    const PICTURE: &str = "<body><img src=\"http://127.0.0.1:9/x.png\">";
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("report.html");
    let text = html(&report().await, &[], None);
    let look = |text: &str| {
        fs::write(&page, text).expect("written");
        browse(&page, folder.path())
    };
    assert!(!look(&text.replace("const data =", "nonsense(); const data =")).complaints.is_empty());
    // Its policy keeps it from asking, loudly.
    assert!(!look(&text.replace("<body>", PICTURE)).complaints.is_empty());
    // Without it, the log of the network would tell.
    let free = text.replace("default-src 'none'", "default-src *").replace("<body>", PICTURE);
    assert!(look(&free).asked.iter().any(|url| url.contains("127.0.0.1:9")));
}
