//! A TLS server before the engine's socket, with certificates of its own, whose line can be cut in two ways.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tidegate_config::model::{Host, Tls};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream, UnixStream},
    sync::{Notify, watch},
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
        server::WebPkiClientVerifier,
    },
};

const ENGINE: &str = "/var/run/docker.sock";

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// They lead to the engine.
    Open,
    /// They are closed, also those that were open.
    Refused,
    /// They stay, and nothing moves on them any more; what was open stays so for ever.
    Silent,
}

/// A proxy before the engine.
pub(crate) struct Proxy {
    address: SocketAddr,
    folder: TempDir,
    line: watch::Sender<Line>,
    met: Arc<Met>,
    _tasks: JoinSet<()>,
}

/// Who came while the line was not open.
#[derive(Default)]
struct Met {
    open: AtomicUsize,
    waiting: Notify,
}

impl Proxy {
    /// A proxy that lets only its own clients in.
    pub(crate) async fn tls() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let acceptor = certificates(folder.path());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (line, met) = (watch::channel(Line::Open).0, Arc::new(Met::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, acceptor, line.subscribe(), Arc::clone(&met)));
        Self { address, folder, line, met, _tasks: tasks }
    }

    /// How a file would say where it is.
    pub(crate) fn host(&self) -> Host {
        let file = |name: &str| self.folder.path().join(name);
        let tls = Tls { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem") };
        Host { endpoint: Some(format!("tcp://{}", self.address)), tls: Some(tls), ..Host::local() }
    }

    pub(crate) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// Ends once somebody came while the line was not open.
    pub(crate) async fn waited_for(&self) {
        let soon = tokio::time::timeout(Duration::from_secs(60), self.met.waiting.notified());
        soon.await.expect("somebody tries");
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> usize {
        self.met.open.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, line: watch::Receiver<Line>, met: Arc<Met>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("accepted");
        let (acceptor, mut line, met) = (acceptor.clone(), line.clone(), Arc::clone(&met));
        connections.spawn(async move {
            met.open.fetch_add(1, Ordering::SeqCst);
            let state = *line.borrow_and_update();
            if state != Line::Open {
                met.waiting.notify_one();
            }
            let mut passing = std::pin::pin!(pass(stream, acceptor, state));
            tokio::select! {
                () = &mut passing => {}
                now = left(&mut line, state) => {
                    if now == Line::Silent {
                        // What passed is kept, and moves no more.
                        std::future::pending::<()>().await;
                    }
                }
            }
            met.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// Ends once a line that was open is not any more, saying what it is now.
async fn left(line: &mut watch::Receiver<Line>, before: Line) -> Line {
    let now = line.wait_for(|line| before == Line::Open && *line != Line::Open).await.map(|line| *line);
    now.unwrap_or(Line::Refused)
}

async fn pass(stream: TcpStream, acceptor: TlsAcceptor, state: Line) {
    match state {
        Line::Refused => {}
        Line::Silent => std::future::pending().await,
        Line::Open => {
            // A stranger's handshake fails; the client says why.
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut engine = UnixStream::connect(ENGINE).await.expect("this suite needs a Docker engine");
            let _ = copy_bidirectional(&mut stream, &mut engine).await;
        }
    }
}

fn certificates(folder: &Path) -> TlsAcceptor {
    let mut params = CertificateParams::new([]).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an issuer");
    let signed = |name: &str| {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("parameters");
        (params.signed_by(&key, &ca).expect("signed"), key)
    };
    let (server, server_key) = signed("127.0.0.1");
    let (client, client_key) = signed("tidegate");
    for (name, text) in
        [("ca.pem", ca.pem()), ("cert.pem", client.pem()), ("key.pem", client_key.serialize_pem())]
    {
        std::fs::write(folder.join(name), text).expect("written");
    }
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).expect("an issuer");
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(
            vec![server.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der())),
        )
        .expect("it goes together");
    TlsAcceptor::from(Arc::new(config))
}
