//! Load balancers that say who the client is, by the PROXY protocol.

use e2e::{
    client::{Session, Wire},
    eventually::found,
    secure::Authority,
    world::{Setup, World, get},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

fn file(trusted: &str, limits: &str) -> String {
    format!(
        "[gateway]\nlisten = [\n    {{ address = \"127.0.0.1:0\", proxy_protocol = true }},\n    \
         {{ address = \"127.0.0.1:0\", tls = true, proxy_protocol = true }},\n]\n\
         trusted_proxies = [\"{trusted}\"]\ntls.certificates = [{{ cert = \"a.pem\", key = \"a.key\" }}]\n{limits}\n\
         [services.a]\nimage = \"a:1\"\n"
    )
}

async fn world(trusted: &str, limits: &str) -> (World, Authority) {
    let setup = Setup::new(&file(trusted, limits));
    let authority = Authority::new(setup.folder(), "ca");
    authority.write("a", &["a.localhost"]);
    (setup.start().await, authority)
}

const ASK: &str =
    "GET / HTTP/1.1\r\nhost: a.localhost\r\nx-forwarded-for: 6.6.6.6\r\nforwarded: for=6.6.6.6\r\n\r\n";

/// Version 2 of the header: this client, or the balancer itself.
fn binary(client: Option<[u8; 4]>) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    match client {
        None => header.extend([0x20, 0, 0, 0]),
        Some(client) => {
            header.extend([0x21, 0x11, 0, 12]);
            header.extend(client);
            header.extend([10, 0, 0, 1, 0, 80, 1, 187]);
        }
    }
    header
}

async fn seen(wire: &mut Wire) -> e2e::origin::Echo {
    let (head, body) = wire.answer().await.expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    serde_json::from_slice(&body).expect("the origin's JSON")
}

#[tokio::test]
async fn the_address_that_is_named_is_the_clients() {
    let (world, _) = world("127.0.0.0/8", "").await;
    for (header, client, forwarded) in [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 5000 80\r\n".to_vec(), "192.0.2.7", "for=192.0.2.7;proto=http"),
        (
            b"PROXY TCP6 2001:db8::7 ::1 5000 80\r\n".to_vec(),
            "2001:db8::7",
            "for=\"[2001:db8::7]\";proto=http",
        ),
        (binary(Some([192, 0, 2, 8])), "192.0.2.8", "for=192.0.2.8;proto=http"),
        // A balancer that only looks in is what it is: a trusted proxy.
        (b"PROXY UNKNOWN\r\n".to_vec(), "6.6.6.6, 127.0.0.1", "for=6.6.6.6, for=127.0.0.1;proto=http"),
        (binary(None), "6.6.6.6, 127.0.0.1", "for=6.6.6.6, for=127.0.0.1;proto=http"),
    ] {
        let mut wire = world.wire().await;
        // In pieces, with the request right behind it.
        let (first, second) = header.split_at(7);
        wire.send(first).await;
        wire.send([second, ASK.as_bytes()].concat()).await;
        let echo = seen(&mut wire).await;
        assert_eq!(
            (echo.header("x-forwarded-for"), echo.header("forwarded")),
            (Some(client), Some(forwarded))
        );
    }
}

#[tokio::test]
async fn it_stands_before_the_handshake() {
    let (world, authority) = world("127.0.0.0/8", "").await;
    let mut stream = TcpStream::connect(world.app.addresses()[1]).await.expect("a gateway");
    stream.write_all(&binary(Some([192, 0, 2, 9]))).await.expect("a gateway");
    let stream = authority.client(&["h2"]).over(stream, "a.localhost").await.expect("a handshake");
    let echo = Session::over(stream).await.ask(get("a", "/")).await.expect("an answer").echo();
    assert_eq!(
        (echo.header("x-forwarded-for"), echo.header("x-forwarded-proto")),
        (Some("192.0.2.9"), Some("https"))
    );
}

#[tokio::test]
async fn whoever_is_not_trusted_or_says_nothing_is_turned_away() {
    let count = |world: &World, why: &str| world.metric("tidegate_connections_turned_away_total", &[why]);
    let (trusting, _) = world("127.0.0.0/8", "limits.header_timeout = \"500ms\"").await;
    let (strict, _) = world("10.0.0.0/8", "").await;
    for (world, said, why) in [
        (&strict, &b"PROXY TCP4 192.0.2.7 10.0.0.1 5000 80\r\n"[..], "proxy_untrusted"),
        (&trusting, ASK.as_bytes(), "proxy_malformed"),
        (&trusting, b"PROXY TCP4 nobody 10.0.0.1 5000 80\r\n", "proxy_malformed"),
        (&trusting, b"PROXY TCP4 192", "proxy_late"),
        (&trusting, b"", "proxy_late"),
    ] {
        let before = count(world, why);
        let mut wire = world.wire().await;
        wire.send(said).await;
        assert!(wire.rest().await.is_empty(), "{why}");
        found(why, async || if count(world, why) > before { Ok(()) } else { Err(String::new()) }).await;
    }
    assert!(trusting.targets.seen().is_empty() && strict.targets.seen().is_empty());
}

#[tokio::test]
async fn connections_count_for_the_client_and_not_for_the_balancer() {
    let (world, _) = world("127.0.0.0/8", "limits.connections_per_address = 1").await;
    let mut open = Vec::new();
    for (client, served) in [([192, 0, 2, 1], true), ([192, 0, 2, 2], true), ([192, 0, 2, 1], false)] {
        let mut wire = world.wire().await;
        wire.send(binary(Some(client))).await;
        wire.send(ASK).await;
        assert_eq!(wire.head().await.is_some(), served, "{client:?}");
        open.push(wire);
    }
}
