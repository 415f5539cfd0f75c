//! A server for tests in virtual time.

use std::{io, pin::Pin, sync::Arc, time::Duration};

use tidegate_loadtest::{Dial, Io, target::Target};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// When a request that arrives at an instant is answered, both since the server's start.
pub(crate) type Behaviour = fn(Duration) -> Duration;

/// A server in memory: each connection serves one request after the other.
#[derive(Debug)]
pub(crate) struct Server {
    start: Instant,
    behaviour: Behaviour,
    serving: std::sync::Mutex<JoinSet<()>>,
}

impl Server {
    /// Answers as `behaviour` says.
    pub(crate) fn new(behaviour: Behaviour) -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), behaviour, serving: std::sync::Mutex::default() })
    }
}

impl Dial for Server {
    fn dial<'a>(
        &'a self,
        _: &'a Target,
        _: bool,
    ) -> Pin<Box<dyn Future<Output = io::Result<Io>> + Send + 'a>> {
        let (near, far) = duplex(1 << 10);
        self.serving.lock().expect("no panic").spawn(serve(far, self.start, self.behaviour));
        Box::pin(async { Ok(Io::Other(Box::new(near))) })
    }
}

async fn serve(mut stream: DuplexStream, start: Instant, behaviour: Behaviour) {
    let mut request = [0; 1024];
    // A request of these tests fits into one piece.
    while let Ok(1..) = stream.read(&mut request).await {
        sleep_until(start + behaviour(start.elapsed())).await;
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}
