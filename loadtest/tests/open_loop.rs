//! The load generator against a server whose behaviour each test chooses, over real sockets.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tidegate_loadtest::{
    Aim, Options, Report, Threshold,
    plan::{Plan, Process, Shape},
    run,
    template::Template,
};
use tokio::{net::TcpListener, sync::Notify, task::JoinSet};

const MS: Duration = Duration::from_millis(1);

/// What the server did; it ends when this is dropped.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _accepting: JoinSet<()>,
}

impl Server {
    fn url(&self) -> String {
        format!("http://test.localhost:{}/path?q=1", self.address.port())
    }

    fn options(&self) -> Options {
        Options::new(self.url())
    }
}

/// Answers each request, numbered from 0, with what `behave` says; `None` breaks the connection.
async fn server<F, A>(behave: F) -> Server
where
    F: Fn(usize, Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Option<Response<Full<Bytes>>>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let connections = Arc::new(AtomicUsize::new(0));
    let accepted = Arc::clone(&connections);
    let requests = Arc::new(AtomicUsize::new(0));
    let mut accepting = JoinSet::new();
    accepting.spawn(async move {
        let mut serving = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            accepted.fetch_add(1, Ordering::SeqCst);
            let (behave, requests) = (behave.clone(), Arc::clone(&requests));
            serving.spawn(async move {
                let service = service_fn(move |request| {
                    let answer = behave(requests.fetch_add(1, Ordering::SeqCst), request);
                    async move { answer.await.ok_or("told to break the connection") }
                });
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Server { address, connections, _accepting: accepting }
}

fn answer(code: u16, body: &'static str) -> Option<Response<Full<Bytes>>> {
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = StatusCode::from_u16(code).expect("a code");
    Some(response)
}

fn even(rate: f64, length: Duration) -> Plan {
    Plan::even(rate, length).expect("valid")
}

async fn quietly(options: Options, plan: Plan) -> Report {
    run(options, plan, |_| ()).await.expect("the run starts")
}

#[tokio::test]
async fn every_request_is_counted_once() {
    let server = server(|number, _| async move { answer([200, 204, 404, 503][number % 4], "") }).await;
    let report = quietly(server.options(), even(400.0, 200 * MS)).await;
    assert_eq!(report.requests, 80);
    assert_eq!(report.counts.codes.values().copied().collect::<Vec<_>>(), [20, 20, 20, 20]);
    assert_eq!((report.counts.errors.status, report.counts.errors.total()), (40, 40));
    assert!((report.error_rate - 0.5).abs() < 1e-9);
    assert_eq!(server.connections.load(Ordering::SeqCst) as u64, report.connections);
}

#[tokio::test]
async fn targets_at_one_place_share_connections() {
    for h2 in [None, Some(1)] {
        let server = server(|_, _| async move { answer(200, "") }).await;
        let aim = |path: &str| Aim { name: path.to_owned(), ..Aim::new(format!("{}&{path}", server.url())) };
        let elsewhere = Aim::new(server.url().replace("test.", "other."));
        let options =
            Options { aims: vec![aim("a"), aim("b"), elsewhere], connections: 1, h2, ..server.options() };
        let report = quietly(options, even(200.0, 200 * MS)).await;
        assert!(
            report.counts.targets.iter().all(|target| target.latency.count() > 0),
            "all three are sent to"
        );
        assert_eq!((report.requests, report.counts.errors.total()), (40, 0), "{h2:?}");
        assert_eq!(
            (report.connections, server.connections.load(Ordering::SeqCst)),
            (2, 2),
            "{h2:?}: one to each host"
        );
    }
}

#[tokio::test]
async fn what_was_asked_for_is_sent() {
    for h2c in [false, true] {
        let server = server(move |_, request| async move {
            let (head, body) = request.into_parts();
            let host = head.headers.get("host").map(|host| host.to_str().expect("ASCII").to_owned());
            let host = host.or_else(|| head.uri.authority().map(ToString::to_string));
            let right = head.method == Method::PUT
                && head.uri.path_and_query().is_some_and(|path| path == "/path?q=1")
                && head.version == if h2c { Version::HTTP_2 } else { Version::HTTP_11 }
                && head.headers.get("x-test").is_some_and(|value| value == "yes")
                && host.as_deref() == Some("other.test")
                && body.collect().await.is_ok_and(|body| body.to_bytes() == "content");
            answer(if right { 200 } else { 400 }, "four")
        })
        .await;
        let aim = Aim {
            method: Method::PUT,
            headers: vec![(HeaderName::from_static("x-test"), Template::plain("yes"))],
            body: Template::plain("content"),
            host: Some("other.test".to_owned()),
            ..Aim::new(server.url())
        };
        let options = Options { h2: h2c.then_some(1), ..Options::of(aim) };
        let plan = Plan::new(Shape::constant(200.0, 100 * MS), Process::Poisson, 1).expect("valid");
        let report = quietly(options, plan).await;
        assert_eq!(
            report.counts.codes.get(&200),
            Some(&report.requests),
            "h2c {h2c}: {:?}",
            report.counts.codes
        );
        assert_eq!(report.counts.bytes, 4 * report.requests);
    }
}

/// The heart of open loop: a stall of the server is felt by all that it delayed, not by the one request in it.
#[tokio::test]
async fn a_stall_is_in_the_latency_of_all_that_waited() {
    let resume = Arc::new(Notify::new());
    let stall = Arc::clone(&resume);
    let server = server(move |number, _| {
        let stall = Arc::clone(&stall);
        async move {
            if number == 0 {
                stall.notified().await;
            }
            answer(200, "")
        }
    })
    .await;
    let options = Options { connections: 1, ..server.options() };
    let mut resumed_at = None;
    let report = run(options, even(1000.0, 50 * MS), |snapshot| {
        // All 50 are due by now, one was sent, none is answered.
        if resumed_at.is_none() {
            assert_eq!((snapshot.sent, snapshot.done, snapshot.in_flight), (1, 0, 1));
            assert!(snapshot.behind > Duration::ZERO);
            resumed_at = Some(snapshot.elapsed);
            resume.notify_one();
        }
    })
    .await
    .expect("the run starts");
    assert_eq!((report.requests, report.counts.errors.total()), (50, 0));
    let last_due = 49 * MS;
    let waited = resumed_at.expect("a snapshot") - last_due;
    let shortest = report.latency.min().expect("50 requests");
    assert!(
        shortest >= waited.mul_f64(0.999),
        "even the last one waited {waited:?}, but {shortest:?} was measured"
    );
    assert!(
        report.latency.percentile(50.0) > report.service_time.percentile(50.0),
        "only the first one was slow to serve"
    );
    // Nearly all waited. A busy machine may make the generator itself late once or twice.
    assert!(
        report.pace.late < 10,
        "waiting for the server is not the generator's fault: {}",
        report.pace.late
    );
}

#[tokio::test]
async fn a_low_rate_keeps_one_connection() {
    let server = server(|_, _| async { answer(200, "") }).await;
    // Half a second apart: the answer to one is there long before the next.
    let shape = Shape::steps([(2.0, 500 * MS); 3]);
    let plan = Plan::new(shape, Process::Uniform, 0).expect("valid");
    let report = quietly(server.options(), plan).await;
    assert_eq!((report.requests, report.connections), (3, 1));
}

#[tokio::test]
async fn failures_have_kinds() {
    let never = || async { std::future::pending::<Option<Response<Full<Bytes>>>>().await };
    let silent = server(move |_, _| never()).await;
    let report = quietly(Options { timeout: 50 * MS, ..silent.options() }, even(100.0, 50 * MS)).await;
    assert_eq!((report.requests, report.counts.errors.timeout), (5, 5));

    let breaking = server(|_, _| async { None }).await;
    let report = quietly(breaking.options(), even(100.0, 50 * MS)).await;
    assert_eq!((report.requests, report.counts.errors.reset), (5, 5));
    assert!(
        report.counts.examples["reset"].contains("closed the connection"),
        "{:?}",
        report.counts.examples
    );

    let port = {
        let gone = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        gone.local_addr().expect("it is bound").port()
    };
    let gone = Options::new(format!("http://127.0.0.1:{port}"));
    let report = quietly(gone.clone(), even(100.0, 50 * MS)).await;
    assert_eq!((report.requests, report.counts.errors.connect), (5, 5));
    let text = report.to_text(&[]);
    assert!(text.contains("connect, for one: Connection refused"), "{text}");
    let report = quietly(Options { h2: Some(1), ..gone }, even(100.0, 50 * MS)).await;
    assert!(report.counts.examples["connect"].contains("Connection refused"), "{:?}", report.counts.examples);
}

#[tokio::test]
async fn nothing_is_dropped_when_the_server_never_answers() {
    let silent = server(|_, _| std::future::pending()).await;
    let options = Options { connections: 2, timeout: 100 * MS, ..silent.options() };
    let report = quietly(options, even(100.0, 100 * MS)).await;
    assert_eq!(report.requests, 10, "{:?}", report.counts.errors);
    assert!(report.counts.errors.unsent > 0, "{:?}", report.counts.errors);
    assert_eq!(report.counts.errors.unsent + report.counts.errors.timeout, 10);
}

#[tokio::test]
async fn what_was_never_sent_was_somebodys() {
    let silent = server(|_, _| std::future::pending()).await;
    let aim = |name: &str| Aim { name: name.to_owned(), ..Aim::new(silent.url()) };
    let aims = vec![aim("a"), aim("b")];
    let options = Options { aims, connections: 2, timeout: 100 * MS, ..silent.options() };
    let report = quietly(options, even(200.0, 100 * MS)).await;
    assert!(report.counts.errors.unsent > 0, "{:?}", report.counts.errors);
    let counts = report.counts.targets.iter();
    let counts: Vec<_> = counts.map(|target| (target.latency.count(), target.errors)).collect();
    assert_eq!(counts.iter().map(|(requests, _)| requests).sum::<u64>(), 20, "{counts:?}");
    assert!(counts.iter().all(|(requests, errors)| requests == errors), "{counts:?}");
}

#[tokio::test]
async fn connections_that_the_server_closes_cost_no_request() {
    let server = server(|_, _| async {
        let mut response = answer(200, "")?;
        response.headers_mut().insert("connection", HeaderValue::from_static("close"));
        Some(response)
    })
    .await;
    let report = quietly(Options { connections: 1, ..server.options() }, even(500.0, 100 * MS)).await;
    assert_eq!((report.requests, report.counts.errors.total(), report.connections), (50, 0, 50));
}

#[tokio::test]
async fn the_last_snapshot_and_the_report_agree() {
    let server = server(|_, _| async { answer(200, "") }).await;
    let mut last = None;
    let report = run(server.options(), even(200.0, 300 * MS), |snapshot| last = Some(snapshot))
        .await
        .expect("it starts");
    let last = last.expect("at least one");
    assert!(last.finished);
    assert_eq!((last.sent, last.done, last.expected, last.in_flight), (60, 60, 60, 0));
    let rate: Threshold = "errors<1".parse().expect("valid");
    assert!(rate.check(&report).pass);
}

#[tokio::test]
async fn options_that_cannot_work() -> Result<(), Infallible> {
    let base = || Options::new("http://127.0.0.1:1/");
    for (options, part) in [
        (Options { connections: 0, ..base() }, "connections: 0"),
        (Options { timeout: Duration::ZERO, ..base() }, "timeout: 0"),
        (Options::new("ftp://a.test"), "is not a URL"),
        (Options { aims: Vec::new(), ..base() }, "nothing is to be sent"),
        (Options::of(Aim { weight: 0, ..Aim::new("http://a") }), "weight: 0"),
        (Options { cpu: Some(100_000), ..base() }, "no processor 100000"),
    ] {
        let error = run(options, even(1000.0, MS), |_| ()).await.expect_err(part);
        assert!(format!("{error:#}").contains(part), "{error:#}");
    }
    Ok(())
}
