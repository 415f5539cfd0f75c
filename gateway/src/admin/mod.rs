//! The admin API: everything that changes or shows logs and causes is on a Unix socket (mode 0600), and over TCP for those
//! with a token, if the file wants that; TCP on loopback serves metrics and probes alone. Over TCP `Host` is checked, against
//! DNS rebinding.

mod audit;
pub mod endpoints;
mod guard;
mod hosts;
pub mod logs;
mod remote;
pub(crate) mod requests;
mod running;
mod socket;
mod tcp;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use metrics_exporter_prometheus::PrometheusHandle;
use tidegate_config::model;
use tokio_util::sync::CancellationToken;

use self::remote::Remote;
pub use self::running::Running;
use crate::control;

/// How long answers that are under way may take once the gateway stops.
const LINGER: Duration = Duration::from_secs(1);

/// What the handlers need.
#[derive(Clone)]
pub struct Admin {
    /// The control loop.
    pub control: control::Handle,
    /// What is in use.
    pub running: Running,
    /// Renders `/metrics`.
    pub metrics: PrometheusHandle,
    /// Whether requests are served as they should be.
    pub ready: Arc<Ready>,
}

/// Whether the gateway is ready; false before everything was looked at, and once it stops.
#[derive(Debug, Default)]
pub struct Ready(AtomicBool);

impl Ready {
    /// From now on, `ready`.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    /// Whether it is.
    #[must_use]
    pub fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The listeners, bound but not served yet.
pub struct Listeners {
    unix: tokio::net::UnixListener,
    path: PathBuf,
    tcp: Option<tokio::net::TcpListener>,
    remote: Option<Remote>,
}

/// An admin address that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The Unix socket.
    #[error("cannot listen on {path}: {source}")]
    Unix {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The TCP address.
    #[error(
        "cannot serve metrics on {address}: {source}; set another address with gateway.metrics, or \"off\""
    )]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The address of administration over TCP, or its certificate.
    #[error("cannot serve gateway.admin on {address}: {source}")]
    Remote {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl Listeners {
    /// Binds them. The socket's file is replaced: the state directory's lock says that nobody else uses it.
    ///
    /// # Errors
    /// The one that cannot be had.
    pub async fn bind(
        path: &Path,
        tcp: Option<SocketAddr>,
        remote: Option<&model::Admin>,
    ) -> Result<Self, BindError> {
        let unix = bind_unix(path).map_err(|source| BindError::Unix { path: path.to_owned(), source })?;
        let tcp = match tcp {
            Some(address) => Some(
                tokio::net::TcpListener::bind(address)
                    .await
                    .map_err(|source| BindError::Tcp { address, source })?,
            ),
            None => None,
        };
        let remote = match remote {
            Some(settings) => {
                let address = settings.listen;
                let bound = Remote::bind(settings).await;
                Some(bound.map_err(|source| BindError::Remote { address, source })?)
            }
            None => None,
        };
        Ok(Self { unix, path: path.to_owned(), tcp, remote })
    }

    /// Where metrics are served, with the port that 0 turned into.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }

    /// Where those with a token ask.
    #[must_use]
    pub fn remote_address(&self) -> Option<SocketAddr> {
        self.remote.as_ref().and_then(Remote::address)
    }

    /// Serves them until `stop`; those who follow a log then are cut off after [`LINGER`].
    pub async fn serve(self, admin: Admin, stop: CancellationToken) {
        let late = async {
            stop.cancelled().await;
            tokio::time::sleep(LINGER).await;
        };
        let unix = axum::serve(self.unix, socket::routes(admin.clone()))
            .with_graceful_shutdown(stop.clone().cancelled_owned())
            .into_future();
        let remote = {
            let (admin, stop) = (admin.clone(), stop.clone());
            async {
                if let Some(remote) = self.remote {
                    remote.serve(admin, stop).await;
                }
            }
        };
        let tcp = async {
            match self.tcp {
                Some(listener) => {
                    axum::serve(listener, tcp::routes(admin))
                        .with_graceful_shutdown(stop.clone().cancelled_owned())
                        .await
                }
                None => Ok(()),
            }
        };
        let all = async { tokio::join!(unix, tcp, remote) };
        tokio::select! {
            ended = all => {
                if let (Err(error), ..) | (_, Err(error), _) = ended {
                    tracing::error!(%error, "the admin API ended");
                }
            }
            () = late => {}
        }
        // The file would only make the next `tidegate ps` ask where nobody answers.
        drop(std::fs::remove_file(&self.path));
    }
}

fn bind_unix(path: &Path) -> io::Result<tokio::net::UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = tokio::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
