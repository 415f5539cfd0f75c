//! Containers call services by name: the resolver says that a service is at the gateway, the listener there takes the bare
//! name through the ordinary request path, and everything else is left to those who know it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use e2e::{
    client::{Answer, Session, empty},
    eventually::{found, soon},
    world::{Setup, World},
};
use hickory_proto::{
    op::{Message, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use tidegate::names::{self, Names, Ports, Upstreams};
use tidegate_runner::{Runner, scripted::Scripted};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const API: &str = "services.api.image = \"api:1\"";

/// Names of a world, on ports of their own.
struct Served {
    world: World,
    names: Names,
    /// The engine of a host whose containers' network is this machine's loopback.
    engine: Scripted,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Served {
    async fn new(text: &str, ports: Ports, upstreams: Vec<SocketAddr>) -> Self {
        let world = Setup::new(text).start().await;
        let names = Names::start(names::Setup {
            fleet: Arc::clone(world.app.fleet()),
            inside: world.app.inside(),
            model: Arc::new(e2e::world::model(text)),
            ports,
            upstreams: Upstreams::Fixed(upstreams),
        });
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(names.clone().serve(stop.clone()));
        let engine = Scripted::new(world.targets.clone());
        let served = Self { world, names, engine, stop, tasks };
        served.tell(Some(HERE));
        served
    }

    /// The host has told where its containers reach this machine.
    fn tell(&self, bridge: Option<IpAddr>) {
        let engine: Arc<dyn Runner> = Arc::new(self.engine.clone());
        self.names.host(&"local".parse().expect("a name"), bridge, &engine);
    }

    fn resolver(&self) -> SocketAddr {
        self.names.places()[0].0
    }

    /// A GET as a container sends it.
    async fn call(&self, host: &str, field: Option<(&str, &str)>) -> Answer {
        let request = http::Request::get("/").header("host", host);
        let request = field.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        let mut session = Session::http1(self.names.places()[0].1).await;
        session.ask(request.body(empty()).expect("a request")).await.expect("a whole answer")
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_str(name).expect("a name"), kind));
    message
}

async fn ask(resolver: SocketAddr, message: &Message) -> Message {
    let socket = UdpSocket::bind((HERE, 0)).await.expect("a socket");
    socket.connect(resolver).await.expect("an address");
    socket.send(&message.to_vec().expect("a message")).await.expect("sent");
    let mut answer = vec![0; 4096];
    let length = soon("an answer", socket.recv(&mut answer)).await.expect("received");
    Message::from_vec(&answer[..length]).expect("a message")
}

async fn ask_over_tcp(resolver: SocketAddr, message: &Message) -> Message {
    let mut stream = TcpStream::connect(resolver).await.expect("a resolver");
    let bytes = message.to_vec().expect("a message");
    let length = u16::try_from(bytes.len()).expect("a short message");
    stream.write_u16(length).await.expect("sent");
    stream.write_all(&bytes).await.expect("sent");
    let length = soon("an answer", stream.read_u16()).await.expect("a length");
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.expect("an answer");
    Message::from_vec(&answer).expect("a message")
}

fn addresses(answer: &Message) -> Vec<String> {
    answer.answers.iter().map(|record| record.data.to_string()).collect()
}

/// A port that is free for UDP may be taken for TCP: then another one.
async fn same_port() -> (UdpSocket, TcpListener) {
    for _ in 0..50 {
        let udp = UdpSocket::bind((HERE, 0)).await.expect("a socket");
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("an address")).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both");
}

/// A nameserver that knows one address, over UDP and over TCP, and no other name.
async fn nameserver(tasks: &mut JoinSet<()>) -> SocketAddr {
    let (udp, tcp) = same_port().await;
    let address = udp.local_addr().expect("an address");
    tasks.spawn(async move {
        let mut query = vec![0; 4096];
        while let Ok((length, peer)) = udp.recv_from(&mut query).await {
            udp.send_to(&known(&query[..length], 7), peer).await.expect("sent");
        }
    });
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let mut query = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
            stream.read_exact(&mut query).await.expect("a query");
            let answer = known(&query, 8);
            stream.write_u16(u16::try_from(answer.len()).expect("short")).await.expect("sent");
            stream.write_all(&answer).await.expect("sent");
        }
    });
    address
}

fn known(query: &[u8], last: u8) -> Vec<u8> {
    let asked = Message::from_vec(query).expect("the query as it was asked");
    let mut answer = Message::response(asked.metadata.id, OpCode::Query);
    let name = asked.queries[0].name().clone();
    if name.to_ascii() == "known.example." {
        answer.add_answer(Record::from_rdata(name, 60, RData::A(A(Ipv4Addr::new(192, 0, 2, last)))));
    } else {
        answer.metadata.response_code = ResponseCode::NXDomain;
    }
    answer.add_queries(asked.queries);
    answer.to_vec().expect("an answer")
}

const ANY_PORTS: Ports = Ports { dns: 0, http: 0 };

#[tokio::test]
async fn a_call_by_name_wakes_a_service_that_sleeps() {
    let served = Served::new(API, ANY_PORTS, Vec::new()).await;
    assert_eq!(served.engine.resolver(), Some(HERE), "containers are told whom to ask");
    let answer = ask(served.resolver(), &question("api.", RecordType::A)).await;
    assert_eq!(addresses(&answer), ["127.0.0.1"]);
    assert_eq!(served.world.status("api").await.state, "cold", "a question wakes nobody");
    assert_eq!(served.call("api", None).await.status, 200);
    served.world.until_ready("api", 1).await;
    for host in ["API", "api:80", "api.", "Api:8080"] {
        assert_eq!(served.call(host, None).await.status, 200, "{host}");
    }
    for host in ["web", "api.localhost", "127.0.0.1", "www.api"] {
        assert_eq!(served.call(host, None).await.refusal(), (404, "no_route".into()), "{host}");
    }
}

#[tokio::test]
async fn a_container_cannot_speak_for_others() {
    let text = format!("gateway.trusted_proxies = [\"127.0.0.0/8\"]\n{API}");
    let served = Served::new(&text, ANY_PORTS, Vec::new()).await;
    let echo = served.call("api", Some(("x-forwarded-for", "203.0.113.9"))).await.echo();
    let said = serde_json::to_string(&echo).expect("JSON");
    assert!(!said.contains("203.0.113.9") && said.contains("127.0.0.1"), "{said}");
}

#[tokio::test]
async fn names_that_are_no_services_are_left_to_those_who_know_them() {
    let mut others = JoinSet::new();
    let upstream = nameserver(&mut others).await;
    let served = Served::new(API, ANY_PORTS, vec![upstream]).await;
    let known = question("known.example.", RecordType::A);
    assert_eq!(addresses(&ask(served.resolver(), &known).await), ["192.0.2.7"]);
    assert_eq!(addresses(&ask_over_tcp(served.resolver(), &known).await), ["192.0.2.8"], "TCP stays TCP");
    let web = ask(served.resolver(), &question("web.", RecordType::A)).await;
    assert_eq!(web.metadata.response_code, ResponseCode::NXDomain, "because the nameserver says so");
    let api = ask_over_tcp(served.resolver(), &question("api.", RecordType::AAAA)).await;
    assert_eq!((api.metadata.response_code, api.answers.len()), (ResponseCode::NoError, 0));
}

#[tokio::test]
async fn without_a_nameserver_services_resolve_all_the_same() {
    // Nobody answers there any more.
    let gone = UdpSocket::bind((HERE, 0)).await.expect("a socket").local_addr().expect("an address");
    for upstreams in [vec![gone], Vec::new()] {
        let served = Served::new(API, ANY_PORTS, upstreams).await;
        let other = ask(served.resolver(), &question("known.example.", RecordType::A)).await;
        assert_eq!(other.metadata.response_code, ResponseCode::ServFail);
        let api = ask(served.resolver(), &question("api.", RecordType::A)).await;
        assert_eq!(addresses(&api), ["127.0.0.1"]);
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_taken_up_once_it_is_free() {
    let taken = TcpListener::bind((HERE, 0)).await.expect("a port");
    let http = taken.local_addr().expect("an address").port();
    let served = Served::new(API, Ports { dns: 0, http }, Vec::new()).await;
    assert_eq!((served.engine.resolver(), served.names.places().len()), (None, 0));
    assert_eq!(served.world.get("api", "/").await.status, 200, "everything else works");
    drop(taken);
    found("a resolver", async || served.engine.resolver().ok_or_else(|| "none".to_owned())).await;
    assert_eq!(served.call("api", None).await.status, 200);
}

#[tokio::test]
async fn ports_are_given_up_and_taken_again() {
    let mut served = Served::new(API, ANY_PORTS, Vec::new()).await;
    let (resolver, _) = served.names.places()[0];
    served.stop.cancel();
    soon("an end", async { while served.tasks.join_next().await.is_some() {} }).await;
    assert!(served.names.places().is_empty());
    drop(UdpSocket::bind(resolver).await.expect("the port is free"));
    served.tasks.spawn(served.names.clone().serve(CancellationToken::new()));
    found("the same place", async || match served.names.places()[..] {
        [_] => Ok(()),
        _ => Err("none".to_owned()),
    })
    .await;
    assert_eq!(served.call("api", None).await.status, 200);
}

#[tokio::test]
async fn a_network_that_is_gone_is_not_served_any_more() {
    let served = Served::new(API, ANY_PORTS, Vec::new()).await;
    let (_, listener) = served.names.places()[0];
    served.tell(None);
    assert_eq!((served.engine.resolver(), served.names.places().len()), (None, 0));
    found("a closed port", async || match TcpStream::connect(listener).await {
        Err(_) => Ok(()),
        Ok(_) => Err("connected".to_owned()),
    })
    .await;
}

#[tokio::test]
async fn names_can_be_switched_off() {
    let served = Served::new(&format!("gateway.internal_names = false\n{API}"), ANY_PORTS, Vec::new()).await;
    assert_eq!((served.engine.resolver(), served.names.places().len()), (None, 0));
}
