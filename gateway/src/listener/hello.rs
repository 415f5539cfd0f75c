//! The beginning of a connection over TLS: the ClientHello is read and looked at before anything is decided, so that a name
//! can be refused, or answered by somebody else with the very bytes that came.

use std::io;

use bytes::{Bytes, BytesMut};
use rustls::server::{Accepted, Acceptor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{StartHandshake, server::TlsStream};

use crate::tls::{Active, CHALLENGE, Challenges, Secured};

/// More than any client has to say before the handshake begins.
const LONGEST: usize = 32 << 10;

/// Read at once; most hellos fit.
const FIRST: usize = 2 << 10;

/// A fatal alert, `unrecognized_name` (RFC 6066, 3), as a record.
const UNKNOWN_NAME: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 112];

/// What somebody hears who speaks HTTP here.
const NOT_TLS: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 33\r\nConnection: close\r\n\r\n\
                       This port speaks HTTPS, not HTTP\n";

/// A handshake that came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// As many are under way as may be.
    #[error("too many handshakes at once")]
    TooMany,
    /// More came in a short time than may.
    #[error("too many handshakes in a short time")]
    TooOften,
    /// It took too long.
    #[error("it took too long")]
    Late,
    /// The client named nobody, and there is no certificate for that.
    #[error("the client does not say whom it calls, and no certificate is the default")]
    NoName,
    /// There is no certificate for the name.
    #[error("no certificate for {0}")]
    UnknownName(String),
    /// What came is HTTP.
    #[error("the client speaks HTTP, not HTTPS")]
    Http,
    /// The client has no certificate, or none that counts.
    #[error("the client's certificate: {0}")]
    Client(rustls::Error),
    /// The two do not come together.
    #[error("{0}")]
    Protocol(rustls::Error),
    /// The connection broke.
    #[error("{0}")]
    Closed(#[from] io::Error),
}

impl Broken {
    /// A word for metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::TooMany => "too_many",
            Self::TooOften => "too_often",
            Self::Late => "late",
            Self::NoName => "no_name",
            Self::UnknownName(_) => "unknown_name",
            Self::Http => "http",
            Self::Client(_) => "client_certificate",
            Self::Protocol(_) => "protocol",
            Self::Closed(_) => "closed",
        }
    }

    fn of(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).cloned();
        match tls {
            Some(error @ (rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_))) => {
                Self::Client(error)
            }
            Some(error) => Self::Protocol(error),
            None => Self::Closed(error),
        }
    }
}

/// What a client said first.
pub(super) struct Hello {
    accepted: Accepted,
    /// The bytes that came, from the connection's first on.
    bytes: BytesMut,
}

impl Hello {
    /// Reads a ClientHello, whole.
    pub(super) async fn read(stream: &mut TcpStream) -> Result<Self, Broken> {
        let (mut acceptor, mut bytes) = (Acceptor::default(), BytesMut::with_capacity(FIRST));
        loop {
            let known = bytes.len();
            if stream.read_buf(&mut bytes).await? == 0 || bytes.len() > LONGEST {
                return Err(Broken::Closed(io::ErrorKind::UnexpectedEof.into()));
            }
            let mut new = &bytes[known..];
            while !new.is_empty() {
                acceptor.read_tls(&mut new)?;
            }
            match acceptor.accept() {
                Ok(Some(accepted)) => return Ok(Self { accepted, bytes }),
                Ok(None) => {}
                Err((error, mut alert)) => {
                    let mut farewell = Vec::new();
                    alert.write_all(&mut farewell)?;
                    let http = is_http(&bytes);
                    stream.write_all(if http { NOT_TLS.as_bytes() } else { &farewell }).await?;
                    return Err(if http { Broken::Http } else { Broken::Protocol(error) });
                }
            }
        }
    }

    /// The name that the client calls (lower case), if it says one.
    pub(super) fn name(&self) -> Option<String> {
        self.accepted.client_hello().server_name().map(str::to_owned)
    }

    /// What came, for whoever answers instead of us.
    pub(super) fn into_bytes(self) -> Bytes {
        self.bytes.freeze()
    }

    /// Whether this is an authority that looks for proof that the name is ours.
    pub(super) fn is_challenge(&self) -> bool {
        let hello = self.accepted.client_hello();
        hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == CHALLENGE))
    }

    /// Shows the proof, if there is one.
    pub(super) async fn prove(self, mut stream: TcpStream, challenges: &Challenges) -> Result<(), Broken> {
        let name = self.name();
        let Some(config) = challenges.config(name.as_deref()) else {
            stream.write_all(&UNKNOWN_NAME).await?;
            return Err(name.map_or(Broken::NoName, Broken::UnknownName));
        };
        let mut stream = StartHandshake::from_parts(self.accepted, stream).into_stream(config).await?;
        Ok(stream.shutdown().await?)
    }

    /// Goes on with the handshake, with the certificate that the name has.
    pub(super) async fn answer(
        self,
        mut stream: TcpStream,
        active: &Active,
        listener: usize,
    ) -> Result<(TlsStream<TcpStream>, Secured), Broken> {
        let name = self.name();
        let (Some(secured), Some(config)) = (active.secured(name.as_deref()), active.config(listener)) else {
            stream.write_all(&UNKNOWN_NAME).await?;
            return Err(name.map_or(Broken::NoName, Broken::UnknownName));
        };
        let handshake = StartHandshake::from_parts(self.accepted, stream).into_stream(config.clone());
        Ok((handshake.await.map_err(Broken::of)?, secured))
    }
}

/// Whether bytes begin as a request of HTTP does.
fn is_http(bytes: &[u8]) -> bool {
    const METHODS: [&[u8]; 7] =
        [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PRI * HTTP"];
    METHODS.iter().any(|method| bytes.starts_with(method))
}
