//! Who may come is decided on the path that is forwarded, however it is spelled and whoever reads it.

use e2e::{client::status, world::World};

use super::ask;

/// `/admin` is guarded, the rest is not; `/public` is stripped, `/moved` rewritten into it.
const GUARDED: &str = r#"
    [services.api]
    image = "api:1"
    upstream = { allow_encoded_slashes = ENCODED }
    routes = [
      { host = "api.localhost" },
      { host = "api.localhost", path = "/admin", middleware = { bearer_auth = { tokens = { ci = "sha256:1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0" } } } },
      { host = "api.localhost", path = "/public", strip = true },
      { host = "api.localhost", path = "/moved", middleware = { rewrite = { replace_prefix = "/admin" } } },
      { host = "api.localhost", path = "/inside", middleware = { ip = { deny = ["127.0.0.0/8"] } } },
    ]
    [services.other]
    image = "other:1"
    routes = [{ host = "api.localhost", path = "/other", strip = true }]
"#;

async fn guarded(encoded: bool) -> World {
    World::new(&GUARDED.replace("ENCODED", &encoded.to_string())).await
}

/// The status of a request whose target is sent as it is.
async fn raw(world: &World, target: &str) -> u16 {
    let mut wire = world.wire().await;
    wire.send(format!("GET {target} HTTP/1.1\r\nhost: api.localhost\r\n\r\n")).await;
    status(&wire.head().await.unwrap_or_default())
}

/// What a lenient service makes of a path, and one that takes it for a reference with a host.
fn is_admin(target: &str) -> bool {
    let behind_host = target.strip_prefix("//").and_then(|rest| rest.split_once('/'));
    is_guarded(target) || behind_host.is_some_and(|(_, path)| is_guarded(path))
}

fn is_guarded(target: &str) -> bool {
    let lower = target.replace("%2f", "/").replace("%2F", "/").replace("%61", "a").replace("%3b", ";");
    let mut segments: Vec<&str> = Vec::new();
    for segment in lower.split(['/', '\\']).map(|segment| segment.split(';').next().unwrap_or_default()) {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    segments.first().is_some_and(|first| *first == "admin")
}

#[tokio::test]
async fn no_spelling_of_a_guarded_path_gets_past_its_guard() {
    for encoded in [false, true] {
        let world = guarded(encoded).await;
        for target in [
            "/admin",
            "/admin/",
            "/admin/users",
            "/admin?x",
            "/x/../admin",
            "/x/%2e%2e/admin",
            "/%2E%2e/admin",
            "/./admin",
            "//admin",
            "///admin/users",
            "//x/admin",
            "//api.localhost/admin",
            "//x@y:80/admin/users",
            "///x/admin",
            "/public//x/admin",
            "/%2fx/admin",
            "/%61dmin",
            "/admin;v=1/users",
            "/;x/admin",
            "/x/..;/admin",
            "/x%3f/..;/admin",
            "/x%23/..;/admin",
            "/x%3F/.%2e;a/admin",
            "/public/%3f/..;/admin",
            "/admin%3bv=1",
            "/%2fadmin",
            "/x%2f..%2fadmin",
            "/x/..%2fadmin",
            "/\\admin",
            "/public/admin",
            "/public//admin",
            "/public/x/../../public/admin",
            "/public/../admin",
            "/public/%61dmin",
            "/moved",
            "/moved/users",
            "/public/moved/../admin",
            "http://api.localhost/admin",
            "http://api.localhost//admin",
        ] {
            let code = raw(&world, target).await;
            assert!(matches!(code, 400 | 401), "{target}: {code}, encoded slashes {encoded}");
        }
        super::sleeps(&world, "api").await;
        assert_eq!(raw(&world, "/public/inside").await, 403);
        for target in [
            "/",
            "/adminx",
            "/x/admin",
            "/public",
            "/public/x",
            "/administrator",
            "/a//b",
            "/admin/../x",
            "/a;b",
        ] {
            assert_eq!(raw(&world, target).await, 200, "{target}");
        }
        // What the service saw is what was decided on.
        let seen = world.targets.paths();
        assert!(!seen.is_empty() && !seen.iter().any(|path| is_admin(path)), "{seen:?}");
    }
}

#[tokio::test]
async fn whoever_may_come_comes_by_every_spelling_and_others_services_have_their_own_paths() {
    let world = guarded(false).await;
    let mut session = world.http1().await;
    let token = [("authorization", "Bearer s3cret")];
    for (path, seen) in [
        ("/admin/x", "/admin/x"),
        ("/public/admin", "/admin"),
        ("/moved/x", "/admin/x"),
        ("//admin", "//admin"),
    ] {
        let echo = ask(&mut session, path, &token).await.echo();
        assert_eq!((&*echo.target, echo.header("x-forwarded-user")), (seen, Some("ci")), "{path}");
    }
    let echo = ask(&mut session, "/other/admin", &[]).await.echo();
    assert_eq!((&*echo.service, &*echo.target), ("other", "/admin"));
}

#[tokio::test]
async fn no_spelling_of_a_limited_path_gets_past_its_limits() {
    let world = World::new(
        r#"
        [services.api]
        image = "api:1"
        routes = [
          { host = "api.localhost" },
          { host = "api.localhost", path = "/login", middleware = { rate_limit = { rate = "1/h" }, body_limit = "10B" } },
        ]
        "#,
    )
    .await;
    assert_eq!(raw(&world, "/login").await, 200);
    for target in ["/login", "//login", "/%6cogin", "/login;v=1", "//x/login"] {
        assert_eq!(raw(&world, target).await, 429, "{target}");
    }
    let mut wire = world.wire().await;
    wire.send("POST //login HTTP/1.1\r\nhost: api.localhost\r\ncontent-length: 11\r\n\r\nhello world").await;
    assert_eq!(status(&wire.head().await.unwrap_or_default()), 429);
    assert_eq!(raw(&world, "/elsewhere").await, 200);
}
