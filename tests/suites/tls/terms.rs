//! On what terms TLS is spoken: protocols, versions, clients' certificates, and how long a handshake may take.

use e2e::{
    client::{Session, Wire, content_length, status},
    eventually::found,
    secure::{Authority, Client, Good},
    world::{Setup, World, get},
};

fn file(listener: &str, tls: &str) -> String {
    format!(
        "[gateway]\nlisten = {{ address = \"127.0.0.1:0\", tls = true{listener} }}\n\
         [gateway.tls]\ncertificates = [{{ cert = \"a.pem\", key = \"a.key\" }}]\n{tls}\n\
         [services.a]\nimage = \"a:1\"\nroutes = [{{ host = \"a.localhost\" }}]\n"
    )
}

async fn world(listener: &str, tls: &str) -> (World, Authority) {
    let setup = Setup::new(&file(listener, tls));
    let authority = Authority::new(setup.folder(), "ca");
    authority.write("a", &["a.localhost"]);
    (setup.start().await, authority)
}

/// The same with more for the gateway.
async fn limited(gateway: &str) -> (World, Authority) {
    let setup = Setup::new(&file("", "").replace("[gateway.tls]", &format!("{gateway}\n[gateway.tls]")));
    let authority = Authority::new(setup.folder(), "ca");
    authority.write("a", &["a.localhost"]);
    (setup.start().await, authority)
}

async fn echo(world: &World, client: &Client) -> e2e::origin::Echo {
    let stream = client.connect(world.address, "a.localhost").await.expect("a handshake");
    Session::over(stream).await.ask(get("a", "/")).await.expect("an answer").echo()
}

#[tokio::test]
async fn the_protocol_is_the_one_that_was_agreed_on() {
    let (world, authority) = world("", "").await;
    for (offered, agreed) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
        (&["http/1.1", "h2"], Some(b"h2")),
        (&["http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let client = authority.client(offered);
        let stream = client.connect(world.address, "a.localhost").await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed, "{offered:?}");
        let answer = Session::over(stream).await.ask(get("a", "/")).await.expect("an answer");
        assert_eq!(answer.status, 200, "{offered:?}");
    }
    authority.client(&["ftp"]).connect(world.address, "a.localhost").await.expect_err("nothing in common");
}

#[tokio::test]
async fn replicas_hear_that_it_was_https() {
    let (world, authority) = world("", "").await;
    for protocols in [&["h2"][..], &["http/1.1"]] {
        let seen = echo(&world, &authority.client(protocols)).await;
        assert_eq!(seen.header("x-forwarded-proto"), Some("https"), "{protocols:?}");
    }
    let stream = authority.client(&[]).connect(world.address, "a.localhost").await.expect("a handshake");
    let mut request = get("a", "/");
    request.headers_mut().insert("forwarded", "for=1.1.1.1;proto=http".parse().expect("a field"));
    let seen = Session::over(stream).await.ask(request).await.expect("an answer").echo();
    assert_eq!(seen.header("forwarded"), Some("for=127.0.0.1;proto=https"));
}

#[tokio::test]
async fn the_oldest_version_is_as_old_as_the_file_says() {
    let (world, authority) = world("", "").await;
    assert_eq!(echo(&world, &authority.client(&[]).old()).await.method, "GET");
    let (world, authority) = self::world("", "min_version = \"1.3\"").await;
    assert_eq!(echo(&world, &authority.client(&[])).await.method, "GET");
    authority.client(&[]).old().connect(world.address, "a.localhost").await.expect_err("too old");
}

#[tokio::test]
async fn where_clients_must_have_certificates_nobody_else_is_served() {
    let (world, authority) = world(", client_ca = \"ca.pem\"", "").await;
    let own = |authority: &Authority| authority.issue(&["client"], Good::Now);
    let client = authority.client(&["http/1.1"]);
    assert_eq!(echo(&world, &client.clone().with(own(&authority))).await.method, "GET");
    let stranger = Authority::new(world.folder(), "stranger");
    let old = authority.issue(&["client"], Good::Once);
    for refused in [client.clone(), client.clone().with(own(&stranger)), client.with(old)] {
        // Over TLS 1.3 a client hears of it only after its own end of the handshake.
        let served = async {
            let stream = refused.connect(world.address, "a.localhost").await.ok()?;
            Session::try_over(stream).await?.ask(get("a", "/")).await.ok()
        };
        assert!(served.await.is_none());
    }
    assert_eq!(world.targets.seen().len(), 1);
    found("three refusals", async || {
        let count = world.metric("tidegate_tls_handshakes_total", &["client_certificate"]);
        if count >= 3.0 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_is_closed() {
    let (world, _) = world("", "handshake_timeout = \"50ms\"").await;
    for begun in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        let mut wire = world.wire().await;
        wire.send(begun).await;
        assert!(wire.rest().await.is_empty());
    }
}

#[tokio::test]
async fn what_is_not_tls_is_closed_with_an_alert() {
    let (world, _) = world("", "").await;
    let mut wire = Wire::connect(world.address).await;
    wire.send(b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00").await;
    assert_eq!(wire.rest().await.first(), Some(&0x15));
}

#[tokio::test]
async fn browsers_are_told_to_remember_where_that_is_wanted() {
    let (world, authority) = world("", "hsts = \"365d\"\nhsts_subdomains = true").await;
    let stream = authority.client(&["h2"]).connect(world.address, "a.localhost").await.expect("a handshake");
    let mut session = Session::over(stream).await;
    for path in ["/", "/\\refused"] {
        let Ok(request) =
            http::Request::builder().uri(path).header("host", "a.localhost").body(e2e::client::empty())
        else {
            continue;
        };
        let answer = session.ask(request).await.expect("an answer");
        let said = answer.header("strict-transport-security");
        assert_eq!(said, Some("max-age=31536000; includeSubDomains"), "{path}");
    }
    let (world, authority) = self::world("", "").await;
    let stream = authority.client(&[]).connect(world.address, "a.localhost").await.expect("a handshake");
    let answer = Session::over(stream).await.ask(get("a", "/")).await.expect("an answer");
    assert_eq!(answer.header("strict-transport-security"), None);
}

#[tokio::test]
async fn a_route_says_for_itself_what_browsers_are_to_remember() {
    let routes = r#"routes = [
        { host = "a.localhost", middleware = { compression = true } },
        { host = "a.localhost", path = "/own", middleware = { hsts = { max_age = "1h", subdomains = true } } },
        { host = "a.localhost", path = "/forget", middleware = { hsts = { max_age = "0s" } } },
        { host = "a.localhost", path = "/nothing", middleware = { hsts = false } },
        { host = "a.localhost", path = "/guarded", middleware = { hsts = { max_age = "2h" }, ip = { deny = ["127.0.0.1"] } } },
    ]"#;
    let text = file("", "hsts = \"365d\"").replace("routes = [{ host = \"a.localhost\" }]", routes);
    let setup = Setup::new(&text);
    let authority = Authority::new(setup.folder(), "ca");
    authority.write("a", &["a.localhost"]);
    let world = setup.start().await;
    for protocol in ["h2", "http/1.1"] {
        let client = authority.client(&[protocol]);
        let stream = client.connect(world.address, "a.localhost").await.expect("a handshake");
        let mut session = Session::over(stream).await;
        for (path, code, said) in [
            ("/", 200, Some("max-age=31536000")),
            ("/own", 200, Some("max-age=3600; includeSubDomains")),
            ("/forget", 200, Some("max-age=0")),
            ("/nothing", 200, None),
            ("/guarded", 403, Some("max-age=7200")),
        ] {
            let answer = session.ask(get("a", path)).await.expect("an answer");
            assert_eq!(
                (answer.status, answer.header("strict-transport-security")),
                (code, said),
                "{protocol} {path}"
            );
        }
    }
}

#[tokio::test]
async fn websockets_go_over_tls() {
    let (world, authority) = world("", "").await;
    let stream =
        authority.client(&["http/1.1"]).connect(world.address, "a.localhost").await.expect("a handshake");
    let mut wire = Wire::of(stream);
    wire.send("GET /upgrade HTTP/1.1\r\nhost: a.localhost\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        .await;
    let head = wire.head().await.expect("a head");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    wire.send("through").await;
    assert_eq!(wire.exactly(7).await, "through");
}

#[tokio::test]
async fn a_client_that_only_says_goodbye_is_answered() {
    for version in ["1.3", "1.2"] {
        let (world, authority) = world("", "").await;
        let newest = authority.client(&["http/1.1"]);
        let client = if version == "1.2" { newest.old() } else { newest };
        // The first one waits for a start.
        for path in ["/", "/large", "/hold", "/endless"] {
            let stream = client.connect(world.address, "a.localhost").await.expect("a handshake");
            let mut wire = Wire::of(stream);
            wire.send(format!("GET {path} HTTP/1.1\r\nhost: a.localhost\r\n\r\n")).await;
            wire.finish().await;
            let mut head = wire.head().await.expect("an answer, or a knock");
            if path == "/hold" {
                assert_eq!(status(&head), 100);
                world.targets.release();
            }
            while status(&head) == 100 {
                head = wire.head().await.expect("an answer");
            }
            assert_eq!(status(&head), 200, "{version} {path}");
            if head.to_lowercase().contains("content-length") {
                assert_eq!(wire.exactly(content_length(&head)).await.len(), content_length(&head), "{path}");
            } else {
                assert!(wire.rest().await.ends_with(b"0\r\n\r\n"), "{path}: its end");
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_says_goodbye_and_goes_is_not_taken_for_one() {
    let (world, authority) = world("", "").await;
    world.wake("a").await;
    let client = authority.client(&["http/1.1"]);
    for path in ["/hold", "/endless"] {
        let stream = client.connect(world.address, "a.localhost").await.expect("a handshake");
        let mut wire = Wire::of(stream);
        wire.send(format!("GET {path} HTTP/1.1\r\nhost: a.localhost\r\n\r\n")).await;
        world.until_counts("a", 0, 1).await;
        wire.finish().await;
        drop(wire);
        world.until_counts("a", 0, 0).await;
    }
}

#[tokio::test]
async fn who_is_silent_keeps_nobody_from_a_handshake() {
    let (world, authority) = limited("limits.handshakes = 1").await;
    let mut silent = Vec::new();
    for said in ["", "", "\u{16}\u{3}\u{1}"] {
        let mut wire = Wire::connect(world.address).await;
        wire.send(said).await;
        silent.push(wire);
    }
    found("all of them", async || {
        let open = world.metric("tidegate_connections", &[]);
        if open >= 3.0 { Ok(()) } else { Err(open.to_string()) }
    })
    .await;
    assert_eq!(echo(&world, &authority.client(&["h2"])).await.service, "a");
}

#[tokio::test]
async fn handshakes_beyond_a_rate_are_refused() {
    for limit in ["limits.handshake_rate_per_address = \"2/h\"", "limits.handshake_rate = \"2/h\""] {
        let (world, authority) = limited(limit).await;
        let client = authority.client(&["h2"]);
        let before = world.metric("tidegate_tls_handshakes_total", &["too_often"]);
        let mut open =
            client.connect(world.address, "a.localhost").await.map(Session::over).expect("a handshake").await;
        assert_eq!(echo(&world, &client).await.service, "a");
        client.connect(world.address, "a.localhost").await.expect_err("the third in an hour");
        found("a refusal", async || {
            let count = world.metric("tidegate_tls_handshakes_total", &["too_often"]) - before;
            if count >= 1.0 { Ok(()) } else { Err(count.to_string()) }
        })
        .await;
        let answer = open.ask(get("a", "/")).await.expect("an answer");
        assert_eq!(answer.status, 200, "what has been agreed on goes on");
    }
    let (world, authority) =
        limited("trusted_proxies = [\"127.0.0.0/8\"]\nlimits.handshake_rate_per_address = \"1/h\"").await;
    for _ in 0..3 {
        assert_eq!(echo(&world, &authority.client(&["h2"])).await.service, "a");
    }
}
