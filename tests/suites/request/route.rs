//! Which service a request reaches, and as what.

use e2e::{
    client::{empty, status},
    world::{World, get, request},
};

const ROUTES: &str = r#"
    [services.api]
    image = "api:1"
    routes = [{ host = "api.localhost" }, { host = "api.localhost", path = "/v1", strip = true }]
    [services.wide]
    image = "wide:1"
    routes = [{ host = "*.wide.localhost" }]
    [services.slashes]
    image = "slashes:1"
    [services.slashes.upstream]
    allow_encoded_slashes = true
"#;

#[tokio::test]
async fn host_and_path_lead_to_a_service_and_a_target() {
    let world = World::new(ROUTES).await;
    for (host, path, want) in [
        ("api", "/", Ok(("api", "/"))),
        ("API", "/a", Ok(("api", "/a"))),
        ("api", "/v1/users?x=%2F..", Ok(("api", "/users?x=%2F.."))),
        ("api", "/v1", Ok(("api", "/"))),
        ("api", "/v1?q", Ok(("api", "/?q"))),
        ("api", "/v10", Ok(("api", "/v10"))),
        ("api", "/a/../b", Ok(("api", "/b"))),
        ("api", "/v1/../secret", Ok(("api", "/secret"))),
        ("api", "/x/%2e%2e/v1/y", Ok(("api", "/y"))),
        ("api", "/a//b", Ok(("api", "/a//b"))),
        ("api", "/%41", Ok(("api", "/%41"))),
        ("api", "/a%2fb", Err((400, "bad_request"))),
        ("api", "/a%5cb", Err((400, "bad_request"))),
        ("api", "/a%00", Err((400, "bad_request"))),
        ("slashes", "/a%2fb", Ok(("slashes", "/a%2fb"))),
        ("slashes", "/a%00", Err((400, "bad_request"))),
        ("x.wide", "/", Ok(("wide", "/"))),
        ("x.y.wide", "/", Ok(("wide", "/"))),
        ("wide", "/", Err((404, "no_route"))),
        ("else", "/", Err((404, "no_route"))),
    ] {
        let answer = world.get(host, path).await;
        match want {
            Ok((service, target)) => {
                let echo = answer.echo();
                assert_eq!((&*echo.service, &*echo.target), (service, target), "{host}{path}");
            }
            Err((code, reason)) => assert_eq!(answer.refusal(), (code, reason.into()), "{host}{path}"),
        }
    }
    assert!(!world.targets.paths().iter().any(|path| path.contains("..") && !path.contains('?')));
}

#[tokio::test]
async fn a_request_names_its_host_once() {
    let world = World::new(ROUTES).await;
    for (head, code) in [
        ("GET / HTTP/1.1\r\nhost: api.localhost\r\n", 200),
        ("GET / HTTP/1.1\r\nhost: api.localhost:8080\r\n", 200),
        ("GET / HTTP/1.1\r\nhost: api.localhost.\r\n", 200),
        ("GET / HTTP/1.0\r\nhost: api.localhost\r\n", 200),
        ("GET / HTTP/1.0\r\n", 404),
        ("GET / HTTP/1.1\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: api.localhost\r\nhost: api.localhost\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: api.localhost\r\nhost: other\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: api.localhost, other\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: user@api.localhost\r\n", 400),
        ("GET http://api.localhost/ HTTP/1.1\r\nhost: other\r\n", 200),
        ("CONNECT api.localhost:80 HTTP/1.1\r\nhost: api.localhost\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nhost: api.localhost\r\n", 200),
    ] {
        let mut wire = world.wire().await;
        wire.send(format!("{head}connection: close\r\n\r\n")).await;
        let answer = wire.head().await.unwrap_or_default();
        assert_eq!(status(&answer), code, "{head:?} got {answer:?}");
    }
}

#[tokio::test]
async fn the_absolute_form_is_forwarded_as_the_origin_form() {
    let world = World::new(ROUTES).await;
    let mut wire = world.wire().await;
    wire.send("GET http://api.localhost/v1/x?y HTTP/1.1\r\nhost: other.localhost\r\n\r\n").await;
    let (_, body) = wire.answer().await.expect("an answer");
    let echo: e2e::origin::Echo = serde_json::from_slice(&body).expect("the origin's JSON");
    assert_eq!(echo.target, "/x?y");
    assert_eq!(echo.all("host"), ["api.localhost"], "RFC 9112, 3.2.2: the target's host replaces the field");
}

#[tokio::test]
async fn methods_pass() {
    let world = World::new(ROUTES).await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
        let echo = world.ask(request(method, "api", "/", empty())).await.expect("an answer").echo();
        assert_eq!(echo.method, method);
    }
    let head = world.ask(request("HEAD", "api", "/", empty())).await.expect("an answer");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_ne!(head.header("content-length"), Some("0"), "as long as the GET would have been");
    let missing = world.ask(get("api", "/status/418")).await.expect("an answer");
    assert_eq!(missing.status, 418);
}
