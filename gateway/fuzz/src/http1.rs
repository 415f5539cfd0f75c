//! What a client sends over HTTP/1.1 is the same request however its bytes come, its end is said in one way, and what is
//! written of it is read as the same by the next one.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};

use crate::tidegate::http1::{
    Bad,
    framing::{Decoder, Framing, Step},
    request::{self, Head, Limits, Search},
};

const LIMITS: Limits = Limits { bytes: 4096, fields: 32 };

/// Reads bytes, the first of which says in pieces of which size they come. Panics where a promise is broken.
pub fn look(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let whole = read(bytes, bytes.len().max(1));
    let pieces = read(bytes, usize::from(*piece).max(1));
    let short = |read: &Result<Option<(Head, Vec<u8>)>, Bad>| match read {
        Ok(found) => Ok(found.as_ref().map(|(head, body)| (head.framing, head.keep_alive, body.clone()))),
        Err(_) => Err(()),
    };
    assert_eq!(short(&whole), short(&pieces), "another request in pieces of {piece}");
    let Ok(Some((head, _))) = whole else { return };
    let lengths = head.headers.get_all(CONTENT_LENGTH).iter().count();
    let chunked = head.headers.contains_key(TRANSFER_ENCODING);
    assert_eq!(chunked, head.framing == Framing::Chunked);
    assert!(lengths <= usize::from(!chunked), "two framings: {head:?}");
    again(&head);
}

/// The head, and the body as far as it came.
fn read(bytes: &[u8], piece: usize) -> Result<Option<(Head, Vec<u8>)>, Bad> {
    let (mut search, mut read, mut pieces) = (Search::default(), BytesMut::new(), bytes.chunks(piece));
    let head = loop {
        match search.take(&mut read, LIMITS)? {
            Some(section) => break request::parse(&section, LIMITS)?,
            None => match pieces.next() {
                Some(piece) => read.extend_from_slice(piece),
                None => return Ok(None),
            },
        }
    };
    let (mut decoder, mut body) = (Decoder::new(head.framing), Vec::new());
    loop {
        match decoder.next(&mut read)? {
            Step::Data(data) => body.extend_from_slice(&data),
            Step::Trailers(_) | Step::End => return Ok(Some((head, body))),
            Step::More => match pieces.next() {
                Some(piece) => read.extend_from_slice(piece),
                // It breaks off, which is for whoever reads it to say.
                None => return Ok(Some((head, body))),
            },
        }
    }
}

/// What is written of a head is a head, and the same one.
fn again(head: &Head) {
    if head.target.path_and_query().is_none() {
        return;
    }
    let mut text = Vec::new();
    request::write(&mut text, &head.method, &head.target, &head.headers, head.framing);
    let wide = Limits { bytes: 1 << 20, fields: 64 };
    let read = Search::default().take(&mut BytesMut::from(&text[..]), wide);
    let section: Bytes = read.expect("a good head").expect("a whole one");
    assert_eq!(section.len(), text.len(), "something follows the head that was written");
    let same = request::parse(&section, wide).expect("what is written can be read");
    assert_eq!((same.framing, &same.method), (head.framing, &head.method));
    // How a body ends is said anew.
    let framing = [CONTENT_LENGTH, TRANSFER_ENCODING];
    for (name, value) in head.headers.iter().filter(|(name, _)| !framing.contains(name)) {
        assert!(same.headers.get_all(name).iter().any(|other| other == value), "{name} was lost");
    }
}
