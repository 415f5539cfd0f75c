//! What of a head crosses the gateway.

use e2e::{
    client::{Answer, status},
    origin::Echo,
    world::{World, get},
};
use http::{HeaderName, HeaderValue};

const API: &str = "services.api.image = \"api:1\"\n";

async fn with(world: &World, fields: &[(&'static str, &'static str)]) -> Echo {
    let mut request = get("api", "/");
    for (name, value) in fields {
        request.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    world.ask(request).await.expect("an answer").echo()
}

#[tokio::test]
async fn hop_by_hop_fields_of_requests_end_at_the_gateway() {
    let world = World::new(API).await;
    let echo = with(
        &world,
        &[
            ("connection", "keep-alive, x-named"),
            ("x-named", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, trailers"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic"),
            ("upgrade", "websocket"),
            ("http2-settings", "AAA"),
            ("proxy", "evil"),
            ("x-tidegate-cold", "1"),
            ("x-kept", "1"),
            ("x-kept", "2"),
        ],
    )
    .await;
    for gone in [
        "connection",
        "x-named",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "upgrade",
        "http2-settings",
        "proxy",
        "x-tidegate-cold",
    ] {
        assert_eq!(echo.header(gone), None, "{gone}");
    }
    assert_eq!((echo.header("te"), echo.all("x-kept")), (Some("trailers"), vec!["1", "2"]));
    assert_eq!(echo.header("host"), Some("api.localhost"));
}

#[tokio::test]
async fn hop_by_hop_fields_of_responses_end_at_the_gateway() {
    let world = World::new(API).await;
    let answer: Answer = world.get("api", "/hop").await;
    assert_eq!((answer.text().as_str(), answer.header("x-kept")), ("hop", Some("1")));
    for gone in
        ["connection", "x-secret", "keep-alive", "proxy-authenticate", "x-tidegate-cold", "server-timing"]
    {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
}

const FORGED: [(&str, &str); 7] = [
    ("x-forwarded-for", "6.6.6.6"),
    ("x-forwarded-host", "evil"),
    ("x-forwarded-proto", "https"),
    ("x-real-ip", "6.6.6.6"),
    ("forwarded", "for=6.6.6.6"),
    ("x_forwarded_for", "6.6.6.6"),
    ("x_real_ip", "6.6.6.6"),
];

#[tokio::test]
async fn a_stranger_is_not_believed_about_where_a_request_came_from() {
    let world = World::new(API).await;
    let echo = with(&world, &FORGED).await;
    for (name, want) in [
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-host", Some("api.localhost")),
        ("x-forwarded-proto", Some("http")),
        ("x-real-ip", Some("127.0.0.1")),
        ("forwarded", Some("for=127.0.0.1;proto=http")),
        ("x_forwarded_for", None),
        ("x_real_ip", None),
    ] {
        assert_eq!(echo.header(name), want, "{name}");
    }
    assert!(!echo.headers.iter().any(|(_, value)| value.contains("6.6.6.6")), "{echo:?}");
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_and_added_to() {
    let world = World::new(&format!("gateway.trusted_proxies = [\"127.0.0.0/8\"]\n{API}")).await;
    let echo = with(&world, &FORGED).await;
    for (name, want) in [
        ("x-forwarded-for", "6.6.6.6, 127.0.0.1"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", "6.6.6.6"),
        ("forwarded", "for=6.6.6.6, for=127.0.0.1;proto=http"),
    ] {
        assert_eq!(echo.header(name), Some(want), "{name}");
    }
    let twice = with(&world, &[("forwarded", "for=1.1.1.1"), ("forwarded", "for=2.2.2.2")]).await;
    assert_eq!(twice.all("forwarded").join(", "), "for=1.1.1.1, for=2.2.2.2, for=127.0.0.1;proto=http");
}

#[tokio::test]
async fn a_client_cannot_name_forwarding_fields_as_its_connections_own() {
    let world = World::new(API).await;
    let named = "host, x-forwarded-for, x-forwarded-proto, x-real-ip, forwarded";
    let echo = with(&world, &[("connection", named)]).await;
    assert_eq!(echo.header("host"), Some("api.localhost"));
    assert_eq!(echo.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(echo.header("x-forwarded-proto"), Some("http"));
    assert_eq!(echo.header("x-real-ip"), Some("127.0.0.1"));
}

#[tokio::test]
async fn http2_cookies_become_one_field() {
    let world = World::new(API).await;
    let mut request = get("api", "/");
    for cookie in ["a=1", "b=2"] {
        request.headers_mut().append("cookie", HeaderValue::from_static(cookie));
    }
    let echo = world.http2().await.ask(request).await.expect("an answer").echo();
    assert_eq!(echo.header("cookie"), Some("a=1; b=2"));
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused_and_cost_nobody_else() {
    let world = World::new(&format!("gateway.limits.header_count = 20\n{API}")).await;
    for head in [
        format!("GET / HTTP/1.1\r\nhost: api.localhost\r\n{}\r\n", "a: b\r\n".repeat(50)),
        format!("GET / HTTP/1.1\r\nhost: api.localhost\r\nx: {}\r\n\r\n", "x".repeat(100_000)),
    ] {
        let mut wire = world.wire().await;
        wire.send(head).await;
        let answer = wire.head().await.unwrap_or_default();
        assert_eq!(status(&answer), 431, "{answer:?}");
    }
    assert_eq!(world.get("api", "/").await.status, 200);
}

#[tokio::test]
async fn over_http2_as_well() {
    let world = World::new(&format!("gateway.limits.header_count = 20\n{API}")).await;
    let mut session = world.http2().await;
    for (fields, length) in [(50, 1), (2, 40_000)] {
        let mut request = get("api", "/");
        for number in 0..fields {
            let name = HeaderName::try_from(format!("x-{number}")).expect("a name");
            request.headers_mut().append(name, HeaderValue::try_from("y".repeat(length)).expect("a value"));
        }
        let answer = session.ask(request).await.expect("an answer");
        assert_eq!(answer.refusal(), (431, "head_too_large".into()), "{fields} of {length}");
    }
    assert_eq!(session.ask(get("api", "/")).await.expect("an answer").status, 200);
}
