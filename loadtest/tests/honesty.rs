//! Whether the figures are right: against servers whose behaviour can be worked out, in virtual time, so that no machine
//! is too slow for it.

mod server;

use std::{sync::Arc, time::Duration};

use tidegate_loadtest::{
    Options, Pattern, Report,
    plan::{
        Plan, Process, Shape,
        language::{Closed, Think},
    },
    run_over,
};
use tokio::time::Instant;

use self::server::{Behaviour, Server};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

async fn load(behaviour: Behaviour, connections: usize, pattern: impl Into<Pattern>) -> Report {
    let options = Options { connections, timeout: 1000 * S, ..Options::new("http://127.0.0.1/") };
    run_over(Server::new(behaviour), options, pattern, |_| ()).await.expect("the run starts")
}

/// The value that `percent` percent of these do not exceed.
fn exact(mut values: Vec<f64>, percent: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((percent / 100.0 * values.len() as f64).ceil() as usize).max(1) - 1]
}

fn check(report: &Report, expected: &[f64]) {
    for percent in [10.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9] {
        let found = report.latency.percentile(percent).expect("requests").as_secs_f64();
        let want = exact(expected.to_vec(), percent);
        assert!((found - want).abs() <= 0.02 * want, "p{percent}: {found} for {want}");
    }
}

/// Stops for three seconds after ten; else it takes 5 ms.
fn stalls(at: Duration) -> Duration {
    if (10 * S..13 * S).contains(&at) { 13 * S } else { at + 5 * MS }
}

#[tokio::test(start_paused = true)]
async fn a_stall_has_the_response_times_that_follow_from_it() {
    // 100 per second for 30 s: those due in the stall wait for its end, every other one takes 5 ms.
    let plan = Plan::even(100.0, 30 * S).expect("valid");
    let expected: Vec<f64> = plan
        .instants()
        .map(|due| if (10 * S..13 * S).contains(&due) { (13 * S - due).as_secs_f64() } else { 0.005 })
        .collect();
    // As many connections as can be needed: none waits for another.
    let report = load(stalls, 400, plan).await;
    assert_eq!((report.requests, report.counts.errors.total()), (3000, 0));
    check(&report, &expected);
}

#[tokio::test(start_paused = true)]
async fn a_stall_is_not_hidden_by_few_connections() {
    // One connection: what is due in the stall goes out behind it, one after the other, and has waited all the while.
    let plan = Plan::even(100.0, 30 * S).expect("valid");
    let mut free = 0.0_f64;
    let expected: Vec<f64> = plan
        .instants()
        .map(|due| {
            let (due, begin) = (due.as_secs_f64(), due.as_secs_f64().max(free));
            free = if (10.0..13.0).contains(&begin) { 13.0 } else { begin + 0.005 };
            free - due
        })
        .collect();
    let report = load(stalls, 1, plan).await;
    check(&report, &expected);
    // Nobody but the one request in it was slow to serve; that is what a closed loop would have said of all.
    let slow = report.service_time.count() - report.service_time.count_up_to(10 * MS);
    assert_eq!(slow, 1);
    assert!(report.latency.percentile(90.0) > Some(S), "{:?}", report.latency);
    assert!(report.kept_up, "waiting for the server is not the generator's fault: {:?}", report.pace);
}

#[tokio::test(start_paused = true)]
async fn response_time_is_lag_and_service_time() {
    let report = load(stalls, 1, Plan::even(100.0, 30 * S).expect("valid")).await;
    let mean = |spread: &tidegate_loadtest::record::Spread| spread.mean().expect("requests").as_secs_f64();
    let (whole, parts) = (mean(&report.latency), mean(&report.service_time) + mean(&report.lag));
    assert!((whole - parts).abs() < 0.002 * whole, "{whole} {parts}");
}

/// What a queue in front of one server does to Poisson arrivals, by Lindley's recursion over the same instants.
#[tokio::test(start_paused = true)]
async fn a_queue_has_the_waits_that_theory_gives_it() {
    let plan = Plan::new(Shape::constant(80.0, 60 * S), Process::Poisson, 11).expect("valid");
    let mut free = 0.0_f64;
    let expected: Vec<f64> = plan
        .instants()
        .map(|due| {
            free = due.as_secs_f64().max(free) + 0.010;
            free - due.as_secs_f64()
        })
        .collect();
    // The runtime's virtual timers are whole milliseconds, and so is the wait for an instant between two of them.
    let report = load(|at| at + 10 * MS, 1, plan).await;
    for percent in [50.0, 90.0, 99.0] {
        let found = report.latency.percentile(percent).expect("requests").as_secs_f64();
        let want = exact(expected.clone(), percent);
        assert!((found - want).abs() <= 0.02 * want + 0.0015, "p{percent}: {found} for {want}");
    }
    // Pollaczek and Khinchine: at 80 % utilisation the mean wait of a steady server is twice its service time.
    let mean = report.latency.mean().expect("requests").as_secs_f64();
    assert!((0.020..0.045).contains(&mean), "{mean}");
}

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_is_counted_and_waits_in_the_figures() {
    // One connection, a second each: of 100 requests within a second two go out before all patience is over.
    let options = Options { connections: 1, timeout: 1500 * MS, ..Options::new("http://127.0.0.1/") };
    let plan = Plan::even(100.0, S).expect("valid");
    let report = run_over(Server::new(|at| at + S), options, plan, |_| ()).await.expect("the run starts");
    let errors = report.counts.errors;
    assert_eq!(report.requests, 100);
    assert!(errors.unsent >= 97 && errors.unsent + report.service_time.count() == 100, "{errors:?}");
    assert!(report.latency.min() >= Some(990 * MS), "{:?}", report.latency);
}

/// Against a server that answers nothing any more: who gives up need not wait for a backlog to time out.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_ended_ends_within_one_timeout() {
    let hangs: Behaviour = |at| if at < 5 * S { at + 5 * MS } else { 10_000 * S };
    for (ring_twice, length, longest) in [(false, 3600, 27), (false, 20, 27), (true, 3600, 19)] {
        let options = Options { connections: 4, timeout: 10 * S, ..Options::new("http://127.0.0.1/") };
        let (stop, abort) = (Arc::clone(&options.stop), Arc::clone(&options.abort));
        let plan = Plan::even(100.0, length * S).expect("valid");
        let running = run_over(Server::new(hangs), options, plan, |_| ());
        let ending = async {
            tokio::time::sleep(17 * S).await;
            stop.notify_one();
            if ring_twice {
                tokio::time::sleep(S).await;
                abort.notify_one();
            }
        };
        let (report, ()) = tokio::join!(running, ending);
        let report = report.expect("the run starts");
        let errors = report.counts.errors;
        assert!(report.elapsed < longest * S, "{length}: {:?}", report.elapsed);
        assert!(report.ended_early() && report.to_text(&[]).contains("ended early"), "{length}");
        // All that was due by then is there, and nothing was sent later.
        assert!((1700..=1701).contains(&report.requests), "{length}: {}", report.requests);
        assert_eq!((errors.timeout, errors.cut), if ring_twice { (4, 4) } else { (8, 0) }, "{length}");
        assert!((1191..=1194).contains(&errors.unsent), "{length}: {errors:?}");
    }
}

/// Users who think after the plan was ended send nothing more.
#[tokio::test(start_paused = true)]
async fn users_who_think_when_the_plan_is_ended_are_gone() {
    let closed = Closed { users: 5, think: Think::Fixed(20 * S), length: 100 * S };
    let options = Options { timeout: 1000 * S, ..Options::new("http://127.0.0.1/") };
    let stop = Arc::clone(&options.stop);
    let running = run_over(Server::new(|at| at + 5 * MS), options, Pattern::Closed(closed), |_| ());
    let ending = async {
        tokio::time::sleep(30 * S).await;
        stop.notify_one();
    };
    let (report, ()) = tokio::join!(running, ending);
    let report = report.expect("the run starts");
    assert_eq!(report.requests, 5, "those of 20 s; the next ones would have been sent at 40 s");
    assert!(report.ended_early() && report.elapsed < 31 * S, "{:?}", report.elapsed);
}

#[tokio::test(start_paused = true)]
async fn a_closed_loop_says_that_it_is_one() {
    let closed = |users, think| Pattern::Closed(Closed { users, think, length: 30 * S });
    // Five users, 5 ms an answer and 95 ms of thinking: 50 requests per second, but for the stall.
    let report = load(stalls, 1, closed(5, Think::Fixed(95 * MS))).await;
    assert!((1345..=1360).contains(&report.requests), "{}", report.requests);
    assert!(report.latency.percentile(99.0) < Some(10 * MS), "the stall is hidden: {:?}", report.latency);
    let text = report.to_text(&[]);
    assert!(
        text.contains("5 users in a closed loop") && text.contains("leave out what would have queued"),
        "{text}"
    );
    let random = load(|at| at + 5 * MS, 1, closed(20, Think::Exponential(95 * MS))).await;
    assert!((5500..=6500).contains(&random.requests), "{}", random.requests);
}

#[tokio::test(start_paused = true)]
async fn a_pause_at_the_end_belongs_to_the_run() {
    let plan = Plan::new(Shape::steps([(10.0, S), (0.0, 5 * S)]), Process::Uniform, 0).expect("valid");
    let start = Instant::now();
    let mut last = Duration::ZERO;
    let options = Options::new("http://127.0.0.1/");
    let report = run_over(Server::new(|at| at + MS), options, plan, |snapshot| last = snapshot.elapsed);
    let report = report.await.expect("the run starts");
    assert_eq!((report.requests, report.elapsed), (10, 6 * S));
    assert!(start.elapsed() >= 6 * S && last >= 6 * S, "whoever watches sees it to the end: {last:?}");
}

#[tokio::test(start_paused = true)]
async fn ended_early_nothing_is_missed() {
    let options = Options::new("http://127.0.0.1/");
    let stop = Arc::clone(&options.stop);
    let plan = Plan::even(100.0, 3600 * S).expect("valid");
    let report = run_over(Server::new(|at| at + MS), options, plan, |snapshot| {
        if snapshot.elapsed >= 2 * S {
            stop.notify_one();
        }
    });
    let report = report.await.expect("the run starts");
    assert!((200..=300).contains(&report.requests), "{}", report.requests);
    assert_eq!(report.counts.errors.total(), 0);
    assert!(report.elapsed < 4 * S, "{:?}", report.elapsed);
}
