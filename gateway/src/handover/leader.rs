//! `handover.sock`: where the gateway that holds the lock answers others of its installation. Followers are connected
//! with the control loop; whoever wants to take over is passed on to the composition root.
//! Holds: only the same user (or root) is answered, and only in the same protocol.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    channel::Channel,
    wire::{Answer, Demands, Hello, PROTOCOL, ReadySet, Wish},
};
use crate::control::{
    self,
    peers::{LinkId, Said},
};

/// How long a connection may take to its first message.
const HELLO_WITHIN: Duration = Duration::from_secs(5);

/// After a failed accept nothing is accepted for this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where others are answered.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

/// Somebody wants to take over.
#[derive(Debug)]
pub struct Request {
    pub(super) channel: Channel,
    pub(super) fingerprint: String,
    /// Its version, for people.
    pub version: String,
    /// Its process.
    pub pid: u32,
}

impl Server {
    /// Binds the socket, mode 0600. Its file is replaced: the state directory's lock says that nobody else uses it.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned() })
    }
}

/// What every connection needs.
struct Shared {
    control: control::Handle,
    requests: mpsc::Sender<Request>,
    stop: CancellationToken,
}

/// Answers until `stop`; the socket's file goes with it.
pub(crate) async fn serve(
    server: Server,
    control: control::Handle,
    requests: mpsc::Sender<Request>,
    stop: CancellationToken,
) {
    let shared = Arc::new(Shared { control, requests, stop });
    let (mut connections, mut number) = (JoinSet::new(), 0);
    loop {
        // Cancel-safe: a connection is accepted and handed to a task of its own in one step.
        tokio::select! {
            () = shared.stop.cancelled() => break,
            accepted = server.listener.accept() => match accepted {
                Ok((stream, _)) => {
                    number += 1;
                    connections.spawn(answer(Arc::clone(&shared), stream, number));
                }
                Err(error) => {
                    tracing::warn!(%error, "handover socket");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(server.listener);
    // The next leader binds its own at the same place.
    drop(std::fs::remove_file(&server.path));
    connections.join_all().await;
}

async fn answer(shared: Arc<Shared>, stream: UnixStream, number: u64) {
    let mut channel = Channel::new(stream);
    let hello = tokio::select! {
        () = shared.stop.cancelled() => return,
        hello = tokio::time::timeout(HELLO_WITHIN, channel.reader.receive::<Hello>()) => hello,
    };
    let Ok(Ok(Some(hello))) = hello else { return };
    if let Some(why) = objection(&channel, &hello) {
        tracing::warn!(pid = hello.pid, version = hello.version, %why, "another gateway was refused");
        // It may have gone already.
        drop(channel.writer.send(&Answer::Refused { why }).await);
        return;
    }
    match hello.wish {
        Wish::Follow { generation } => {
            let link = LinkId { generation, number };
            if let Err(error) = lead(&shared, channel, link).await {
                tracing::debug!(%error, "a follower has gone");
            }
            // A loop that has ended counts nobody any more.
            let _ = shared.control.peer(Said::Left(link)).await;
        }
        Wish::TakeOver { fingerprint } => {
            let request = Request { channel, fingerprint, version: hello.version, pid: hello.pid };
            if let Err(
                mpsc::error::TrySendError::Full(request) | mpsc::error::TrySendError::Closed(request),
            ) = shared.requests.try_send(request)
            {
                let why = "another handover is under way, or the gateway is stopping".into();
                drop(request.channel.writer.send(&Answer::Refused { why }).await);
            }
        }
    }
}

fn objection(channel: &Channel, hello: &Hello) -> Option<String> {
    let own = nix::unistd::geteuid().as_raw();
    match channel.peer() {
        Err(error) => return Some(format!("its user cannot be told: {error}")),
        Ok((uid, _)) if uid != own && uid != 0 => {
            return Some(format!("it runs as user {uid}, this gateway as {own}"));
        }
        Ok(_) => {}
    }
    (hello.protocol != PROTOCOL).then(|| {
        let (theirs, ours) = (hello.protocol, PROTOCOL);
        let version = &hello.version;
        format!("version {version} speaks handover protocol {theirs}, this gateway {ours}; stop it and start the other one")
    })
}

/// Carries ready sets down and demands up.
async fn lead(shared: &Shared, channel: Channel, link: LinkId) -> io::Result<()> {
    let Channel { mut reader, writer } = channel;
    let (to, mut sets) = watch::channel(ReadySet::default());
    let ended = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    shared.control.peer(Said::Joined(link, to)).await.map_err(ended)?;
    loop {
        // Cancel-safe: a message that is not whole yet stays with the reader, a set that was not sent stays changed.
        tokio::select! {
            () = shared.stop.cancelled() => return Ok(()),
            changed = sets.changed() => {
                changed.map_err(|_| io::ErrorKind::BrokenPipe)?;
                let set = sets.borrow_and_update().clone();
                writer.send(&set).await?;
            }
            told = reader.receive::<Demands>() => {
                let told = told?.ok_or(io::ErrorKind::UnexpectedEof)?;
                shared.control.peer(Said::Told(link, told)).await.map_err(ended)?;
            }
        }
    }
}
