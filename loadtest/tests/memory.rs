//! An hour's run costs no more memory than its first minutes. In a process of its own, for it looks at the whole of it.

mod server;

use std::time::Duration;

use tidegate_loadtest::{
    Options,
    plan::{Plan, Process, language},
    run_over,
};

use self::server::Server;

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
    let report = run_over(Server::new(|at| at + Duration::from_millis(20)), options, plan, |snapshot| {
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
