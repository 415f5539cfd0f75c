//! Connections that belong to a TCP service by the name that the client calls: passed on as they are.

use std::sync::Arc;

use e2e::{
    client::Session,
    eventually::soon,
    secure::{Authority, Good},
    targets::Behaviour,
    world::{Setup, World, get},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

const FILE: &str = r#"
[gateway]
listen = { address = "127.0.0.1:0", tls = true }
[gateway.tls]
certificates = [{ cert = "a.pem", key = "a.key" }]
[services.a]
image = "a:1"
routes = [{ host = "*" }]
[services.db]
image = "tls:1"
protocol = "tcp"
sni = ["db.localhost", "*.db.localhost"]
"#;

/// Answers handshakes by itself, then sends back what it gets.
fn own(authority: &Authority) -> Behaviour {
    let (certificate, key) = authority.issue(&["db.localhost", "one.db.localhost"], Good::Now);
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a certificate and its key");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Behaviour::raw(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            // Whoever only looks whether it takes connections has gone by now.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let (mut reads, mut writes) = tokio::io::split(stream);
            drop(tokio::io::copy(&mut reads, &mut writes).await);
        }
    })
}

#[tokio::test]
async fn a_connection_is_passed_on_by_the_name_that_it_calls() {
    let setup = Setup::new(FILE);
    let (ours, theirs) = (Authority::new(setup.folder(), "ca"), Authority::new(setup.folder(), "theirs"));
    ours.write("a", &["a.localhost"]);
    setup.targets.behave("tls:1", own(&theirs));
    let world: World = setup.start().await;
    for name in ["db.localhost", "one.db.localhost"] {
        // It trusts nobody but the replica's own authority.
        let mut stream = theirs.client(&[]).connect(world.address, name).await.expect("a handshake");
        stream.write_all(b"hello").await.expect("sent");
        let mut echoed = [0; 5];
        soon("an echo", stream.read_exact(&mut echoed)).await.expect("an echo");
        assert_eq!(&echoed, b"hello");
        world.until_counts("db", 0, 1).await;
        drop(stream);
        world.until_counts("db", 0, 0).await;
    }
    let stream = ours.client(&[]).connect(world.address, "a.localhost").await.expect("a handshake");
    let mut request = get("a", "/");
    request.headers_mut().insert("host", "a.localhost".parse().expect("a host"));
    assert_eq!(Session::over(stream).await.ask(request).await.expect("an answer").status, 200);
}
