//! The new gateway's side of a handover: it asks, is given the lock and the sockets, and says when it serves.

use std::{io, net::TcpListener, path::Path, time::Duration};

use super::{
    channel::Channel,
    wire::{Answer, Hello, PROTOCOL, Serving, Wish},
};
use crate::{
    app::App,
    control::{
        Ended,
        peers::{Known, Said},
    },
    sockets::{By, Passed},
};

/// How long the running gateway may take to stand still.
const HANDED_WITHIN: Duration = Duration::from_secs(20);

/// How long it may take to hear that we serve.
const YIELDED_WITHIN: Duration = Duration::from_secs(10);

/// How long what runs may take to be found and probed; after that, what is known is enough if any engine answers.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);

/// A handover that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The running gateway said no.
    #[error("the running gateway does not hand over: {0}")]
    Refused(String),
    /// It goes on itself.
    #[error("the running gateway (process {0}) has taken everything back")]
    TakenBack(i32),
    /// The conversation broke.
    #[error("the handover broke off: {0}")]
    Broke(#[from] io::Error),
    /// Nothing is known of what runs.
    #[error("no engine answers, so nothing is known of what runs; the running gateway goes on")]
    Blind,
    /// Our own loop.
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// What was taken over, and the connection to the one that it was taken from.
#[derive(Debug)]
pub struct Taken {
    channel: Channel,
    /// The file that the other one served, see [`Handed`](super::wire::Handed).
    pub fingerprint: String,
    passed: Vec<Passed>,
    /// The other one's generation, by which it is known when it follows.
    generation: u64,
    other: Option<i32>,
}

/// Asks the gateway that answers on `path` for everything; `None` if none does.
///
/// # Errors
/// When it refuses, or does not answer.
pub async fn take_over(path: &Path, fingerprint: String) -> Result<Option<Taken>, Error> {
    let mut channel = match Channel::connect(path).await {
        Ok(channel) => channel,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let (_, other) = channel.peer()?;
    let hello = Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        wish: Wish::TakeOver { fingerprint },
    };
    channel.writer.send(&hello).await?;
    let answer = tokio::time::timeout(HANDED_WITHIN, channel.reader.receive::<Answer>()).await;
    let answer = answer.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer"))??;
    let handed = match answer {
        Some(Answer::Handed(handed)) => handed,
        Some(Answer::Refused { why }) => return Err(Error::Refused(why)),
        Some(Answer::Yielded) | None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    };
    let sockets = channel.reader.take_fds().into_iter().map(TcpListener::from).zip(handed.sockets);
    let passed = sockets.map(|(listener, socket)| Passed {
        name: socket.name,
        configured: Some(socket.configured),
        listener,
        by: By::Gateway,
    });
    let passed = passed.collect();
    Ok(Some(Taken { channel, fingerprint: handed.fingerprint, passed, generation: handed.generation, other }))
}

impl Taken {
    /// The listening sockets.
    pub fn sockets(&mut self) -> Vec<Passed> {
        std::mem::take(&mut self.passed)
    }

    /// Waits until what runs is known, then serves, then hears that the other one has yielded. If the other one has died
    /// meanwhile there is nobody else, and we serve; if it lives and has closed the connection, it serves.
    ///
    /// # Errors
    /// Why this process is not the gateway. The other one is, and this one must end.
    pub async fn serve(mut self, app: &App) -> Result<(), Error> {
        app.control().peer(Said::Expected(self.generation)).await?;
        let known = tokio::select! {
            known = known(app) => known?,
            // Nothing is to come yet: it has ended.
            answer = self.channel.reader.receive::<Answer>() => return self.alone(app, answer),
        };
        if known == Known::Nothing {
            return Err(Error::Blind);
        }
        app.open();
        let said = self.channel.writer.send(&Serving { generation: app.generation() }).await;
        let answer = match said {
            Ok(()) => tokio::time::timeout(YIELDED_WITHIN, self.channel.reader.receive::<Answer>()).await,
            Err(error) => Ok(Err(error)),
        };
        match answer {
            Ok(Ok(Some(Answer::Yielded))) => Ok(()),
            Ok(answer) => self.alone(app, answer),
            Err(_) => self.alone(app, Ok(None)),
        }
    }

    fn alone(&self, app: &App, answer: io::Result<Option<Answer>>) -> Result<(), Error> {
        tracing::warn!(?answer, "the other gateway does not hand over to its end");
        match self.other.filter(|pid| is_alive(*pid)) {
            Some(pid) => Err(Error::TakenBack(pid)),
            None => {
                app.open();
                Ok(())
            }
        }
    }
}

async fn known(app: &App) -> Result<Known, Ended> {
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    let all = async {
        loop {
            looks.tick().await;
            if app.control().known().await? == Known::All {
                return Ok(Known::All);
            }
        }
    };
    match tokio::time::timeout(KNOWN_WITHIN, all).await {
        Ok(known) => known,
        Err(_) => app.control().known().await,
    }
}

/// Whether a process runs. One that has ended and was not waited for yet does not.
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_alive() {
        assert!(is_alive(i32::try_from(std::process::id()).expect("a process's number")));
        assert!(!is_alive(i32::MAX));
    }
}
