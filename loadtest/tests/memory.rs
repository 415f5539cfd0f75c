//! An hour's run costs no more memory than its first minutes. In a process of its own, for it looks at the whole of it.

use std::{io, pin::Pin, sync::Arc, time::Duration};

use tidegate_loadtest::{
    Dial, Io, Options,
    plan::{Plan, Process, language},
    run_over,
    target::Target,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinSet,
};

#[derive(Debug, Default)]
struct Server(std::sync::Mutex<JoinSet<()>>);

impl Dial for Server {
    fn dial<'a>(
        &'a self,
        _: &'a Target,
        _: bool,
    ) -> Pin<Box<dyn Future<Output = io::Result<Io>> + Send + 'a>> {
        let (near, far) = duplex(1 << 10);
        self.0.lock().expect("no panic").spawn(serve(far));
        Box::pin(async { Ok(Io::Other(Box::new(near))) })
    }
}

async fn serve(mut stream: DuplexStream) {
    let mut request = [0; 1024];
    while let Ok(1..) = stream.read(&mut request).await {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}

/// Memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux has it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[tokio::test(start_paused = true)]
async fn an_hour_costs_no_more_than_ten_minutes() {
    let text = "sine mean=50 amp=40 period=10m 1h";
    let shape =
        language::parse(text, |_, _| Err(String::new())).and_then(|load| load.open(text)).expect("valid");
    let plan = Plan::new(shape, Process::Poisson, 3).expect("valid");
    let (mut early, mut late) = (0, 0);
    let options = Options::new("http://127.0.0.1/");
    let report = run_over(Arc::new(Server::default()), options, plan, |snapshot| {
        // The timeline has all its room after ten minutes: its stretches have been joined by then.
        if snapshot.elapsed < Duration::from_secs(600) {
            early = resident();
        }
        late = resident();
    });
    let report = report.await.expect("the run starts");
    assert!((178_000..=182_000).contains(&report.requests), "{}", report.requests);
    assert_eq!(report.counts.errors.total(), 0);
    assert!(late < early + 2048, "{early} KiB after ten minutes, {late} KiB after an hour");
}
