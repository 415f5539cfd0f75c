//! Layers that are too much of something, or not even tars.

use std::io::Write;

use super::*;

fn small() -> Limits {
    Limits { bytes: 4 << 20, entries: 1000, extended: 64 << 10, trailing: 1 << 20, ..Limits::default() }
}

fn sparse(real: u64, offset: u64, length: u64) -> Raw {
    let mut raw = Raw::new(b'S', b"hole");
    let binary = |number: u64| [&[0x80, 0, 0, 0][..], &number.to_be_bytes()].concat();
    raw.set(386, &binary(offset)).set(398, &binary(length)).set(483, &binary(real)).size(length);
    raw
}

fn pax_sparse(size: &str, map: &[u8], stored: &str) -> Tar {
    let records: [(&str, &[u8]); 2] = [("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.map", map)];
    Tar::default().pax(&records).file("hole", stored)
}

#[test]
fn names_and_numbers_without_end() {
    check(
        vec![
            ("a name of 5000 bytes", |_| Tar::default().file("n/".repeat(2500), "").end(), TooLarge("name")),
            ("a part of 300 bytes", |_| Tar::default().file("n".repeat(300), "").end(), TooLarge("name")),
            ("300 folders deep", |_| Tar::default().folder("d/".repeat(300)).end(), TooLarge("folders")),
            (
                "a link to 5000 bytes",
                |_| Tar::default().symlink("l", "x".repeat(5000)).end(),
                TooLarge("name"),
            ),
            (
                "a path that is longer than any path from outside may be",
                |_| Tar::default().file(format!("{}/", "n".repeat(250)).repeat(16), "").end(),
                TooLarge("name"),
            ),
            (
                "symlinks that make such a path",
                |_| {
                    let long = format!("{}/", "n".repeat(250)).repeat(10);
                    Tar::default().folder(&long).symlink("s", &long).file(format!("s/{long}x"), "").end()
                },
                Refused("too deep"),
            ),
            (
                "folders that are made below a symlink",
                |_| {
                    let deep = "d/".repeat(200);
                    Tar::default().folder(&deep).symlink("s", &deep).file(format!("s/{deep}x"), "").end()
                },
                Refused("too deep"),
            ),
            (
                "symlinks deeper than names",
                |_| {
                    let deep = "d/".repeat(200);
                    let tar = Tar::default().folder(&deep).symlink("s", &deep).folder(format!("s/{deep}"));
                    tar.symlink("t", format!("s/{deep}")).file("t/x", "").end()
                },
                Refused("too deep"),
            ),
            (
                "a long name of 1 GiB",
                |_| {
                    let mut raw = Raw::new(b'L', b"././@LongLink");
                    raw.size(1 << 30);
                    Tar::default().raw(&raw, b"x").end()
                },
                TooLarge("extended"),
            ),
            (
                "many long names for one entry",
                |_| (0..40).fold(Tar::default(), |tar, _| tar.pax(&[("comment", &[b'x'; 2000])])).end(),
                TooLarge("extended"),
            ),
            (
                "an owner that is none",
                |_| Tar::default().pax(&[("uid", b"4294967295")]).file("a", "").end(),
                Refused("owner"),
            ),
            (
                "an owner out of range",
                |_| Tar::default().pax(&[("gid", b"4294967296")]).file("a", "").end(),
                Refused("owner"),
            ),
            (
                "a time out of range",
                |_| Tar::default().pax(&[("mtime", b"99999999999999999999")]).file("a", "").end(),
                Damaged("number"),
            ),
            (
                "PAX says a size that is not there",
                |_| Tar::default().pax(&[("size", b"1000000")]).file("a", "x").end(),
                Damaged("middle"),
            ),
            (
                "PAX says the largest size",
                |_| Tar::default().pax(&[("size", b"18446744073709551615")]).file("a", "x").end(),
                Damaged("middle"),
            ),
            (
                "the largest size",
                |_| {
                    let mut raw = Raw::new(b'0', b"a");
                    raw.size(u64::MAX);
                    Tar::default().raw(&raw, b"x").end()
                },
                Damaged("middle"),
            ),
        ],
        &small(),
    );
}

#[test]
fn holes_without_end() {
    check(
        vec![
            ("a hole of 8 EiB", |_| Tar::default().raw(&sparse(1 << 63, 0, 0), b"").end(), TooLarge("bytes")),
            (
                "a piece beyond the end",
                |_| Tar::default().raw(&sparse(10, 1 << 62, 4), b"abcd").end(),
                Damaged("holes"),
            ),
            (
                "a piece that wraps around",
                |_| Tar::default().raw(&sparse(10, u64::MAX, 4), b"abcd").end(),
                Damaged("holes"),
            ),
            ("pieces that do not add up", |_| pax_sparse("100", b"0,2,50,2", "abc").end(), Damaged("holes")),
            ("pieces that overlap", |_| pax_sparse("100", b"0,2,1,2", "abcd").end(), Damaged("holes")),
            ("half a piece", |_| pax_sparse("100", b"0,2,1", "ab").end(), Damaged("holes")),
            (
                "PAX: a hole of 16 EiB",
                |_| pax_sparse("18446744073709551615", b"", "").end(),
                TooLarge("bytes"),
            ),
            (
                "many holes that are small alone",
                |_| {
                    (0..10).fold(Tar::default(), |tar, _| {
                        Tar([tar.0, pax_sparse("1000000", b"", "").0].concat())
                    })
                },
                TooLarge("bytes"),
            ),
            (
                "a map without end",
                |_| {
                    let tar =
                        Tar::default().pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"9")]);
                    tar.file("a", &"1".repeat(512)).end()
                },
                Damaged("holes"),
            ),
            (
                "a map of all numbers that there are",
                |_| {
                    let tar =
                        Tar::default().pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"9")]);
                    tar.file("a", &format!("9999999999999999999\n{}", "0\n".repeat(1000))).end()
                },
                Damaged("too long"),
            ),
        ],
        &small(),
    );
}

#[test]
fn a_sparse_file_without_an_end_of_its_map() {
    let mut raw = sparse(10, 0, 0);
    raw.set(482, &[1]);
    let mut tar = Tar::default().raw(&raw, b"");
    for _ in 0..1000 {
        let mut block = [0; 512];
        block[504] = 1;
        tar.0.extend_from_slice(&block);
    }
    let yard = Yard::new();
    let unpacked = yard.unpack(Cursor::new(tar.0), &small());
    verdict("a map without end", unpacked, TooLarge("extended"), &yard.layer());
}

/// 10 GiB of zeros as gzip makes them: 10 MiB, many times the same.
fn gzip_bomb() -> Vec<u8> {
    let mut zeros = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    zeros.write_all(&vec![0; 64 << 20]).expect("memory takes it");
    let zeros = zeros.finish().expect("memory takes it");
    let mut raw = Raw::new(b'0', b"zeros");
    raw.size(10 << 30);
    let mut start = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    start.write_all(&raw.sealed()).expect("memory takes it");
    [start.finish().expect("memory takes it"), zeros.repeat(160)].concat()
}

#[test]
fn bombs_stop_at_the_limit() {
    let yard = Yard::new();
    let tar = super::super::decompress(Cursor::new(gzip_bomb())).expect("it is gzip");
    let unpacked = yard.unpack(tar, &small());
    verdict("10 GiB in 10 MiB", unpacked, TooLarge("bytes"), &yard.layer());
    assert!(at(&yard.layer(), "zeros").len() <= small().bytes);
    for (what, tar) in [("zeros after the end", vec![0; 3 << 20]), ("zeros only", vec![0; 1 << 23])] {
        let yard = Yard::new();
        verdict(what, yard.unpack(Cursor::new(tar), &small()), TooLarge("bytes"), &yard.layer());
    }
}

#[test]
fn a_million_entries_stop_at_the_limit() {
    let block = Raw::new(b'0', b"tiny").sealed();
    let million = std::iter::repeat_n(block, 1_000_000).flatten().map(Ok::<u8, std::io::Error>);
    let mut bytes = million.map(|byte| byte.expect("always there"));
    let reader = std::io::Cursor::new(bytes.by_ref().take(2 << 20).collect::<Vec<u8>>());
    let yard = Yard::new();
    verdict("a million", yard.unpack(reader, &small()), TooLarge("entries"), &yard.layer());
    let headers = (0..2000).fold(Tar::default(), |tar, _| tar.raw(&Raw::new(b'g', b"g"), b""));
    let yard = Yard::new();
    verdict("of headers", yard.unpack(Cursor::new(headers.0), &small()), TooLarge("entries"), &yard.layer());
}

#[test]
fn what_is_no_tar() {
    let good = Tar::default().file("a", "text").end().0;
    for (what, bytes, expected) in [
        ("garbage", b"garbage".repeat(1000), Damaged("checksum")),
        ("half a block", vec![b'x'; 100], Damaged("middle")),
        ("cut off in its contents", good[..514].to_vec(), Damaged("middle")),
        ("cut off in its padding", good[..600].to_vec(), Damaged("middle")),
        ("cut off in a header", good[..300].to_vec(), Damaged("middle")),
        ("without an end", good[..1024].to_vec(), Contained(|layer| holds(layer, "a", "text"))),
        ("with half an end", good[..1536].to_vec(), Contained(|layer| holds(layer, "a", "text"))),
        ("nothing", Vec::new(), Contained(|_| {})),
        ("zeros between", [&[0; 512][..], &good].concat(), Damaged("zeros")),
        (
            "another tar after the end",
            [&good[..], &Tar::default().file("b", "2").end().0].concat(),
            Contained(|layer| absent(layer, "b")),
        ),
        ("headers of nothing", Tar::default().pax(&[("path", b"x")]).end().0, Damaged("no entry")),
        ("a kind that there is not", Tar::default().raw(&Raw::new(b'V', b"v"), b"").end().0, Refused("type")),
    ] {
        let yard = Yard::new();
        verdict(what, yard.unpack(Cursor::new(bytes), &small()), expected, &yard.layer());
    }
}

/// Fails after some bytes, as a network does.
struct Broken(Cursor<Vec<u8>>);

impl Read for Broken {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(into)? {
            0 => Err(std::io::Error::other("gone")),
            got => Ok(got),
        }
    }
}

#[test]
fn what_cannot_be_read_is_no_end() {
    let yard = Yard::new();
    let tar = Tar::default().file("a", "text").0;
    let unpacked = yard.unpack(Broken(Cursor::new(tar)), &small());
    assert!(matches!(unpacked, Err(Error::Read { .. })), "{unpacked:?}");
}
