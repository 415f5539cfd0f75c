//! Administration over TCP, where the file wants it: the endpoints of the [one table](super::endpoints), each behind the
//! [guard](super::guard). HTTP/1.1, over TLS unless on loopback. No cookies, no pages; what changes something is in the log
//! with its author. Absent: certificates that change while the gateway runs.

use std::{convert::Infallible, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::{ServerConfig, sign::SingleCertAndKey};
use serde_json::json;
use tidegate_config::model::{self, Role, Secret};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::{
    Admin, audit, endpoints,
    guard::{self, Denial, Failures},
};
use crate::{clock, tls};

/// Connections at once; people and scripts need few.
const CONNECTIONS: usize = 64;

/// For a handshake, and for the head of a question.
const PATIENCE: Duration = Duration::from_secs(10);

/// The listener, bound but not served yet.
pub(super) struct Remote {
    listener: tokio::net::TcpListener,
    tls: Option<TlsAcceptor>,
}

/// What guards the endpoints.
#[derive(Clone)]
struct Guard {
    admin: Admin,
    failures: Arc<Mutex<Failures>>,
}

/// The connection's other end.
#[derive(Clone, Copy)]
struct Peer(SocketAddr);

impl Remote {
    pub(super) async fn bind(settings: &model::Admin) -> io::Result<Self> {
        let tls = match &settings.tls {
            Some((cert, key)) => Some(acceptor(cert, key)?),
            None => None,
        };
        Ok(Self { listener: tokio::net::TcpListener::bind(settings.listen).await?, tls })
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Serves until `stop`, then finishes what is being answered.
    pub(super) async fn serve(self, admin: Admin, stop: CancellationToken) {
        let Self { listener, tls } = self;
        let router = routes(admin);
        let (slots, mut tasks) = (Arc::new(Semaphore::new(CONNECTIONS)), JoinSet::new());
        loop {
            // Cancel-safe: a connection is accepted and handed to a task of its own in one step.
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = tasks.join_next() => continue,
                () = stop.cancelled() => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
            let (router, tls, stop) = (router.clone(), tls.clone(), stop.clone());
            tasks.spawn(async move {
                talk(stream, peer, tls, router, stop).await;
                drop(slot);
            });
        }
        tasks.join_all().await;
    }
}

fn acceptor(cert: &Path, key: &Path) -> io::Result<TlsAcceptor> {
    let about = |error: &dyn std::fmt::Display| io::Error::other(format!("gateway.admin: {error}"));
    let pair = tls::read_pair(cert, key).map_err(|trouble| about(&trouble))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| about(&error))?.with_no_client_auth();
    let config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn talk(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: CancellationToken,
) {
    let Some(tls) = tls else { return answer(stream, peer, router, stop).await };
    match tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
        Ok(Ok(stream)) => answer(stream, peer, router, stop).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS on the admin address"),
        Err(_) => tracing::debug!(%peer, "no TLS on the admin address in time"),
    }
}

async fn answer<S>(stream: S, peer: SocketAddr, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let mut router = router.clone();
        async move { router.call(request.map(Body::new)).await }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection to the admin address ended");
    }
}

/// Every endpoint behind the guard, and what is none as well: who is not known does not learn what there is.
fn routes(admin: Admin) -> Router {
    let guard = Guard { admin: admin.clone(), failures: Arc::default() };
    let behind = |role: Role, route: MethodRouter<Admin>| {
        route.layer(middleware::from_fn_with_state((guard.clone(), role), check))
    };
    let nothing = behind(Role::Read, axum::routing::any(nothing));
    endpoints::routes(behind)
        .fallback_service(nothing.with_state(admin.clone()))
        .layer(middleware::map_response(seal))
        .with_state(admin)
}

async fn nothing() -> Response {
    super::socket::Failure(http::StatusCode::NOT_FOUND, "there is nothing here".into()).into_response()
}

async fn check(State((guard, role)): State<(Guard, Role)>, request: Request, next: Next) -> Response {
    let Some(Peer(peer)) = request.extensions().get().copied() else {
        return denied(Denial::Nobody);
    };
    match guard.identify(request.headers().clone(), peer, role).await {
        Ok(who) => audit::record(&format!("token {who}"), Some(peer), request, next).await,
        Err(denial) => {
            tracing::info!(target: audit::TARGET, %peer, why = %denial.words(), "denied");
            denied(denial)
        }
    }
}

impl Guard {
    /// Who asks, if they may.
    async fn identify(&self, fields: HeaderMap, peer: SocketAddr, role: Role) -> Result<String, Denial> {
        let (from, now) = (peer.ip().to_canonical(), clock::now());
        if self.failures.lock().too_many(from, now) {
            return Err(Denial::TooMany);
        }
        let settings = self.admin.running.door.settings.load_full();
        // Without its table after a reload: nobody may.
        let settings = settings.admin.as_ref().ok_or(Denial::Stranger)?;
        guard::check_place(&fields, &settings.names)?;
        let mut known = Vec::with_capacity(settings.tokens.len());
        for token in &settings.tokens {
            known.push((&*token.name, token.role, hash(&token.secret).await));
        }
        let found = guard::identify(&fields, &known);
        if found == Err(Denial::Stranger) {
            self.failures.lock().note(from, now);
        }
        let (who, has) = found?;
        if has < role { Err(Denial::Role(role)) } else { Ok(who.to_owned()) }
    }
}

async fn hash(secret: &Secret) -> Option<[u8; 32]> {
    match secret {
        Secret::Sha256(hash) => Some(*hash),
        Secret::File(file) => match tokio::fs::read(file).await {
            Ok(contents) => guard::hash_of_file(&contents),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "cannot read an admin token");
                None
            }
        },
    }
}

fn denied(denial: Denial) -> Response {
    let mut response = (denial.status(), Json(json!({ "error": denial.words() }))).into_response();
    if denial.status() == http::StatusCode::UNAUTHORIZED {
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tidegate\""));
    }
    response
}

/// Whatever is answered is nobody's page, and is not kept.
async fn seal(mut response: Response) -> Result<Response, Infallible> {
    let sealed: [(HeaderName, &'static str); 3] = [
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ];
    for (name, value) in sealed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}
