//! A server that no engine started, for services with addresses of their own: it answers with its name, and comes and
//! goes as the test likes.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::eventually::found;

/// A server at an address of loopback.
pub struct Site {
    name: &'static str,
    /// Where it is.
    pub address: SocketAddr,
    /// Whether `/healthz` answers 200 rather than 503.
    well: Arc<AtomicBool>,
    /// Answers to `/hold` wait for it.
    released: CancellationToken,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Site {
    /// A server of this name at any port.
    pub async fn new(name: &'static str) -> Self {
        Self::at(name, (Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// A server of this name there.
    ///
    /// # Panics
    /// When somebody else has the address.
    pub async fn at(name: &'static str, address: SocketAddr) -> Self {
        let mut site = Self::away(name, address);
        site.come().await;
        site
    }

    /// One that does not listen yet.
    #[must_use]
    pub fn away(name: &'static str, address: SocketAddr) -> Self {
        let (released, stop) = (CancellationToken::new(), CancellationToken::new());
        Self { name, address, well: Arc::new(true.into()), released, stop, tasks: JoinSet::new() }
    }

    /// Two of these names, at the same port of two addresses of loopback.
    ///
    /// # Panics
    /// When no port is free at both.
    pub async fn pair(names: [&'static str; 2]) -> [Self; 2] {
        const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
        for _ in 0..10 {
            let first = Self::new(names[0]).await;
            let mut second = Self::away(names[1], SocketAddr::new(OTHER, first.address.port()));
            if let Ok(listener) = TcpListener::bind(second.address).await {
                second.listen(listener);
                return [first, second];
            }
        }
        panic!("no port is free at two addresses");
    }

    /// Takes connections from here on.
    ///
    /// # Panics
    /// When somebody else has the address.
    pub async fn come(&mut self) {
        // Its former listener may take a moment to go.
        let bind = async || TcpListener::bind(self.address).await.map_err(|error| error.to_string());
        let listener = found("the address", bind).await;
        self.address = listener.local_addr().expect("a bound socket's address");
        self.listen(listener);
    }

    /// Closes the listener and every connection.
    pub async fn go(&mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    /// What `/healthz` answers from here on.
    pub fn set_well(&self, well: bool) {
        self.well.store(well, Ordering::Relaxed);
    }

    /// Answers every request for `/hold`, also those to come.
    pub fn release(&self) {
        self.released.cancel();
    }

    fn listen(&mut self, listener: TcpListener) {
        self.stop = CancellationToken::new();
        let (stop, serve) = (self.stop.clone(), self.server());
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    Ok((stream, _)) = listener.accept() => drop(connections.spawn(serve(stream))),
                    Some(_) = connections.join_next() => {}
                }
            }
        });
    }

    fn server(&self) -> impl Fn(TcpStream) -> futures_util::future::BoxFuture<'static, ()> + Send + use<> {
        let (name, well, released) = (self.name, Arc::clone(&self.well), self.released.clone());
        move |stream| {
            let (well, released) = (Arc::clone(&well), released.clone());
            let answer = service_fn(move |request: Request<Incoming>| {
                let (well, released) = (Arc::clone(&well), released.clone());
                async move {
                    if request.uri().path() == "/hold" {
                        released.cancelled().await;
                    }
                    let ill = request.uri().path() == "/healthz" && !well.load(Ordering::Relaxed);
                    let response = Response::builder().status(if ill { 503 } else { 200 });
                    Ok::<_, Infallible>(response.body(Full::new(Bytes::from(name))).expect("a response"))
                }
            });
            Box::pin(async move {
                // A client may leave at any time.
                drop(http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await);
            })
        }
    }
}
