//! In the network of the machine that runs the tests, as root; each test has an instance of its own.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
};

use nix::sched::{CloneFlags, setns};
use parking_lot::Mutex;
use tempfile::TempDir;

use super::{leftovers::LeftoverKind, *};

/// An instance with its folder; everything of it is removed in the end, also after a failure.
struct World {
    run: TempDir,
    instance: InstanceId,
    networks: Mutex<Vec<Arc<Network>>>,
}

impl World {
    fn new() -> Self {
        let (run, instance) = (TempDir::new().expect("a folder"), InstanceId::from_bits(rand::random()));
        Self { run, instance, networks: Mutex::default() }
    }

    fn options(&self, pool: usize) -> Options {
        Options {
            instance: self.instance.clone(),
            subnet: None,
            run: self.run.path().to_owned(),
            allow_metadata: false,
            pool,
        }
    }

    async fn open(&self, pool: usize) -> Arc<Network> {
        self.open_with(self.options(pool)).await
    }

    async fn open_with(&self, options: Options) -> Arc<Network> {
        let network = Network::open(options).await.expect("a network");
        self.networks.lock().push(Arc::clone(&network));
        network
    }

    fn short(&self) -> &str {
        self.instance.short()
    }

    fn folder(&self) -> PathBuf {
        self.run.path().join(self.short())
    }

    /// Everything on the machine that has this instance in its name.
    fn traces(&self) -> Vec<String> {
        let mut text = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        for (tool, arguments) in [("ip", &["-o", "link"][..]), ("iptables-save", &[])] {
            let output = Command::new(tool).args(arguments).output().expect(tool);
            text.push_str(&String::from_utf8_lossy(&output.stdout));
        }
        let ours =
            |line: &&str| line.contains(self.short()) || line.contains(&names::veth_prefix(self.short()));
        text.lines().filter(ours).map(str::to_owned).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let (run, short) = (self.run.path().to_owned(), self.short().to_owned());
        let networks = std::mem::take(&mut *self.networks.lock());
        let cleaner = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                // Who is still at work would make things again.
                for network in networks {
                    network.close().await;
                }
                purge(&run, &short).await
            })
        });
        if let Err(error) = cleaner.join().expect("the cleaner") {
            eprintln!("left behind: {error}");
        }
    }
}

fn id(number: u64) -> ReplicaId {
    ReplicaId::new("web".parse().expect("a name"), 1, number)
}

/// Acts in the namespace of a place.
fn inside<T: Send + 'static>(place: &Place, act: impl FnOnce() -> T + Send + 'static) -> T {
    let pin = place.namespace.clone();
    let enter = move || {
        setns(File::open(pin).expect("a pin"), CloneFlags::CLONE_NEWNET).expect("to enter");
        act()
    };
    thread::spawn(enter).join().expect("the thread inside")
}

fn read(place: &Place, file: &'static str) -> String {
    inside(place, move || fs::read_to_string(file).expect("a file"))
}

/// A server that says hello to everyone.
fn serve(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    let listener = TcpListener::bind((address.into(), port)).expect("to listen");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(b"hello");
        }
    });
    address
}

fn call(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip");
    assert!(status.success(), "ip {arguments}");
}

async fn until(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("it never came to be");
}

fn ready(world: &World) -> usize {
    places::list(&world.folder().join("places/free")).expect("a folder").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_the_replicas_until_it_is_released() {
    let world = World::new();
    let network = world.open(3).await;
    until(|| ready(&world) == 3).await;
    let first = network.take(&id(1)).await.expect("a place");
    let second = network.take(&id(2)).await.expect("a place");
    assert_ne!(first, second);
    assert_eq!(network.take(&id(1)).await.expect("a place"), first);
    assert_eq!(network.of(&id(1)), Some(first.clone()));
    assert_eq!(network.held().len(), 2);
    until(|| ready(&world) == 3).await;

    network.release(&id(1)).await.expect("to release");
    network.release(&id(1)).await.expect("to release what is released");
    network.settled().await;
    assert_eq!((network.of(&id(1)), first.namespace.exists()), (None, false));
    let again = network.take(&id(1)).await.expect("a place");
    assert_ne!(again.address, first.address, "addresses go round");

    network.give_back().await.expect("to give back the pool");
    assert_eq!((ready(&world), network.held().len()), (0, 2));
    let cards = world.traces().into_iter().filter(|t| t.contains(&names::veth_prefix(world.short()))).count();
    assert_eq!(cards, 2);
}

/// A shim's mount namespace is a copy, pins included; they must not keep what is released.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_mounts_keeps_no_namespace() {
    let world = World::new();
    let network = world.open(0).await;
    let place = network.take(&id(1)).await.expect("a place");
    let pin = place.namespace.display().to_string();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", "echo copied; read line"]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut other = command.spawn().expect("unshare");
    let mut said = [0; 7];
    other.stdout.take().expect("its output").read_exact(&mut said).expect("its word");
    let mounts = format!("/proc/{}/mountinfo", other.id());
    let before = fs::read_to_string(&mounts).expect("mounts");
    network.release(&id(1)).await.expect("to release");
    network.settled().await;
    let after = fs::read_to_string(&mounts).expect("mounts");
    drop(other.stdin.take());
    other.wait().expect("its end");
    assert_eq!((before.contains(&pin), after.contains(&pin)), (true, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_never_give_one_place_twice() {
    let world = World::new();
    let networks = [world.open(4).await, world.open(4).await];
    let takes = (0..40).map(|n| {
        let network = Arc::clone(&networks[n as usize % 2]);
        async move { network.take(&id(n)).await.expect("a place") }
    });
    let places = futures_util::future::join_all(takes).await;
    let addresses: std::collections::BTreeSet<_> = places.iter().map(|place| place.address).collect();
    assert_eq!(addresses.len(), 40);
    for (n, place) in places.iter().enumerate() {
        assert_eq!(networks[0].of(&id(n as u64)).as_ref(), Some(place));
    }

    let [one, other] = &networks;
    for n in 40..60 {
        let id = id(n);
        let (a, b) = tokio::join!(one.take(&id), other.take(&id));
        assert_eq!(a.expect("a place"), b.expect("a place"), "{id}");
    }
    // Both remove at the same time what either released.
    for n in 0..60 {
        networks[n as usize % 2].release(&id(n)).await.expect("to release");
    }
    tokio::join!(one.settled(), other.settled());
    assert!(one.held().is_empty());
    one.give_back().await.expect("to give back the pool");
    other.give_back().await.expect("to give back the pool");
    let cards = world.traces().into_iter().filter(|t| t.contains(&names::veth_prefix(world.short())));
    assert_eq!(cards.collect::<Vec<_>>(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_reach_the_gateway_and_nobody_else() {
    let world = World::new();
    let network = world.open(2).await;
    let (a, b) = (network.take(&id(1)).await.expect("a place"), network.take(&id(2)).await.expect("a place"));
    let address = a.address;
    let served = inside(&a, move || serve(address, 80));
    assert_eq!(call(served).expect("an answer"), "hello");
    let gateway = serve(network.bridge(), 0);
    assert_eq!(inside(&b, move || call(gateway)).expect("an answer"), "hello");

    for (target, expected) in [
        (served, vec![libc::EHOSTUNREACH]),
        ("169.254.169.254:80".parse().expect("an address"), vec![libc::EACCES, libc::EHOSTUNREACH]),
    ] {
        let refused = inside(&b, move || call(target)).expect_err("a refusal");
        assert!(expected.contains(&refused.raw_os_error().unwrap_or(0)), "{target}: {refused}");
    }
    for (file, expected) in [
        ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
        ("/proc/sys/net/ipv4/ping_group_range", "0\t2147483647"),
        ("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1"),
        ("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "0"),
    ] {
        assert_eq!(read(&b, file).trim(), expected, "{file}");
    }

    // Nor if it has the power to change its routes: not directly, and not through the gateway.
    let subnet = network.pool.parts().0.names.subnet;
    for route in [format!("{subnet} dev eth0"), format!("{address} via {}", network.bridge())] {
        inside(&b, move || {
            ip(&format!("route del unreachable {subnet}"));
            ip(&format!("route add {route}"));
            let refused = call(served).expect_err("a refusal");
            assert_ne!(refused.kind(), io::ErrorKind::ConnectionRefused, "the packet arrived");
            ip(&format!("route del {route}"));
            ip(&format!("route add unreachable {subnet}"));
        });
    }
    assert_eq!(inside(&b, move || call(gateway)).expect("an answer"), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_a_matter_of_the_setting() {
    let world = World::new();
    let (file, metadata) = ("/proc/thread-self/net/route", "0000FEA9");
    let strict = world.open(2).await;
    let place = strict.take(&id(1)).await.expect("a place");
    assert!(read(&place, file).contains(metadata));
    until(|| ready(&world) == 2).await;
    strict.close().await;
    let open = world.open_with(Options { allow_metadata: true, ..world.options(2) }).await;
    let place = open.take(&id(2)).await.expect("a place");
    assert!(!read(&place, file).contains(metadata));
    assert_eq!(ready(&world), 0, "what was prepared under the other rule is withdrawn");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_point_is_repaired() {
    let world = World::new();
    let network = world.open(3).await;
    let mut kept = Vec::new();
    for n in 1..=3 {
        kept.push(network.take(&id(n)).await.expect("a place"));
    }
    until(|| ready(&world) == 3).await;
    network.close().await;
    let names = network.pool.parts().0.names.clone();
    let number = |place: &Place| u32::from(place.address) - u32::from(names.subnet.network());
    let folder = world.folder().join("places");
    let free: Vec<u32> =
        places::list(&folder.join("free")).expect("a folder").iter().map(|k| k.parse().expect("k")).collect();
    drop(network);

    // Ready, but without its namespace; ready, but without its card.
    wiring::unpin(&world.folder().join("net").join(free[0].to_string())).expect("to unpin");
    ip(&format!("link del {}", names.veth(free[1])));
    // Claimed and no more; a card and a pin that nobody claims.
    fs::write(folder.join("claims/700"), "700").expect("a claim");
    ip(&format!("link add {} type veth peer name x{}", names.veth(701), world.short()));
    fs::write(world.folder().join("net/702"), "").expect("a pin");
    // Released, but not removed. Held, without a card, without a namespace, and sound.
    fs::rename(folder.join("free").join(free[2].to_string()), folder.join("gone/x")).expect("to release");
    ip(&format!("link del {}", names.veth(number(&kept[0]))));
    wiring::unpin(&kept[1].namespace).expect("to unpin");

    let network = world.open(0).await;
    let mut held = network.held();
    held.sort();
    assert_eq!(held, [id(1), id(3)]);
    for n in [0, 2] {
        let address = kept[n].address;
        let served = inside(&kept[n], move || serve(address, 80));
        assert_eq!(call(served).expect("an answer"), "hello", "replica {}", n + 1);
    }
    let mut left = places::list(&folder.join("claims")).expect("a folder");
    left.sort();
    let mut expected = [number(&kept[0]).to_string(), number(&kept[2]).to_string()];
    expected.sort();
    assert_eq!(left, expected);
    assert_eq!(places::list(&world.folder().join("net")).expect("a folder").len(), 2);
    let cards = world.traces().into_iter().filter(|t| t.contains(&names::veth_prefix(world.short()))).count();
    assert_eq!(cards, 2);
}

/// The claim of a place, and the lock that somebody holds on it.
fn claim_of_someone(world: &World) -> (PathBuf, File) {
    let claim = world.folder().join("places/claims/700");
    fs::write(&claim, "700").expect("a claim");
    let lock = File::open(&claim).expect("the claim");
    lock.lock().expect("to lock it");
    (claim, lock)
}

/// As when a process that a killed gateway had just begun holds its locks until it runs its program.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_let_go_at_once_hides_nothing_from_repair() {
    let world = World::new();
    world.open(0).await.close().await;
    let (claim, held) = claim_of_someone(&world);
    let lets_go = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        drop(held);
    };
    let (_network, ()) = tokio::join!(world.open(0), lets_go);
    assert!(!claim.exists(), "what nobody works on is removed");
}

/// A gateway that takes and releases without end; only the next test runs it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "ends only when it is killed"]
async fn busy_until_killed() {
    let given = |name| std::env::var(name).ok();
    let (Some(run), Some(instance), Some(first)) =
        (given("NETWORK_RUN"), given("NETWORK_INSTANCE"), given("NETWORK_FIRST"))
    else {
        return;
    };
    let instance = instance.parse().expect("an instance");
    let options = Options { instance, subnet: None, run: run.into(), allow_metadata: false, pool: 4 };
    let network = Network::open(options).await.expect("a network");
    for n in first.parse::<u64>().expect("a number").. {
        network.take(&id(n)).await.expect("a place");
        if n % 3 > 0 {
            network.release(&id(n - 1)).await.expect("to release");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_gateways_leave_nothing_half_made() {
    let world = World::new();
    let folder = world.folder();
    for round in 0..8u64 {
        let first = round * 10_000;
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", "embedded::network::tests::busy_until_killed"])
            .env("NETWORK_RUN", world.run.path())
            .env("NETWORK_INSTANCE", world.instance.as_str())
            .env("NETWORK_FIRST", first.to_string())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("a gateway");
        let used = folder.join("places/used");
        let busy = || places::list(&used).is_ok_and(|names| names.len() as u64 > 6 * round + 3);
        until(busy).await;
        tokio::time::sleep(Duration::from_micros(rand::random_range(0..20_000))).await;
        child.kill().expect("to kill");
        child.wait().expect("its end");

        let network = world.open(0).await;
        // Another test's fork has a copy of each lock until it becomes another program.
        network.settled().await;
        let (wiring, places) = network.pool.parts();
        let mut whole = places.ready().expect("places");
        whole.extend(places.used().expect("places"));
        assert_eq!(places.claimed().expect("claims"), whole, "round {round}");
        let pins = places::list(&folder.join("net")).expect("pins");
        let pins = pins.iter().map(|k| k.parse().expect("k")).filter(|k| wiring.is_pinned(*k));
        assert_eq!(pins.collect::<std::collections::BTreeSet<u32>>(), whole, "round {round}");
        let mut cards: Vec<_> = whole.iter().map(|k| wiring.names.veth(*k)).collect();
        let prefix = names::veth_prefix(world.short());
        let mut there = places::list(Path::new("/sys/class/net")).expect("cards");
        there.retain(|name| name.starts_with(&prefix));
        cards.sort();
        there.sort();
        assert_eq!(there, cards, "round {round}");
        network.close().await;
    }
}

/// A lock outlives whoever held it for as long as a fork of theirs has a copy.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_locked_at_the_start_is_removed_later() {
    let world = World::new();
    world.open(0).await.close().await;
    let (claim, busy) = claim_of_someone(&world);
    fs::hard_link(&claim, world.folder().join("places/gone/700.x.0")).expect("to release");
    let network = world.open(0).await;
    assert!(claim.exists());
    let (wiring, places) = network.pool.parts();
    assert!(repair::repair(wiring, places).expect("to look").is_empty(), "no start waits for it");
    drop(busy);
    until(|| !claim.exists()).await;
}

/// A repair that found a place unfinished may come to it when another gateway has given it to a replica.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_repair_does_no_harm() {
    let world = World::new();
    let network = world.open(1).await;
    let place = network.take(&id(1)).await.expect("a place");
    until(|| ready(&world) == 1).await;
    network.close().await;
    let (wiring, places) = network.pool.parts();
    let card = |k: u32| fs::read_to_string(format!("/sys/class/net/{}/ifindex", wiring.names.veth(k))).ok();
    let claimed = places.claimed().expect("claims");
    let before: Vec<_> = claimed.iter().map(|k| card(*k)).collect();
    for k in &claimed {
        let claim = places.seize(*k).expect("to look").expect("a claim");
        repair::treat(wiring, places, &claim).expect("to repair");
        assert!(places.seize(*k).expect("to look").is_none(), "a place is one repair's at a time");
    }
    let after: Vec<_> = claimed.iter().map(|k| card(*k)).collect();
    assert_eq!((before.len(), before), (2, after));
    assert_eq!((network.of(&id(1)), ready(&world)), (Some(place), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_full_says_so() {
    let world = World::new();
    let subnet = Some(format!("10.{}.0.0/29", rand::random_range(200..250)).parse().expect("a subnet"));
    let network = world.open_with(Options { subnet, ..world.options(0) }).await;
    for n in 0..5 {
        network.take(&id(n)).await.expect("a place");
    }
    let refused = network.take(&id(5)).await.expect_err("a refusal");
    assert_eq!(refused.kind, Kind::Retryable);
    assert!(refused.message.contains("is full"), "{refused}");
    network.release(&id(0)).await.expect("to release");
    network.take(&id(5)).await.expect("the place that was released");

    let again = world.open(0).await;
    assert_eq!(again.bridge(), network.bridge(), "the bridge keeps its subnet");
}

#[tokio::test]
async fn a_subnet_in_use_is_refused() {
    let world = World::new();
    for (subnet, words) in [("127.0.0.0/24", "lo"), ("10.0.0.0/31", "between /8 and /30")] {
        let subnet = Some(subnet.parse().expect("a subnet"));
        let refused = Network::open(Options { subnet, ..world.options(0) }).await.err().expect("a refusal");
        assert_eq!(refused.kind, Kind::Permanent);
        assert!(refused.message.contains(words), "{refused}");
    }
    assert_eq!(world.traces(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_reach_the_world_under_the_machines_address() {
    let world = World::new();
    let network = world.open(1).await;
    let place = network.take(&id(1)).await.expect("a place");
    // Somebody outside who knows this machine, but not the replicas' subnet.
    let (space, card) = (format!("out{}", world.short()), format!("ou-{}", world.short()));
    ip(&format!("netns add {space}"));
    ip(&format!("link add {card} type veth peer name eth0 netns {space}"));
    ip(&format!("addr add 198.18.77.1/30 dev {card}"));
    ip(&format!("link set {card} up"));
    ip(&format!("-n {space} addr add 198.18.77.2/30 dev eth0"));
    ip(&format!("-n {space} link set eth0 up"));
    let outside = Place { namespace: Path::new("/run/netns").join(&space), address: place.address };
    let served = inside(&outside, || serve([198, 18, 77, 2], 8080));
    let answer = inside(&place, move || call(served));
    // And it cannot come in, although it knows the way.
    let (subnet, address) = (network.pool.parts().0.names.subnet, place.address);
    let target = inside(&place, move || serve(address, 80));
    ip(&format!("-n {space} route add {subnet} via 198.18.77.1"));
    let intruder = inside(&outside, move || call(target));
    ip(&format!("netns del {space}"));
    assert_eq!(answer.expect("an answer"), "hello");
    assert!(intruder.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_after_a_purge() {
    let world = World::new();
    let network = world.open(3).await;
    for n in 0..5 {
        network.take(&id(n)).await.expect("a place");
    }
    network.close().await;
    assert!(!world.traces().is_empty());
    let found = leftovers(world.run.path()).await.expect("a list");
    let ours = |kind| found.iter().filter(|l| l.kind == kind && l.instance == world.short()).count();
    assert_eq!(
        (ours(LeftoverKind::Bridge), ours(LeftoverKind::Rules), ours(LeftoverKind::Folder)),
        (1, 1, 1)
    );
    assert!(ours(LeftoverKind::Veth) >= 5 && ours(LeftoverKind::Pin) >= 5, "{found:?}");
    let one =
        found.iter().find(|l| l.kind == LeftoverKind::Pin && l.instance == world.short()).expect("a pin");
    one.remove().await.expect("to remove it");
    one.remove().await.expect("to remove what is gone");

    purge(world.run.path(), world.short()).await.expect("to purge");
    assert_eq!(world.traces(), [""; 0]);
    assert!(!world.folder().exists());
    purge(world.run.path(), world.short()).await.expect("to purge what is gone");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while: cargo test -p tidegate-runner --lib network::tests::a_bridge -- --ignored"]
async fn a_bridge_is_used_to_its_last_port() {
    let world = World::new();
    let subnet = Some(format!("10.{}.0.0/16", rand::random_range(150..200)).parse().expect("a subnet"));
    let network = world.open_with(Options { subnet, ..world.options(0) }).await;
    for n in 0..names::PORTS as u64 {
        network.take(&id(n)).await.expect("a place");
    }
    let refused = network.take(&id(5000)).await.expect_err("a refusal");
    assert!(refused.message.contains("1024 ports"), "{refused}");
    let last = network.of(&id(names::PORTS as u64 - 1)).expect("a place");
    let address = last.address;
    let served = inside(&last, move || serve(address, 80));
    assert_eq!(call(served).expect("an answer"), "hello");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures: cargo test -p tidegate-runner --lib network::tests::figures -- --ignored --nocapture"]
#[expect(clippy::disallowed_methods, reason = "it measures, and asserts nothing about time")]
async fn figures() {
    let world = World::new();
    let network = world.open(0).await;
    let start = std::time::Instant::now();
    for n in 0..100 {
        network.take(&id(n)).await.expect("a place");
    }
    println!("made one at a time: {:?} each", start.elapsed() / 100);
    let start = std::time::Instant::now();
    let takes = (100..200).map(|n| {
        let network = Arc::clone(&network);
        async move { network.take(&id(n)).await.expect("a place") }
    });
    futures_util::future::join_all(takes).await;
    println!("made at once: {:?} each", start.elapsed() / 100);
    let start = std::time::Instant::now();
    for n in 0..200 {
        network.release(&id(n)).await.expect("to release");
    }
    println!("released 200: {:?}", start.elapsed());
    network.settled().await;
    println!("removed 200: {:?} after the first release", start.elapsed());
    network.close().await;

    let network = world.open(100).await;
    until(|| ready(&world) == 100).await;
    network.close().await;
    let start = std::time::Instant::now();
    for n in 200..300 {
        network.take(&id(n)).await.expect("a place");
    }
    println!("taken from the pool: {:?} each", start.elapsed() / 100);

    let network = world.open(0).await;
    let mut first = Vec::new();
    for n in 300..400 {
        let place = network.take(&id(n)).await.expect("a place");
        let address = place.address;
        let served = inside(&place, move || serve(address, 80));
        let start = std::time::Instant::now();
        call(served).expect("an answer");
        first.push(start.elapsed());
    }
    first.sort();
    println!("first call to a place just made: {:?} in the middle, {:?} at worst", first[50], first[99]);
}
