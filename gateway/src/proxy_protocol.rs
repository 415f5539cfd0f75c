//! The PROXY protocol, versions 1 and 2: what a load balancer says before the client's first byte. Pure; the
//! [`listener`](crate::listener) reads. Holds: never more is asked for than surely belongs to the header, so that what follows it
//! stays where it is; nothing that is not a whole header is believed.

use std::net::SocketAddr;

use ppp::{v1, v2};

/// Version 2 begins so.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version 1 begins so.
const PREFIX: &[u8; 6] = b"PROXY ";

/// Signature, version, family and length.
const FIXED: usize = 16;

/// The longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;

/// Addresses and everything that balancers add to them; far more than any does.
const LONGEST: usize = 4096;

/// How far a header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// At least this many more bytes belong to it.
    More(usize),
    /// It is whole.
    Whole {
        /// Whom it names.
        said: Said,
        /// Its length.
        length: usize,
    },
}

/// Whom a header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// The client behind the balancer.
    Client(SocketAddr),
    /// The balancer itself (a health check), or somebody of whom it knows nothing.
    Nobody,
}

/// What came is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a header of the PROXY protocol")]
pub struct Malformed;

/// Reads the beginning of a connection.
///
/// # Errors
/// When it is no header, and cannot become one.
pub fn parse(bytes: &[u8]) -> Result<Progress, Malformed> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    if begins(SIGNATURE) {
        binary(bytes)
    } else if begins(PREFIX) {
        line(bytes)
    } else {
        Err(Malformed)
    }
}

fn binary(bytes: &[u8]) -> Result<Progress, Malformed> {
    let Some(fixed) = bytes.get(..FIXED) else {
        // Before it is all there, this may be the shorter line of version 1.
        let sure = if bytes.len() < SIGNATURE.len() { SIGNATURE.len() } else { FIXED };
        return Ok(Progress::More(sure - bytes.len()));
    };
    let length = FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > LONGEST {
        return Err(Malformed);
    }
    let Some(whole) = bytes.get(..length) else { return Ok(Progress::More(length - bytes.len())) };
    let header = v2::Header::try_from(whole).map_err(|_| Malformed)?;
    let said = match (header.command, header.addresses) {
        (v2::Command::Local, _) | (_, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => Said::Nobody,
        (v2::Command::Proxy, _) if header.protocol != v2::Protocol::Stream => return Err(Malformed),
        (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => client(ip.source_address, ip.source_port),
        (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => client(ip.source_address, ip.source_port),
    };
    Ok(Progress::Whole { said, length })
}

fn line(bytes: &[u8]) -> Result<Progress, Malformed> {
    let within = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = within.windows(2).position(|two| two == b"\r\n") else {
        return if bytes.len() >= LONGEST_LINE { Err(Malformed) } else { Ok(Progress::More(rest(bytes))) };
    };
    let length = end + 2;
    let header = v1::Header::try_from(&bytes[..length]).map_err(|_| Malformed)?;
    let said = match header.addresses {
        v1::Addresses::Unknown => Said::Nobody,
        v1::Addresses::Tcp4(ip) => client(ip.source_address, ip.source_port),
        v1::Addresses::Tcp6(ip) => client(ip.source_address, ip.source_port),
    };
    Ok(Progress::Whole { said, length })
}

/// What an unfinished line surely lacks.
fn rest(bytes: &[u8]) -> usize {
    let shortest = match bytes.get(PREFIX.len()..PREFIX.len() + 4) {
        Some(b"TCP4") => "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n".len(),
        Some(b"TCP6") => "PROXY TCP6 :: :: 1 1\r\n".len(),
        _ => "PROXY UNKNOWN\r\n".len(),
    };
    let end = if bytes.ends_with(b"\r") { 1 } else { 2 };
    shortest.saturating_sub(bytes.len()).max(end)
}

fn client(ip: impl Into<std::net::IpAddr>, port: u16) -> Said {
    Said::Client(SocketAddr::new(ip.into(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads as the listener does: what is asked for, and no more.
    fn read(stream: &[u8]) -> Result<(Said, usize), Malformed> {
        let mut known = 0;
        loop {
            match parse(&stream[..known])? {
                Progress::Whole { said, length } => {
                    assert_eq!(length, known, "bytes of the client were taken");
                    return Ok((said, length));
                }
                Progress::More(more) => {
                    assert!(more > 0);
                    known += more;
                    if known > stream.len() {
                        return Err(Malformed);
                    }
                }
            }
        }
    }

    fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, addresses].concat()
    }

    fn check(header: &[u8], want: Result<&str, Malformed>) {
        for rest in ["", "GET / HTTP/1.1\r\n", "\r\n"] {
            let stream = [header, rest.as_bytes()].concat();
            let said = read(&stream).map(|(said, length)| {
                assert_eq!(length, header.len());
                match said {
                    Said::Client(address) => address.to_string(),
                    Said::Nobody => "nobody".to_owned(),
                }
            });
            assert_eq!(said, want.map(str::to_owned), "{:?}", String::from_utf8_lossy(&stream));
        }
    }

    #[test]
    fn lines() {
        check(b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n", Ok("192.0.2.1:56324"));
        check(b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", Ok("1.1.1.1:1"));
        check(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n", Ok("[2001:db8::1]:1"));
        check(b"PROXY UNKNOWN\r\n", Ok("nobody"));
        check(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", Ok("nobody"));
        for bad in [
            &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
            b"PROXY TCP4 192.0.2.1 10.0.0.1 99999 443\r\n",
            b"PROXY TCP4 ::1 ::1 1 1 padded-to-length\r\n",
            b"PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n",
            b"proxy tcp4 192.0.2.1 10.0.0.1 1 2\r\n",
        ] {
            check(bad, Err(Malformed));
        }
        let endless = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
        check(&endless, Err(Malformed));
    }

    #[test]
    fn binary_headers() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0xdc, 0x04, 0x01, 0xbb];
        check(&binary(0x21, 0x11, &v4), Ok("192.0.2.1:56324"));
        let mut v6 = [0; 36];
        (v6[15], v6[33]) = (1, 7);
        check(&binary(0x21, 0x21, &v6), Ok("[::1]:7"));
        // What balancers add is passed over.
        check(&binary(0x21, 0x11, &[&v4[..], &[0x04, 0, 3, 1, 2, 3]].concat()), Ok("192.0.2.1:56324"));
        check(&binary(0x20, 0x11, &v4), Ok("nobody"));
        check(&binary(0x20, 0x00, &[]), Ok("nobody"));
        check(&binary(0x21, 0x00, &[]), Ok("nobody"));
        check(&binary(0x21, 0x12, &v4), Err(Malformed));
        check(&binary(0x11, 0x11, &v4), Err(Malformed));
        check(&binary(0x21, 0x11, &v4[..4]), Err(Malformed));
        check(&binary(0x21, 0x11, &[0; 5000]), Err(Malformed));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_header_or_none(bytes: Vec<u8>, start in 0_usize..3) {
            let prefix: &[u8] = [&b""[..], SIGNATURE, PREFIX][start];
            let all = [prefix, &bytes].concat();
            if let Ok(Progress::Whole { length, .. }) = parse(&all) {
                assert!(length <= all.len());
            }
        }
    }
}
