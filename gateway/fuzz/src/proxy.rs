//! A header of the PROXY protocol is read however its bytes come, never asks for what does not belong to it, and means the
//! same whatever follows.

use crate::tidegate::proxy_protocol::{Malformed, Progress, Said, parse};

/// Panics where a promise is broken.
pub fn look(bytes: &[u8]) {
    let (mut read, mut asked) = (0, 0);
    let end = loop {
        match parse(&bytes[..read]) {
            Ok(Progress::More(more)) => {
                assert!(more > 0, "asks for nothing after {read} bytes");
                read += more;
                asked = read;
                if read > bytes.len() {
                    // The rest never comes.
                    return;
                }
            }
            Ok(Progress::Whole { said, length }) => break Ok((said, length)),
            Err(Malformed) => break Err(Malformed),
        }
    };
    let Ok((said, length)) = end else { return };
    assert_eq!((length, asked), (read, length), "was asked for more than belongs to it");
    assert_eq!(parse(bytes), Ok(Progress::Whole { said, length }), "means something else with what follows");
    for short in 0..length {
        match parse(&bytes[..short]) {
            Ok(Progress::More(more)) => {
                assert!(short + more <= length, "{more} more after {short} of {length}")
            }
            other => panic!("{other:?} after {short} of {length}"),
        }
    }
    if let Said::Client(address) = said {
        assert!(bytes.starts_with(b"PROXY TCP") || bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n"), "{address}");
    }
}
