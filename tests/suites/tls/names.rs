//! Which certificate a client gets, and which requests may follow it.

use e2e::{
    client::Session,
    eventually::found,
    secure::{Authority, Client},
    world::{Setup, World, get},
};
use tokio::{io::AsyncReadExt, net::TcpStream};

/// One listener over TLS with certificates `a` (a.localhost, shared.localhost), `w` (*.wild.localhost) and `d`, the default.
const FILE: &str = r#"
[gateway]
listen = { address = "127.0.0.1:0", tls = true }
[gateway.tls]
certificates = [
    { cert = "a.pem", key = "a.key" },
    { cert = "w.pem", key = "w.key" },
    { cert = "d.pem", key = "d.key", default = true },
]
[services.a]
image = "a:1"
routes = [{ host = "*" }]
"#;

async fn world(file: &str) -> (World, Authority) {
    let setup = Setup::new(file);
    let authority = Authority::new(setup.folder(), "ca");
    authority.write("a", &["a.localhost", "shared.localhost"]);
    authority.write("w", &["*.wild.localhost"]);
    authority.write("d", &["fallback.localhost"]);
    (setup.start().await, authority)
}

async fn ask(world: &World, client: &Client, called: &str, host: &str) -> u16 {
    let stream = client.connect(world.address, called).await.expect("a handshake");
    let mut request = get("a", "/");
    request.headers_mut().insert("host", host.parse().expect("a host"));
    Session::over(stream).await.ask(request).await.expect("an answer").status
}

#[tokio::test]
async fn each_name_gets_its_certificate() {
    let (world, authority) = world(FILE).await;
    let client = authority.client(&[]);
    for name in ["a.localhost", "shared.localhost", "A.localhost", "x.wild.localhost", "fallback.localhost"] {
        assert_eq!(ask(&world, &client, name, name).await, 200, "{name}");
    }
}

#[tokio::test]
async fn a_name_that_nobody_has_gets_an_alert_and_no_certificate() {
    let (world, authority) = world(FILE).await;
    let before = world.metric("tidegate_tls_handshakes_total", &["unknown_name"]);
    for name in ["other.localhost", "wild.localhost", "x.y.wild.localhost"] {
        let error = authority.client(&[]).connect(world.address, name).await.expect_err("no certificate");
        assert!(error.to_string().contains("UnrecognisedName"), "{name}: {error}");
    }
    // They are counted once the alert has been sent, which is when the client knows already.
    found("three refused handshakes", async || {
        let seen = world.metric("tidegate_tls_handshakes_total", &["unknown_name"]) - before;
        if seen >= 3.0 { Ok(()) } else { Err(format!("{seen}")) }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_calls_nobody_gets_the_default_or_nothing() {
    let (world, authority) = world(FILE).await;
    let nameless = authority.client(&[]).nameless();
    // It knows nothing of names, so it is not held to one.
    assert_eq!(ask(&world, &nameless, "fallback.localhost", "anything.localhost").await, 200);
    let strict = FILE.replace(", default = true", "");
    let (world, authority) = self::world(&strict).await;
    let nameless = authority.client(&[]).nameless();
    nameless.connect(world.address, "fallback.localhost").await.expect_err("no certificate");
}

#[tokio::test]
async fn a_host_that_the_certificate_does_not_stand_for_is_misdirected() {
    let (world, authority) = world(FILE).await;
    for protocols in [&["h2"][..], &["http/1.1"][..]] {
        let client = authority.client(protocols);
        // Another name of the same certificate is fine: browsers share connections so.
        for (host, want) in [
            ("a.localhost", 200),
            ("shared.localhost", 200),
            ("SHARED.localhost:443", 200),
            ("b.localhost", 421),
        ] {
            assert_eq!(ask(&world, &client, "a.localhost", host).await, want, "{host} {protocols:?}");
        }
        assert_eq!(ask(&world, &client, "x.wild.localhost", "y.wild.localhost").await, 200);
    }
    let stream = authority.client(&[]).connect(world.address, "a.localhost").await.expect("a handshake");
    let answer = Session::over(stream).await.ask(get("b", "/")).await.expect("an answer");
    assert_eq!(answer.refusal(), (421, "misdirected".into()));
}

#[tokio::test]
async fn who_speaks_http_to_the_port_of_https_is_told_so() {
    let (world, _) = world(FILE).await;
    let mut wire = world.wire().await;
    wire.send("GET / HTTP/1.1\r\nhost: a.localhost\r\n\r\n").await;
    let (head, body) = wire.answer().await.expect("an answer");
    assert!(head.starts_with("HTTP/1.1 400 ") && body.starts_with(b"This port speaks HTTPS"), "{head}");
    assert!(wire.rest().await.is_empty());
}

#[tokio::test]
async fn a_hello_may_come_in_pieces() {
    let (world, authority) = world(FILE).await;
    // A relay that passes on the client's bytes one by one.
    let relay = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, to) = (relay.local_addr().expect("an address"), world.address);
    let dripping = async {
        let (client, _) = relay.accept().await.expect("a client");
        let gateway = TcpStream::connect(to).await.expect("a gateway");
        gateway.set_nodelay(true).expect("a socket option");
        let ((mut from, mut back), (mut answers, mut on)) = (client.into_split(), gateway.into_split());
        let up = async {
            let mut byte = [0];
            while from.read_exact(&mut byte).await.is_ok() {
                drop(tokio::io::AsyncWriteExt::write_all(&mut on, &byte).await);
            }
        };
        tokio::join!(up, tokio::io::copy(&mut answers, &mut back))
    };
    let asking = async {
        let stream = authority.client(&[]).connect(address, "a.localhost").await.expect("a handshake");
        let answer = Session::over(stream).await.ask(get("a", "/")).await.expect("an answer");
        assert_eq!(answer.status, 200);
    };
    tokio::select! {
        _ = dripping => panic!("the relay ended first"),
        () = asking => {}
    }
}
