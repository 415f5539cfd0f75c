//! What `tidegate record` gets: each request that a replica had, when it came and how long that took.

use e2e::world::World;
use tidegate_loadtest::plan::recording::{Options, each};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

/// Listens to a service until the text has so many lines.
struct Listener {
    stream: UnixStream,
    text: String,
}

impl Listener {
    async fn new(world: &World, rest: &str) -> Self {
        let mut stream = UnixStream::connect(world.socket()).await.expect("the admin socket");
        let head = format!("GET /v1/services/api/requests{rest} HTTP/1.0\r\nhost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("a request");
        let mut listener = Self { stream, text: String::new() };
        listener.until(|text| text.contains("time,took\n")).await;
        listener
    }

    async fn until(&mut self, enough: impl Fn(&str) -> bool) {
        let mut piece = [0; 4096];
        while !enough(&self.text) {
            let length = self.stream.read(&mut piece).await.expect("a stream");
            assert!(length > 0, "it ended with {}", self.text);
            self.text += std::str::from_utf8(&piece[..length]).expect("text");
        }
    }

    fn rows(text: &str) -> &str {
        text.split_once("\r\n\r\n").expect("a head").1
    }
}

#[tokio::test]
async fn a_recording_has_what_replicas_had_and_is_read_by_simulations() {
    let world = World::new("[services.api]\nimage = 'api:1'\nscaling = { concurrency = 1, queue = 1 }").await;
    world.get("api", "/before").await;
    let mut listener = Listener::new(&world, "").await;
    for _ in 0..3 {
        world.get("api", "/").await;
    }
    listener.until(|text| Listener::rows(text).lines().count() >= 4).await;
    let text = Listener::rows(&listener.text);
    let recording = each(text, &Options::default()).expect("a recording").swap_remove(0);
    assert!((recording.profile.requests() - 3.0).abs() < 1e-9, "those since it began: {text}");
    assert_eq!(recording.took.iter().flatten().count(), 3, "each says how long it took: {text}");
    world.stop().await;
}

#[tokio::test]
async fn it_ends_when_its_time_is_over_and_says_what_is_wrong_with_it() {
    let world = World::new("[services.api]\nimage = 'api:1'").await;
    let mut listener = Listener::new(&world, "?for=0.01").await;
    let mut rest = Vec::new();
    listener.stream.read_to_end(&mut rest).await.expect("its end");
    assert_eq!(Listener::rows(&listener.text), "time,took\n");
    let mut stream = UnixStream::connect(world.socket()).await.expect("the admin socket");
    stream.write_all(b"GET /v1/services/api/requests?for=-1 HTTP/1.0\r\n\r\n").await.expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.0 400"), "{answer}");
    world.stop().await;
}
