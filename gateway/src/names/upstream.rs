//! The machine's own nameservers: which they are, read again when resolv.conf changes, and asking them with the query as
//! it came. Called by the resolver for everything that is no service. Absent: caches, recursion, our own answers.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// How long one nameserver may take; all of them together less than the 5 s that clients wait.
const PATIENCE: Duration = Duration::from_millis(1500);

/// As many as the C library asks.
const MOST: usize = 3;

/// Where nameservers answer.
const PORT: u16 = 53;

/// Who is asked.
#[derive(Debug)]
pub enum Upstreams {
    /// The nameservers of a file like /etc/resolv.conf.
    File(Followed),
    /// These.
    Fixed(Vec<SocketAddr>),
}

/// A file and what it said when it was last looked at.
#[derive(Debug)]
pub struct Followed {
    path: PathBuf,
    read: Mutex<(Option<Stamp>, Vec<SocketAddr>)>,
}

/// What changes with a file's content.
type Stamp = (SystemTime, u64);

/// How a query came, and goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Udp,
    Tcp,
}

impl Upstreams {
    /// The nameservers of this file, as it changes.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::File(Followed { path: path.into(), read: Mutex::default() })
    }

    /// Who is asked now, without ourselves.
    pub(super) fn servers(&self, ours: &[SocketAddr]) -> Vec<SocketAddr> {
        let all = match self {
            Self::File(file) => file.servers(),
            Self::Fixed(servers) => servers.clone(),
        };
        all.into_iter().filter(|server| !ours.contains(server)).take(MOST).collect()
    }
}

impl Followed {
    fn servers(&self) -> Vec<SocketAddr> {
        let stamp =
            std::fs::metadata(&self.path).ok().and_then(|meta| Some((meta.modified().ok()?, meta.len())));
        let mut read = self.read.lock();
        if read.0 != stamp || stamp.is_none() {
            let text = std::fs::read_to_string(&self.path).unwrap_or_default();
            *read = (stamp, nameservers(&text));
        }
        read.1.clone()
    }
}

/// The servers that a resolv.conf names. Scoped addresses (`fe80::1%eth0`) are left out.
fn nameservers(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let ip = (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok())?;
        ip.map(|ip| SocketAddr::new(ip, PORT))
    };
    text.lines().filter_map(server).collect()
}

/// Asks one server after the other; the first answer counts.
pub(super) async fn ask(query: &[u8], servers: &[SocketAddr], over: Over) -> Option<Vec<u8>> {
    for server in servers {
        let asked = async {
            match over {
                Over::Udp => ask_udp(query, *server).await,
                Over::Tcp => ask_tcp(query, *server).await,
            }
        };
        match timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%server, %error, "a nameserver could not be asked"),
            Err(_) => tracing::debug!(%server, "a nameserver did not answer"),
        }
    }
    None
}

/// From a port of its own, so that an answer cannot be guessed.
async fn ask_udp(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let local: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut answer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut answer).await?;
        if answers(&answer[..length], query) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn ask_tcp(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_tcp(&mut stream, query).await?;
    let answer = read_tcp(&mut stream).await?;
    if answers(&answer, query) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn answers(answer: &[u8], query: &[u8]) -> bool {
    answer.len() >= 12 && answer[..2] == query[..2] && answer[2] & 0x80 != 0
}

/// One message of a stream: its length, then its bytes.
pub(super) async fn read_tcp(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

pub(super) async fn write_tcp(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let framed = [&length.to_be_bytes()[..], message].concat();
    stream.write_all(&framed).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_are_read_as_the_c_library_reads_them() {
        let text = "# nameserver 9.9.9.9\nsearch example.org\nnameserver 10.0.0.53\n nameserver\tfd00::53 # two\n\
            nameserver fe80::1%eth0\nnameserver\nnameserver words\noptions ndots:1\n";
        let servers: Vec<_> = nameservers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.53:53", "[fd00::53]:53"]);
    }

    #[test]
    fn a_changed_file_is_read_again_and_we_are_never_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("resolv.conf");
        let upstreams = Upstreams::file(&path);
        let ours = ["10.64.0.1:53".parse().expect("an address")];
        let servers = || upstreams.servers(&ours).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(servers().is_empty(), "no file, no servers");
        for (text, want) in [
            ("nameserver 10.0.0.53\n", vec!["10.0.0.53:53"]),
            ("nameserver 10.64.0.1\nnameserver 10.0.0.5\n", vec!["10.0.0.5:53"]),
            ("", vec![]),
        ] {
            std::fs::write(&path, text).expect("a file");
            assert_eq!(servers(), want, "{text}");
        }
    }

    #[test]
    fn an_answer_belongs_to_its_query() {
        let query = [0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let with = |place: usize, byte: u8| {
            let mut answer = query;
            answer[2] = 0x81;
            answer[place] = byte;
            answers(&answer, &query)
        };
        assert!(with(3, 0x80));
        assert!(!with(0, 0x99), "another id");
        assert!(!with(2, 0x01), "a query");
        assert!(!answers(&query[..4], &query), "cut short");
    }
}
