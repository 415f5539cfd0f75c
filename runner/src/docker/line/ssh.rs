//! An engine at the far end of `ssh`, which runs `docker system dial-stdio` there: its input and output are the
//! connection. Keys, known hosts and jumps are the `ssh` program's business; nothing is ever asked of a person.
//! Holds: a connection that is dropped ends its program; one that ends without a word says what `ssh` said.

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    pin::Pin,
    process::Stdio,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
};

use crate::{Error, Kind, Result};

/// How much of what `ssh` said on its standard error is kept.
const SAID: usize = 1024;
/// No questions, and a peer that is gone is noticed as fast as over TCP.
const OPTIONS: [&str; 5] =
    ["BatchMode=yes", "ConnectTimeout=5", "ServerAliveInterval=2", "ServerAliveCountMax=3", "LogLevel=ERROR"];

/// How to get there.
pub(super) struct Ssh {
    program: PathBuf,
    args: Vec<OsString>,
}

/// The `ssh` program, or the error that there is none.
pub(super) fn program() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("ssh")).find(|file| file.is_file());
    found.ok_or_else(|| {
        Error::new(
            Kind::Permanent,
            "an engine over ssh:// needs the program `ssh`, and none is in PATH: \
             install it (`apt-get install openssh-client`)",
        )
    })
}

impl Ssh {
    pub(super) fn to(user: Option<&str>, host: &str, port: Option<u16>, program: PathBuf) -> Self {
        let mut args: Vec<OsString> = vec!["-T".into()];
        args.extend(OPTIONS.iter().flat_map(|option| ["-o".into(), OsString::from(option)]));
        if let Some(user) = user {
            args.extend(["-l".into(), user.into()]);
        }
        if let Some(port) = port {
            args.extend(["-p".into(), port.to_string().into()]);
        }
        args.extend(["--", host, "docker", "system", "dial-stdio"].map(OsString::from));
        Self { program, args }
    }

    pub(super) fn open(&self) -> io::Result<Pipe> {
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("cannot run {}: {e}", self.program.display())))?;
        let lost = || io::Error::other("ssh was started without its pipes");
        Ok(Pipe {
            input: child.stdin.take(),
            output: child.stdout.take().ok_or_else(lost)?,
            errors: child.stderr.take(),
            said: Vec::new(),
            silent: true,
            _child: child,
        })
    }
}

/// A running `ssh`.
pub(super) struct Pipe {
    input: Option<ChildStdin>,
    output: ChildStdout,
    errors: Option<ChildStderr>,
    said: Vec<u8>,
    /// Whether nothing has come yet.
    silent: bool,
    /// Killed with this value.
    _child: Child,
}

impl Pipe {
    /// Takes in what `ssh` says on its standard error, so that it never blocks on it; ready once that has ended.
    fn listen(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut room = [0; 512];
        while let Some(errors) = &mut self.errors {
            let mut to = ReadBuf::new(&mut room);
            match ready!(Pin::new(errors).poll_read(cx, &mut to)) {
                Ok(()) if !to.filled().is_empty() => {
                    let more = SAID.saturating_sub(self.said.len()).min(to.filled().len());
                    self.said.extend_from_slice(&to.filled()[..more]);
                }
                _ => self.errors = None,
            }
        }
        Poll::Ready(())
    }

    fn input(&mut self) -> io::Result<Pin<&mut ChildStdin>> {
        self.input.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let ended = self.listen(cx);
        let before = to.filled().len();
        ready!(Pin::new(&mut self.output).poll_read(cx, to))?;
        if to.filled().len() > before {
            self.silent = false;
        } else if self.silent {
            ready!(ended);
            let said = String::from_utf8_lossy(&self.said).trim().replace('\n', "; ");
            let said = if said.is_empty() { "it ended without a word".to_owned() } else { said };
            return Poll::Ready(Err(io::Error::other(format!("ssh: {said}"))));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match ready!(self.input()?.poll_write(cx, bytes)) {
            // It has ended; why is for the reader to say.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe && self.silent => Poll::Ready(Ok(bytes.len())),
            outcome => Poll::Ready(outcome),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.input()?.poll_shutdown(cx))?;
        // The program sees the end of its input only once the pipe is closed.
        self.input = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What `ssh` is replaced with: this script gets its arguments.
    fn script(text: &str, to: Ssh) -> Ssh {
        let args = ["-c", text, "ssh"].map(OsString::from).into_iter().chain(to.args).collect();
        Ssh { program: "/bin/sh".into(), args }
    }

    #[tokio::test]
    async fn bytes_go_both_ways() {
        let ssh = Ssh::to(Some("root"), "10.0.0.2", Some(2222), PathBuf::new());
        let ssh = script("echo \"$@\"; exec cat", ssh);
        let mut pipe = ssh.open().expect("it runs");
        pipe.write_all(b"ping\n").await.expect("written");
        pipe.shutdown().await.expect("ended");
        let mut got = String::new();
        pipe.read_to_string(&mut got).await.expect("read");
        assert!(got.contains("BatchMode=yes"), "{got}");
        assert!(got.ends_with("-l root -p 2222 -- 10.0.0.2 docker system dial-stdio\nping\n"), "{got}");
    }

    #[tokio::test]
    async fn what_ssh_says_arrives() {
        for (text, expected) in [
            ("echo 'Permission denied (publickey).' >&2; exit 255", "ssh: Permission denied (publickey)."),
            ("exit 255", "ssh: it ended without a word"),
        ] {
            let ssh = script(text, Ssh::to(None, "host", None, PathBuf::new()));
            let mut pipe = ssh.open().expect("it runs");
            let error = pipe.read(&mut [0; 16]).await.expect_err("nobody is there");
            assert_eq!(error.to_string(), expected);
        }
        let absent = Ssh::to(None, "host", None, "/nowhere/ssh".into());
        let Err(error) = absent.open() else { panic!("there is no such program") };
        assert!(error.to_string().contains("cannot run /nowhere/ssh"), "{error}");
    }
}
