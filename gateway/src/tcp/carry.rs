//! Carries bytes between a client and a replica, each direction for itself: the end of one is passed on and the other goes
//! on. A connection on which nothing moves holds no buffer. Absent: connecting, accounts.

use std::{cell::RefCell, io, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::Notify,
};

use super::account::Flow;

/// Read at once.
const BUFFER: usize = 64 << 10;

/// How long a connection may stand still whose replica has finished: a client that does not close its end would otherwise
/// keep the service awake. The kernel's own patience is as long.
const FINISHED: Duration = Duration::from_secs(60);

/// How often in the time of `idle_timeout` it is looked whether anything has moved.
const LOOKS: u32 = 4;

thread_local! {
    /// Bytes stay here between a read and the write after it, which mostly takes them all at once.
    static PASSING: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// Both ends have closed.
    Closed,
    /// Nothing moved for too long.
    Idle,
    /// The gateway or the replica goes.
    Cut,
    /// One end broke off.
    Broke(io::Error),
}

impl End {
    /// A word for metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Idle => "idle",
            Self::Cut => "cut",
            Self::Broke(_) => "broke",
        }
    }
}

/// Carries bytes both ways until both ends have closed, one breaks, nothing moves for `idle`, or `told`.
pub(super) async fn carry(
    client: &mut TcpStream,
    replica: &mut TcpStream,
    flow: &Flow,
    idle: Option<Duration>,
    told: impl Future<Output = ()>,
) -> End {
    let end = {
        let ((client_reads, client_writes), (replica_reads, replica_writes)) =
            (client.split(), replica.split());
        let up = one_way(client_reads, replica_writes, |bytes| flow.up(bytes));
        let finished = Notify::new();
        let down = async {
            one_way(replica_reads, client_writes, |bytes| flow.down(bytes)).await?;
            finished.notify_one();
            io::Result::Ok(())
        };
        let late = async {
            finished.notified().await;
            stillness(flow, Some(FINISHED)).await;
        };
        tokio::select! {
            ended = async { tokio::try_join!(up, down) } => ended.map_or_else(End::Broke, |_| End::Closed),
            () = stillness(flow, idle) => End::Idle,
            () = late => End::Idle,
            () = told => End::Cut,
        }
    };
    if let End::Broke(_) = end {
        // What broke off at one end must not look whole at the other. One that has gone already has no option to set.
        let _ = client.set_zero_linger().and_then(|()| replica.set_zero_linger());
    }
    end
}

/// Carries bytes one way and passes their end on.
async fn one_way(from: ReadHalf<'_>, mut to: WriteHalf<'_>, count: impl Fn(usize)) -> io::Result<()> {
    loop {
        from.readable().await?;
        let Some(passed) = pass(&from, &to)? else { continue };
        count(passed.read);
        match passed.rest {
            _ if passed.read == 0 => return to.shutdown().await,
            Some(rest) => to.write_all(&rest).await?,
            None => {}
        }
        // Two fast ends must not keep a thread for themselves.
        tokio::task::consume_budget().await;
    }
}

/// What was read, and what could not be written at once.
struct Passed {
    read: usize,
    rest: Option<Vec<u8>>,
}

/// Reads what is there and writes what fits; `None` if nothing was there.
fn pass(from: &ReadHalf<'_>, to: &WriteHalf<'_>) -> io::Result<Option<Passed>> {
    let would_block = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
    PASSING.with_borrow_mut(|buffer| {
        let read = match from.try_read(buffer) {
            Ok(0) => return Ok(Some(Passed { read: 0, rest: None })),
            Ok(read) => read,
            Err(error) if would_block(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let written = match to.try_write(&buffer[..read]) {
            Ok(written) => written,
            Err(error) if would_block(&error) => 0,
            Err(error) => return Err(error),
        };
        let rest = (written < read).then(|| buffer[written..read].to_vec());
        Ok(Some(Passed { read, rest }))
    })
}

/// Ends when nothing has moved in either direction for that long.
async fn stillness(flow: &Flow, idle: Option<Duration>) {
    let Some(idle) = idle else { return std::future::pending().await };
    let (mut before, mut still) = (flow.sums(), 0);
    while still < LOOKS {
        tokio::time::sleep(idle / LOOKS).await;
        let now = flow.sums();
        still = if now == before { still + 1 } else { 0 };
        before = now;
    }
}
