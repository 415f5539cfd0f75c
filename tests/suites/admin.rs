//! Administration over TCP: who may ask what, who is kept out, and that no secret is told by anybody.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
};

use e2e::{
    client::{Wire, status},
    targets::Behaviour,
    world::{Setup, World, get},
};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tidegate::admin::endpoints;
use tidegate_config::model::Role;
use tokio::net::TcpSocket;

/// The tokens of the file, by role.
const TOKENS: [(Role, &str); 3] =
    [(Role::Read, "canary-read"), (Role::Operate, "canary-operate"), (Role::Admin, "canary-admin")];

fn file(more: &str) -> String {
    let token = |(role, token): &(Role, &str)| {
        let hash: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{{ name = 'has-{0}', role = '{0}', token = 'sha256:{hash}' }}", role.word())
    };
    let tokens: Vec<String> = TOKENS.iter().map(token).collect();
    format!(
        "[gateway]\nexpose_errors = true\n[gateway.admin]\nlisten = '127.0.0.1:0'\nnames = ['admin.test']\n\
         tokens = [{}]\n[services.api]\nimage = 'api:1'\n{more}",
        tokens.join(", ")
    )
}

/// Asks from an address of loopback of the asker's own, so that nobody is taken for somebody else.
async fn ask(world: &World, from: u8, head: &str, token: Option<&str>) -> (u16, String, String) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, from)), 0))
        .expect("an address of loopback");
    let to = world.app.admin_address().expect("administration over TCP");
    let mut wire = Wire::accepted(socket.connect(to).await.expect("somebody listens"));
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let host = if head.contains("host:") { "" } else { "host: localhost\r\n" };
    let (line, more) = head.split_once('\n').unwrap_or((head, ""));
    wire.send(format!("{line} HTTP/1.1\r\n{host}{more}{token}connection: close\r\n\r\n")).await;
    let head = wire.head().await.expect("an answer");
    let body = String::from_utf8_lossy(&wire.rest().await).into_owned();
    (status(&head), head, body)
}

fn example(endpoint: &endpoints::Endpoint) -> String {
    let path = endpoint.path.replace("hosts/{name}", "hosts/local").replace("{name}", "api");
    // Else that is told until the asker leaves.
    let path = path.replace("{order}", "uncordon").replace("/requests", "/requests?for=0");
    format!("{} {path}", endpoint.method)
}

#[tokio::test]
async fn every_endpoint_wants_its_role() {
    let world = World::new(&file("")).await;
    for (endpoint, from) in endpoints::all().iter().zip(1..) {
        let question = example(endpoint);
        for token in [None, Some("canary"), Some("canary-rea"), Some("canary-readx")] {
            let (code, head, body) = ask(&world, from, &question, token).await;
            assert_eq!(code, 401, "{question} with {token:?}: {body}");
            assert!(head.contains("www-authenticate: Bearer"), "{head}");
        }
        for (role, token) in TOKENS {
            let (code, head, body) = ask(&world, from, &question, Some(token)).await;
            let may = role >= endpoint.role;
            assert_eq!(code != 403, may, "{question} as {}: {code} {body}", role.word());
            assert!(!may || [200, 409, 503].contains(&code), "{question} as {}: {code} {body}", role.word());
            assert!(
                head.contains("cache-control: no-store") && head.contains("default-src 'none'"),
                "{head}"
            );
            assert!(!head.contains("set-cookie"), "{head}");
        }
    }
    for question in
        ["GET /", "GET /v1/nothing", "POST /v1/services", "DELETE /v1/services/api", "OPTIONS /v1/hosts"]
    {
        assert_eq!(
            ask(&world, 100, question, None).await.0,
            401,
            "{question}: who is not known learns nothing"
        );
        let (code, ..) = ask(&world, 100, question, Some("canary-admin")).await;
        assert!([404, 405].contains(&code), "{question}: {code}");
    }
}

#[test]
fn what_changes_something_needs_more_than_reading() {
    for endpoint in endpoints::all() {
        let sees = endpoint.method == http::Method::GET;
        assert!(sees || endpoint.role > Role::Read, "{} {}", endpoint.method, endpoint.path);
    }
}

#[tokio::test]
async fn pages_of_others_and_guessers_are_kept_out() {
    let world = World::new(&file("")).await;
    let token = Some("canary-read");
    for (head, want) in [
        ("GET /v1/hosts\nhost: evil.example\r\n", 403),
        ("GET /v1/hosts\nhost: admin.test:9902\r\n", 200),
        ("GET /v1/hosts\nhost: localhost\r\norigin: http://evil.example\r\n", 403),
        ("GET /v1/hosts\nhost: localhost\r\norigin: http://localhost\r\n", 200),
    ] {
        assert_eq!(ask(&world, 1, head, token).await.0, want, "{head}");
    }
    for _ in 0..10 {
        assert_eq!(ask(&world, 2, "GET /v1/hosts", Some("guess")).await.0, 401);
    }
    assert_eq!(
        ask(&world, 2, "GET /v1/hosts", token).await.0,
        429,
        "also with a good token: it may be a guess"
    );
    assert_eq!(ask(&world, 3, "GET /v1/hosts", token).await.0, 200, "others are not held to account for it");
}

#[tokio::test]
async fn the_admin_address_is_never_proxied() {
    let world = World::new(&file("routes = [{ host = '*' }]")).await;
    let admin = world.app.admin_address().expect("administration over TCP");
    for host in [admin.to_string(), format!("localhost:{}", admin.port())] {
        let mut request = get("api", "/v1/services");
        request.headers_mut().insert("host", host.parse().expect("a value"));
        let answer = world.ask(request).await.expect("an answer");
        assert_eq!(answer.echo().service, "api", "{host} is a name like others, and leads to a service");
    }
}

/// All that is logged in this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        let layer = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        layer.with_writer(move || writer.clone()).init();
        log
    })
}

#[tokio::test]
async fn no_secret_is_told() {
    let log = log();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "canary-secret").expect("a temporary file");
    let place = secret.display();
    let setup = Setup::new(&file(&format!(
        "env.PLAIN = 'canary-env'\nsecrets.HIDDEN = '{place}'\n\
         [services.ill]\nimage = 'ill:1'\nenv.PLAIN = 'canary-env'\nscaling.hold = '200ms'\nhealth.start_deadline = '100ms'\n"
    )));
    setup.targets.behave("ill:1", Behaviour::Deaf);
    let world = setup.start().await;
    let mut told: Vec<String> = Vec::new();
    for (service, path) in [("api", "/"), ("ill", "/"), ("nobody", "/"), ("api", "/%00")] {
        let mut request = get(service, path);
        request.headers_mut().insert("x-none", "none".parse().expect("a value"));
        let answer = world.ask(request).await.expect("an answer");
        told.push(format!("{:?} {}", answer.headers, answer.text()));
    }
    for (endpoint, from) in endpoints::all().iter().zip(1..) {
        for token in ["canary-admin", "canary-wrong"] {
            let (_, head, body) = ask(&world, from, &example(endpoint), Some(token)).await;
            told.push(format!("{head}{body}"));
        }
    }
    let panics = std::panic::catch_unwind(|| panic!("{:?}", world_model(&file(""))));
    let words = panics.expect_err("a panic").downcast::<String>().expect("its words");
    told.push(*words);
    told.push(String::from_utf8_lossy(&log.0.lock()).into_owned());
    assert!(told.iter().any(|text| text.contains("has-admin")), "the log says who asked");
    for text in &told {
        if let Some(at) = text.find("canary-") {
            let end = text.len().min(at + 60);
            panic!("a secret is told: {}", &text[at.saturating_sub(200)..end]);
        }
    }
    for (_, token) in TOKENS {
        let hash: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(told.iter().all(|text| !text.contains(&hash)), "a hash is told");
    }
}

fn world_model(text: &str) -> tidegate_config::model::Model {
    e2e::world::model(text)
}
