//! The gateway's side of shims: it starts them, watches them, finds those of an earlier gateway and runs commands through
//! them. Holds: every call has a deadline; a shim is told from a later process with the same number.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, Interest, unix::AsyncFd},
    process::{Child, Command},
};

use super::{
    ShimProgram,
    shim::{Answer, Blame},
    task::{self, Folder, Run},
};
use crate::{Error, Executed, Kind, Result};

mod pidfd;
mod program;

pub(crate) use pidfd::started;
use program::sealed;

/// What a shim is called in lists of processes.
pub(super) const NAME: &str = "tidegate-shim";
/// How long a shim may take to say that its replica runs.
const START: Duration = Duration::from_secs(60);
/// More than a shim ever answers.
const LONGEST_ANSWER: u64 = 64 * 1024;
/// How much of what a command prints is kept.
const KEPT: usize = 4096;

/// What starts shims.
#[derive(Debug)]
pub(crate) struct Shims {
    /// The program, in memory: a replica that breaks out of its walls finds nothing of the host's to write to.
    program: OwnedFd,
    args: Vec<OsString>,
}

/// A replica's processes that live.
#[derive(Debug)]
pub(crate) struct Running {
    /// Which they are.
    pub run: Run,
    shim: OwnedFd,
    init: Option<OwnedFd>,
}

impl Shims {
    /// Copies the program into memory, once for all shims.
    pub(crate) fn new(program: &ShimProgram) -> Result<Self> {
        let sealed = sealed(&program.path).map_err(|error| {
            let words = format!(
                "the program that runs replicas, {}, cannot be copied into memory",
                program.path.display()
            );
            Error::because(Kind::Permanent, format!("{words}: {error}"), error)
        })?;
        Ok(Self { program: sealed, args: program.args.clone() })
    }

    /// Starts the replica whose task is in this folder. Ends when its process runs, or could not be run, which the
    /// folder's `exit.json` then says.
    pub(crate) async fn start(&self, folder: &Folder) -> Result<Running> {
        let complaints = std::fs::File::options().create(true).append(true).open(folder.complaints());
        let complaints = complaints.map_err(|error| failed(folder, "its complaints have no place", error))?;
        let mut command = self.command([OsStr::new("start"), folder.path().as_os_str()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(complaints);
        let mut child = command.spawn().map_err(|error| failed(folder, "it cannot be started", error))?;
        match tokio::time::timeout(START, answer(&mut child)).await {
            Ok(Ok(Answer::Runs)) => {
                started_now(folder).map_err(|error| failed(folder, "run.json cannot be read", error))
            }
            Ok(Ok(Answer::Failed { blame, message })) => Err(Error::new(kind(blame), message)),
            Ok(Err(error)) => Err(failed(folder, "it ended without a word", error)),
            Err(_) => {
                // Its replica's first process dies with it.
                drop(child.start_kill());
                let words = format!("the shim did not get ready within {} s", START.as_secs());
                Err(failed(folder, &words, io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// Runs a command in a replica that runs.
    pub(crate) async fn exec(
        &self,
        folder: &Folder,
        command: &[String],
        timeout: Duration,
    ) -> Result<Executed> {
        let mut words = vec![OsStr::new("exec"), folder.path().as_os_str(), OsStr::new("--")];
        words.extend(command.iter().map(OsStr::new));
        let failed = |error| failed(folder, "a command cannot be run in it", error);
        let (reader, writer) = io::pipe().map_err(failed)?;
        let both = writer.try_clone().map_err(failed)?;
        let mut command = self.command(words);
        command.stdin(Stdio::null()).stdout(writer).stderr(both).kill_on_drop(true);
        let mut child = command.spawn().map_err(failed)?;
        // It holds the ends that are written to.
        drop(command);
        let reader = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into()).map_err(failed)?;
        let ended = tokio::time::timeout(timeout, async {
            let output = beginning(reader).await?;
            Ok::<_, io::Error>((output, child.wait().await?))
        });
        let Ok(ended) = ended.await else {
            let words = format!("the command did not end within {} s", timeout.as_secs_f64());
            return Err(Error::new(Kind::Retryable, words));
        };
        let (output, status) = ended.map_err(failed)?;
        let output = String::from_utf8_lossy(&output).into_owned();
        Ok(Executed { code: code(status), output })
    }

    fn command<'a>(&self, words: impl IntoIterator<Item = &'a OsStr>) -> Command {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.program.as_raw_fd()));
        command.arg0(NAME).args(&self.args).args(words).env_clear().current_dir("/");
        // A huge page each for a process that needs half a megabyte: the allocator does without, and the replica's
        // own program gets them back.
        command.env("MIMALLOC_ALLOW_THP", "0");
        command
    }
}

impl Running {
    /// Ends when the shim does.
    pub(crate) async fn ended(&self) -> io::Result<()> {
        // A descriptor of its own: several may wait at once.
        let shim = registered(self.shim.try_clone()?)?;
        shim.readable().await.map(drop)
    }

    /// Sends a signal to the replica's first process, which passes it on.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        match &self.init {
            Some(init) => pidfd::send(init.as_fd(), signal),
            None => Ok(()),
        }
    }

    /// Ends the shim, and with it its replica.
    #[cfg(feature = "test-util")]
    pub(crate) fn kill(&self) -> io::Result<()> {
        pidfd::send(self.shim.as_fd(), libc::SIGKILL)
    }

    /// The replica's first process, as this machine counts.
    #[cfg(feature = "test-util")]
    pub(crate) fn pid(&self) -> i32 {
        self.run.init.pid
    }
}

#[expect(unsafe_code, reason = "registered by its number")]
fn registered(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: it is owned by what is returned, and closed after it is deregistered.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// The processes of a replica that was started earlier, by whom ever, if they live.
pub(crate) fn find(run: Run) -> io::Result<Option<Running>> {
    let Some(shim) = pidfd::open(run.shim)? else { return Ok(None) };
    let init = pidfd::open(run.init)?;
    Ok(Some(Running { run, shim, init }))
}

/// The processes of a replica that was started just now. It may have been so short that nothing lives any more, and
/// everything is in the folder.
fn started_now(folder: &Folder) -> io::Result<Running> {
    let run: Run = task::read(&folder.run())?.ok_or(io::ErrorKind::NotFound)?;
    match find(run.clone())? {
        Some(running) => Ok(running),
        None => Ok(Running { run, shim: pidfd::ended()?, init: None }),
    }
}

/// What a shim answers.
async fn answer(child: &mut Child) -> io::Result<Answer> {
    let mut text = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(LONGEST_ANSWER).read_to_end(&mut text).await?;
    }
    if text.is_empty() {
        let status = child.wait().await?;
        return Err(io::Error::other(format!("{status}")));
    }
    Ok(serde_json::from_slice(&text)?)
}

/// The first of what comes; the rest is read as well, so that nobody waits for it to be.
async fn beginning(mut reader: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let (mut kept, mut buffer) = (Vec::new(), [0; KEPT]);
    loop {
        let read = reader.read(&mut buffer).await?;
        if read == 0 {
            return Ok(kept);
        }
        let room = KEPT - kept.len();
        kept.extend_from_slice(&buffer[..read.min(room)]);
    }
}

fn code(status: std::process::ExitStatus) -> i64 {
    use std::os::unix::process::ExitStatusExt;
    let signal = status.signal().map(|signal| 128 + signal);
    status.code().or(signal).unwrap_or(255).into()
}

fn kind(blame: Blame) -> Kind {
    match blame {
        Blame::Permanent => Kind::Permanent,
        Blame::Retryable => Kind::Retryable,
    }
}

fn failed(folder: &Folder, what: &str, error: io::Error) -> Error {
    let words =
        format!("the shim in {}: {what}: {error}; shim.err there may say more", folder.path().display());
    Error::because(Kind::Retryable, words, error)
}
