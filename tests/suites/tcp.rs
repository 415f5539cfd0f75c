//! TCP services: connections wake them, count as activity, are carried both ways, and end in good order.

use std::{net::SocketAddr, time::Duration};

use e2e::{
    client::Wire,
    eventually::{found, soon},
    site::Site,
    targets::Behaviour,
    world::{Setup, World, name},
};
use futures_util::future::join_all;
use tidegate::tcp::doors;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const DB: &str = "[services.db]\nimage = \"echo:1\"\nprotocol = \"tcp\"\nlisten = \"127.0.0.1:0\"\n";

/// Sends back what it gets, and ends when that has ended.
fn echo() -> Behaviour {
    Behaviour::raw(|mut stream: TcpStream| async move {
        let (mut reads, mut writes) = stream.split();
        // The other end may go at any time.
        drop(tokio::io::copy(&mut reads, &mut writes).await);
        drop(writes.shutdown().await);
    })
}

/// Speaks first, then sends back what it gets.
fn greeter() -> Behaviour {
    Behaviour::raw(|mut stream: TcpStream| async move {
        drop(stream.write_all(b"220 ready\r\n").await);
        let (mut reads, mut writes) = stream.split();
        drop(tokio::io::copy(&mut reads, &mut writes).await);
    })
}

/// Reads to the end and then says how much it was.
fn counter() -> Behaviour {
    Behaviour::raw(|mut stream: TcpStream| async move {
        let mut all = Vec::new();
        drop(stream.read_to_end(&mut all).await);
        drop(stream.write_all(format!("{} bytes", all.len()).as_bytes()).await);
    })
}

fn setup(text: &str, behaviour: Behaviour) -> Setup {
    let setup = Setup::new(text);
    setup.targets.behave("echo:1", behaviour);
    setup
}

async fn world(text: &str) -> World {
    setup(text, echo()).start().await
}

fn address(world: &World, service: &str) -> SocketAddr {
    world.app.doors().of(&name(service))[0]
}

async fn connect(world: &World, service: &str) -> Wire {
    Wire::connect(address(world, service)).await
}

async fn says(wire: &mut Wire, text: &'static str) {
    wire.send(text).await;
    assert_eq!(wire.exactly(text.len()).await, text);
}

#[tokio::test]
async fn a_connection_wakes_its_service_and_is_carried_both_ways() {
    let world = world(DB).await;
    assert_eq!(world.status("db").await.state, "cold");
    let mut wire = connect(&world, "db").await;
    says(&mut wire, "one").await;
    says(&mut wire, "two").await;
    world.until_counts("db", 0, 1).await;
    let large = vec![b'x'; 3 << 20];
    let (read, ()) = tokio::join!(
        async {
            let mut other = connect(&world, "db").await;
            other.send(&large[..1 << 16]).await;
            other.exactly(1 << 16).await
        },
        async { says(&mut wire, "three").await }
    );
    assert_eq!(read.len(), 1 << 16);
    drop(wire);
    world.until_counts("db", 0, 0).await;
    assert_eq!(world.runner.starts(), 1);
    let carried = |direction: &str| world.metric("tidegate_tcp_bytes_total", &["service=\"db\"", direction]);
    assert!(
        carried("up") >= 65_547.0 && carried("down") >= 65_547.0,
        "{} {}",
        carried("up"),
        carried("down")
    );
}

#[tokio::test]
async fn the_access_log_has_a_line_for_each_connection() {
    let world = world(&format!("[gateway.access_log]\nto = \"access.log\"\n{DB}")).await;
    let mut wire = connect(&world, "db").await;
    says(&mut wire, "hello").await;
    drop(wire);
    let line = found("a line", async || {
        let text = std::fs::read_to_string(world.folder().join("access.log")).unwrap_or_default();
        serde_json::from_str::<serde_json::Value>(&text).map_err(|_| text)
    })
    .await;
    let replica = world.until_ready("db", 1).await.first().map(ToString::to_string);
    for (field, want) in [
        ("protocol", "tcp".into()),
        ("service", "db".into()),
        ("client", "127.0.0.1".into()),
        ("outcome", "closed".into()),
        ("bytes_in", 5.into()),
        ("bytes_out", 5.into()),
        ("replica", serde_json::Value::from(replica)),
    ] {
        assert_eq!(line[field], want, "{field}: {line}");
    }
}

#[tokio::test]
async fn a_server_may_speak_first() {
    let world = setup(DB, greeter()).start().await;
    let mut wire = connect(&world, "db").await;
    assert_eq!(wire.exactly(11).await, "220 ready\r\n");
    says(&mut wire, "EHLO").await;
}

#[tokio::test]
async fn the_end_of_one_direction_is_passed_on_and_the_other_goes_on() {
    let world = setup(DB, counter()).start().await;
    let mut wire = connect(&world, "db").await;
    let large = vec![b'x'; 1 << 20];
    wire.send(&large).await;
    wire.finish().await;
    assert_eq!(wire.rest().await, "1048576 bytes");
    world.until_counts("db", 0, 0).await;

    // The other way round: the replica has finished first.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let at = listener.local_addr().expect("an address");
    let text =
        format!("[services.far]\nupstreams = [\"{at}\"]\nprotocol = \"tcp\"\nlisten = \"127.0.0.1:0\"\n");
    let (world, ()) = tokio::join!(World::new(&text), async {
        // The probe.
        drop(listener.accept().await.expect("a connection"));
    });
    let mut wire = connect(&world, "far").await;
    let (mut replica, _) = soon("the connection", listener.accept()).await.expect("a connection");
    replica.write_all(b"bye").await.expect("sent");
    replica.shutdown().await.expect("finished");
    assert_eq!(wire.rest().await, "bye");
    wire.send("still there").await;
    wire.finish().await;
    let mut all = String::new();
    soon("the rest", replica.read_to_string(&mut all)).await.expect("whole");
    assert_eq!(all, "still there");
}

#[tokio::test]
async fn an_open_connection_keeps_its_service_awake() {
    let text = format!(
        "{DB}scaling.idle = \"300ms\"\n[services.other]\nimage = \"other:1\"\nscaling.idle = \"300ms\"\n"
    );
    let world = world(&text).await;
    let mut wire = connect(&world, "db").await;
    says(&mut wire, "one").await;
    world.get("other", "/").await;
    world.until("other", |status| status.replicas.is_empty()).await;
    let db = world.status("db").await;
    assert_eq!((db.in_flight, db.replicas.len()), (1, 1), "{db:?}");
    says(&mut wire, "two").await;
    drop(wire);
    world.until("db", |status| status.replicas.is_empty()).await;
}

#[tokio::test]
async fn a_replica_that_drains_keeps_its_connections_until_the_deadline() {
    let world = world(&format!("{DB}scaling.drain = \"1h\"\n")).await;
    let mut old = connect(&world, "db").await;
    says(&mut old, "old").await;
    let (restarted, ()) = tokio::join!(world.control().restart(name("db")), async {
        world.until("db", |status| status.replicas.iter().any(|replica| replica.phase == "draining")).await;
        let mut new = connect(&world, "db").await;
        says(&mut new, "new").await;
        says(&mut old, "still").await;
    });
    assert_eq!(restarted, Ok(Ok(())));
    drop(old);
    world.until_ready("db", 1).await;

    let world = self::world(&format!("{DB}scaling.drain = \"100ms\"\n")).await;
    let mut wire = connect(&world, "db").await;
    says(&mut wire, "one").await;
    let (restarted, rest) = tokio::join!(world.control().restart(name("db")), wire.rest());
    assert_eq!((restarted, rest.len()), (Ok(Ok(())), 0));
}

#[tokio::test]
async fn a_thousand_first_connections_are_all_served_by_few_replicas() {
    let setup = setup(&format!("{DB}scaling = {{ concurrency = 100, max = 20 }}\n"), echo());
    setup.runner.start_delay(Duration::from_millis(300));
    let world = setup.start().await;
    let one = async || {
        let mut wire = connect(&world, "db").await;
        wire.send("hello").await;
        wire.exactly(5).await
    };
    let answers = join_all((0..1000).map(|_| one())).await;
    assert_eq!(answers.iter().filter(|answer| *answer == "hello").count(), 1000);
    assert!(world.runner.starts() <= 15, "{} starts", world.runner.starts());
    world.until_counts("db", 0, 0).await;
}

#[tokio::test]
async fn a_connection_that_waited_too_long_is_closed() {
    let setup = setup(&format!("{DB}scaling.hold = \"100ms\"\n"), echo());
    setup.runner.start_delay(Duration::from_secs(3600));
    let world = setup.start().await;
    let mut wire = connect(&world, "db").await;
    assert_eq!(wire.rest().await, "");
    assert!(world.metric("tidegate_tcp_connections_total", &["outcome=\"refused\""]) >= 1.0);
}

#[tokio::test]
async fn a_client_that_breaks_off_while_it_waits_gives_back_its_place() {
    let setup = setup(DB, echo());
    setup.runner.start_delay(Duration::from_secs(3600));
    let world = setup.start().await;
    let mut wire = connect(&world, "db").await;
    wire.send("hello").await;
    world.until_counts("db", 1, 0).await;
    wire.reset();
    world.until_counts("db", 0, 0).await;
}

#[tokio::test]
async fn a_connect_that_fails_is_made_again_elsewhere() {
    let world =
        world(&format!("{DB}scaling = {{ min = 2, concurrency = 10 }}\nhealth.interval = \"1h\"\n")).await;
    let [first, _] = &world.until_ready("db", 2).await[..] else { unreachable!("two were waited for") };
    let status = world.status("db").await;
    let at: SocketAddr =
        status.replicas[0].address.as_ref().and_then(|at| at.parse().ok()).expect("an address");
    world.targets.deafen(first);
    // Its listener may take a moment to go.
    found("nobody there", async || match TcpStream::connect(at).await {
        Ok(_) => Err("it takes connections".to_owned()),
        Err(_) => Ok(()),
    })
    .await;
    let mut wire = connect(&world, "db").await;
    says(&mut wire, "hello").await;
}

#[tokio::test]
async fn a_replica_that_breaks_off_breaks_the_connection_off() {
    let world = world(DB).await;
    let mut stream = TcpStream::connect(address(&world, "db")).await.expect("a listener");
    stream.write_all(b"one").await.expect("sent");
    let mut read = [0; 3];
    soon("an echo", stream.read_exact(&mut read)).await.expect("an echo");
    let [id] = &world.until_ready("db", 1).await[..] else { unreachable!("one was woken") };
    world.exit(id, 1, false);
    // Whether with an end or a reset, it is over.
    let ended = soon("the end", stream.read(&mut read)).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    world.until_counts("db", 0, 0).await;
}

#[tokio::test]
async fn a_connection_on_which_nothing_moves_is_closed_if_the_file_says_so() {
    let world = world(&format!("{DB}upstream.idle_timeout = \"200ms\"\n")).await;
    let mut wire = connect(&world, "db").await;
    says(&mut wire, "one").await;
    assert_eq!(wire.rest().await, "");
    world.until_counts("db", 0, 0).await;
    assert!(world.metric("tidegate_tcp_connections_total", &["outcome=\"idle\""]) >= 1.0);
}

#[tokio::test]
async fn a_replica_may_be_told_who_the_client_is() {
    let world = world(&format!("{DB}upstream.proxy_protocol = true\n")).await;
    let mut wire = connect(&world, "db").await;
    wire.send("hello").await;
    let echoed = wire.exactly(28 + 5).await;
    assert_eq!((&echoed[..13], &echoed[28..]), (&b"\r\n\r\n\0\r\nQUIT\n\x21"[..], &b"hello"[..]));
    assert_eq!(u16::from_be_bytes([echoed[26], echoed[27]]), address(&world, "db").port());
}

#[tokio::test]
async fn listeners_come_and_go_with_the_file() {
    let both =
        format!("{DB}[services.mail]\nimage = \"echo:1\"\nprotocol = \"tcp\"\nlisten = \"127.0.0.1:0\"\n");
    let world = setup(DB, echo()).with_file().start().await;
    let mut wire = connect(&world, "db").await;
    says(&mut wire, "one").await;
    let before = address(&world, "db");
    world.write(&both);
    let mail = found("a listener", async || {
        world.app.doors().of(&name("mail")).first().copied().ok_or_else(|| "none yet".to_owned())
    })
    .await;
    let mut other = Wire::connect(mail).await;
    says(&mut other, "mail").await;
    world.write(DB);
    found("no listener", async || match TcpStream::connect(mail).await {
        Ok(_) => Err("it takes connections".to_owned()),
        Err(_) => Ok(()),
    })
    .await;
    // Neither the other listener nor its connections have noticed.
    assert_eq!(address(&world, "db"), before);
    says(&mut wire, "two").await;
    says(&mut connect(&world, "db").await, "three").await;
}

#[tokio::test]
async fn a_port_that_is_taken_changes_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let at = taken.local_addr().expect("an address");
    let world = setup(DB, echo()).with_file().start().await;
    let bad = || world.metric("tidegate_reloads_total", &["outcome=\"bad\""]);
    let before = bad();
    world.write(&format!(
        "{DB}scaling.max = 3\n[services.mail]\nimage = \"echo:1\"\nprotocol = \"tcp\"\nlisten = \"{at}\"\n"
    ));
    found("the refusal", async || if bad() > before { Ok(()) } else { Err("not yet".to_owned()) }).await;
    assert!(world.control().explain(name("mail")).await.expect("a control loop").is_none());
    says(&mut connect(&world, "db").await, "hello").await;
}

#[tokio::test]
async fn an_upgrade_hands_listeners_over_and_finishes_connections() {
    let world = setup(DB, echo()).start().await;
    let at = address(&world, "db");
    let mut wire = connect(&world, "db").await;
    says(&mut wire, "one").await;
    let (world, old) = world.upgrade().await;
    assert_eq!(address(&world, "db"), at, "the same socket");
    says(&mut wire, "two").await;
    says(&mut connect(&world, "db").await, "three").await;
    let (clean, ()) = tokio::join!(old.retire(), async {
        says(&mut wire, "four").await;
        drop(wire);
    });
    assert!(clean);
    says(&mut connect(&world, "db").await, "five").await;
}

#[tokio::test]
async fn stopping_ends_what_does_not_end_by_itself() {
    let world = world(&format!("gateway.drain = \"100ms\"\n{DB}")).await;
    let (at, mut wire) = (address(&world, "db"), connect(&world, "db").await);
    says(&mut wire, "one").await;
    let ((clean, ..), rest) = tokio::join!(world.stop(), wire.rest());
    assert_eq!((clean, rest.len()), (false, 0));
    assert!(TcpStream::connect(at).await.is_err());
}

#[tokio::test]
async fn addresses_of_its_own_may_be_a_tcp_services() {
    let mut site = Site::new("site").await;
    let text = format!(
        "[services.far]\nupstreams = [\"{}\"]\nprotocol = \"tcp\"\nlisten = \"127.0.0.1:0\"\nhealth.interval = \"50ms\"\n",
        site.address
    );
    let world = World::new(&text).await;
    let ask = "GET / HTTP/1.1\r\nhost: far\r\nconnection: close\r\n\r\n";
    let mut wire = connect(&world, "far").await;
    wire.send(ask).await;
    let (_, body) = wire.answer().await.expect("an answer");
    assert_eq!(body, "site");
    drop(wire);
    site.go().await;
    world.until("far", |status| status.state == "failing").await;
    let mut wire = connect(&world, "far").await;
    wire.send(ask).await;
    world.until_counts("far", 1, 0).await;
    site.come().await;
    let (_, body) = wire.answer().await.expect("an answer");
    assert_eq!(body, "site");
}

#[tokio::test]
async fn no_request_reaches_it() {
    let world = world(&format!("{DB}[services.web]\nimage = \"web:1\"\n")).await;
    assert_eq!(world.get("db", "/").await.status, 200, "the only service over HTTP gets everything");
    assert_eq!(world.status("db").await.state, "cold");
    assert_eq!(doors::addresses(&e2e::world::model(DB)).len(), 1);
}
