//! `Server-Timing` and `X-Tidegate-Cold`: on every answer of a service, on none of ours.

use e2e::{
    client::Answer,
    world::{World, get},
};

const TIMED: &str = "gateway.timing_headers = true\nservices.api.image = \"api:1\"";

/// The value of one part of the field, in milliseconds.
fn part(answer: &Answer, name: &str) -> Option<f64> {
    let field = answer.header("server-timing")?;
    let part = field.split(", ").find_map(|part| part.strip_prefix(&format!("{name};dur=")))?;
    Some(part.parse().unwrap_or_else(|_| panic!("{field}")))
}

#[tokio::test]
async fn every_answer_of_a_service_tells_where_the_time_went() {
    let world = World::new(TIMED).await;
    let cold = world.http2().await.ask(get("api", "/")).await.expect("a whole answer");
    assert_eq!(cold.header("x-tidegate-cold"), Some("1"), "also over HTTP/2: {cold:?}");
    let (queue, start) = (part(&cold, "queue").expect("a part"), part(&cold, "start").expect("a part"));
    assert!(queue >= start, "it waited for all of the start: {cold:?}");
    for path in ["/", "/status/500", "/status/304"] {
        let warm = world.get("api", path).await;
        assert!(part(&warm, "queue").is_some() && part(&warm, "upstream").is_some(), "{warm:?}");
        assert_eq!((part(&warm, "start"), warm.header("x-tidegate-cold")), (None, None));
    }
    let mut wire = world.wire().await;
    wire.send("GET /upgrade HTTP/1.1\r\nhost: api.localhost\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        .await;
    let head = wire.head().await.expect("an answer");
    assert!(head.contains("server-timing: queue;dur="), "a tunnel too: {head}");
}

#[tokio::test]
async fn answers_of_ours_tell_no_times() {
    let text = format!("{TIMED}\nservices.other.image = \"other:1\"\nservices.api.wake.waiting_page = true");
    let world = World::new(&text).await;
    let mut monitor = get("api", "/");
    monitor.headers_mut().insert("user-agent", http::HeaderValue::from_static("kube-probe/1"));
    let mut page = get("api", "/");
    page.headers_mut().insert("sec-fetch-mode", http::HeaderValue::from_static("navigate"));
    page.headers_mut().insert("sec-fetch-dest", http::HeaderValue::from_static("document"));
    for request in [get("nobody", "/"), monitor, page] {
        let answer = world.ask(request).await.expect("a whole answer");
        let fields = (answer.header("server-timing"), answer.header("x-tidegate-cold"));
        assert_eq!(fields, (None, None), "{answer:?}");
    }
}
