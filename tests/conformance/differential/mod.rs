//! What real origins see of the HTTP/1.1 corpus: nginx, Apache httpd, Node and gunicorn frame requests each in their own way,
//! and behind the gateway none of them may see anything but what the corpus says, in the same order. A request that one of
//! them refuses by itself is fine; one more, or another body, is not. The gateway's own log is held to the same.

mod logged;
mod origins;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use e2e::{
    corpus::{self, Act, Case, GATEWAY, Message, play::play},
    process::Gateway,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use self::origins::{Kind, Noted, Origin};
use crate::{Tally, file};

/// Behind this target stands a case's number; asked for between cases, of whoever notes them.
const MARK: &str = "/-/case/";

const PROBE: &str = "/-/probe";

/// Bodies that nginx keeps in memory, and so can note.
const LARGEST: usize = 256 << 10;

/// Plays the corpus to each kind of origin.
pub(crate) async fn run() -> anyhow::Result<Tally> {
    let cases = corpus::load().map_err(|why| anyhow!(why))?;
    let cases: Vec<Case> = cases.into_iter().filter(fits).collect();
    let folder = std::env::var_os("WORK").map(PathBuf::from).context("WORK names no folder")?;
    let log = folder.join("access.log");
    let wanted = reference(&cases, &log).await?;
    let mut tally = Tally::default();
    let lines = logged::by_case(&log)?;
    for (number, (case, wanted)) in cases.iter().zip(&wanted).enumerate() {
        let lines = lines.get(&number).context("a case that was not logged")?;
        note(&mut tally, case, "in the log", logged::difference(wanted, lines));
    }
    println!("  the log: {} cases", cases.len());
    for kind in Kind::ALL {
        let origin = Origin::start(kind, &folder).await?;
        let seen = behind(&cases, &origin).await.with_context(|| kind.name())?;
        let mut taken = 0;
        for ((case, wanted), seen) in cases.iter().zip(&wanted).zip(&seen) {
            taken += usize::from(!seen.is_empty());
            note(&mut tally, case, kind.name(), difference(wanted, seen));
        }
        println!("  {}: {} cases, of which it saw requests in {taken}", kind.name(), cases.len());
    }
    Ok(tally)
}

fn note(tally: &mut Tally, case: &Case, whose: &str, difference: Option<String>) {
    tally.cases += 1;
    if let Some(difference) = difference {
        tally.failed += 1;
        println!("{}", corpus::judge::report(case, &[format!("{whose}: {difference}")]));
    }
}

/// Whether a case can be played to an origin that does as it likes.
fn fits(case: &Case) -> bool {
    let sent: usize =
        case.client.iter().map(|act| if let Act::Send(bytes) = act { bytes.len() } else { 0 }).sum();
    let waits = |act: &Act| matches!(act, Act::AwaitOrigin | Act::Reset);
    case.origin.is_empty() && sent < LARGEST && !case.client.iter().any(waits)
}

/// What the origin of the corpus sees of each case, while the gateway logs.
async fn reference(cases: &[Case], log: &Path) -> anyhow::Result<Vec<Vec<Message>>> {
    let origin = corpus::origin::Origin::default();
    let (address, listening) = origin.listen().await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(listening);
    let log = log.display();
    let settings = format!("[gateway.access_log]\nto = \"{log}\"\nredact_query = false\n{GATEWAY}");
    let file = file(&settings, address)?;
    let gateway = Gateway::start(file.path()).await.context("the gateway")?;
    let mut views = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        mark(gateway.address(), number).await?;
        views.push(play(case, gateway.address(), &origin).await.views);
    }
    gateway.stop().await?;
    Ok(views)
}

/// What this origin notes of each case.
async fn behind(cases: &[Case], origin: &Origin) -> anyhow::Result<Vec<Vec<Noted>>> {
    let file = file(GATEWAY, origin.address)?;
    let gateway = Gateway::start(file.path()).await.context("the gateway")?;
    // Nobody is asked what to do; it only has to be there.
    let nobody = corpus::origin::Origin::default();
    for (number, case) in cases.iter().enumerate() {
        mark(origin.address, number).await?;
        play(case, gateway.address(), &nobody).await;
    }
    mark(origin.address, cases.len()).await?;
    gateway.stop().await?;
    let mut seen = vec![Vec::new(); cases.len() + 1];
    let mut current = None;
    for noted in origin.noted()? {
        if let Some(number) = noted.target.strip_prefix(MARK) {
            current = Some(number.parse::<usize>()?);
        } else if noted.target != PROBE {
            seen[current.context("a request before any case")?].push(noted);
        }
    }
    anyhow::ensure!(current == Some(cases.len()), "the last mark was not noted, but {current:?}");
    Ok(seen)
}

/// Asks for a case's mark, for a host that is nobody's.
async fn mark(to: SocketAddr, number: usize) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    let request = format!("GET {MARK}{number} HTTP/1.1\r\nHost: mark\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

/// Whatever the origin saw that the corpus does not say.
fn difference(wanted: &[Message], seen: &[Noted]) -> Option<String> {
    let mut left = wanted.iter();
    for noted in seen {
        if !left.any(|wanted| is_same(wanted, noted)) {
            let wanted: Vec<_> = wanted.iter().map(|wanted| (&wanted.line, wanted.body.len())).collect();
            return Some(format!("saw {noted:?}, expected of {wanted:?}"));
        }
    }
    None
}

fn is_same(wanted: &Message, noted: &Noted) -> bool {
    let first = |name| wanted.all(name).first().map_or("", |value| *value).to_owned();
    let line = format!("{} {}", noted.method, noted.target);
    let body: Vec<u8> = noted.body.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect();
    // What breaks off is for the origin to cope with; most never tell their applications.
    line == wanted.line
        && noted.host == first("host")
        && noted.forwarded == first("x-forwarded-for")
        && noted.hop == first("x-hop")
        && (body == wanted.body || !wanted.whole)
}
