//! Lists of entries with few different names, so that they meet: symlinks with what is below them, links with their
//! targets, whiteouts with what they hide.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Entry {
    kind: Kind,
    name: Vec<Part>,
    link: Vec<Part>,
    absolute: bool,
    in_pax: bool,
    mode: u16,
    owner: (u8, u8),
    device: (u8, u8),
    contents: Vec<u8>,
    attribute: Option<Attribute>,
    sparse: Option<(u32, Vec<(u16, u16)>)>,
    size: Option<u64>,
}

#[derive(Debug, Arbitrary, Clone, Copy)]
enum Kind {
    File,
    HardLink,
    Symlink,
    Character,
    Block,
    Folder,
    Fifo,
    Sparse,
    Other(u8),
}

#[derive(Debug, Arbitrary, Clone, Copy)]
enum Part {
    A,
    B,
    C,
    File,
    Canary,
    Up,
    Here,
    Nothing,
    HiddenA,
    HiddenUp,
    Opaque,
    Aufs,
    /// The canary by its whole path.
    Outside,
    Odd(u8),
    Long(u8),
}

#[derive(Debug, Arbitrary, Clone, Copy)]
enum Attribute {
    User,
    Opaque,
    Redirect,
    Capability,
}

fuzz_target!(|entries: Vec<Entry>| {
    let mut tar = Vec::new();
    for entry in entries.iter().take(200) {
        write(&mut tar, entry);
    }
    tar.resize(tar.len() + 1024, 0);
    tidegate_fuzz::layer(tar);
});

fn write(tar: &mut Vec<u8>, entry: &Entry) {
    let (name, link) = (text(&entry.name, entry.absolute), text(&entry.link, entry.absolute));
    let mut records = Vec::new();
    if entry.in_pax || name.len() > 100 || link.len() > 100 {
        records.extend(record(b"path", &name));
        records.extend(record(b"linkpath", &link));
    }
    if let Some(attribute) = entry.attribute {
        let (name, value): (&[u8], &[u8]) = match attribute {
            Attribute::User => (b"SCHILY.xattr.user.a", b"1"),
            Attribute::Opaque => (b"SCHILY.xattr.trusted.overlay.opaque", b"y"),
            Attribute::Redirect => (b"SCHILY.xattr.trusted.overlay.redirect", b"/"),
            Attribute::Capability => (b"SCHILY.xattr.security.capability", &[1, 0, 0, 2, 1]),
        };
        records.extend(record(name, value));
    }
    if let (Some((size, pieces)), false) = (&entry.sparse, matches!(entry.kind, Kind::Sparse)) {
        let map: Vec<String> = pieces.iter().map(|(at, length)| format!("{at},{length}")).collect();
        records.extend(record(b"GNU.sparse.size", size.to_string().as_bytes()));
        records.extend(record(b"GNU.sparse.map", map.join(",").as_bytes()));
    }
    if !records.is_empty() {
        header(tar, b'x', b"pax", b"", records.len() as u64, |_| {});
        contents(tar, &records);
    }
    let kind = match entry.kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::Character => b'3',
        Kind::Block => b'4',
        Kind::Folder => b'5',
        Kind::Fifo => b'6',
        Kind::Sparse => b'S',
        Kind::Other(byte) => byte,
    };
    let size = entry.size.unwrap_or(entry.contents.len() as u64);
    header(tar, kind, &name, &link, size, |block| {
        block[100..108].copy_from_slice(format!("{:07o}\0", entry.mode).as_bytes());
        block[108..116].copy_from_slice(format!("{:07o}\0", entry.owner.0).as_bytes());
        block[116..124].copy_from_slice(format!("{:07o}\0", entry.owner.1).as_bytes());
        block[329..337].copy_from_slice(format!("{:07o}\0", entry.device.0).as_bytes());
        block[337..345].copy_from_slice(format!("{:07o}\0", entry.device.1).as_bytes());
        if let (Some((size, pieces)), Kind::Sparse) = (&entry.sparse, entry.kind) {
            block[483..495].copy_from_slice(format!("{size:011o}\0").as_bytes());
            for (field, (at, length)) in block[386..482].chunks_exact_mut(24).zip(pieces) {
                field.copy_from_slice(format!("{at:011o}\0{length:011o}\0").as_bytes());
            }
        }
    });
    contents(tar, &entry.contents);
}

fn header(tar: &mut Vec<u8>, kind: u8, name: &[u8], link: &[u8], size: u64, more: impl Fn(&mut [u8; 512])) {
    let mut block = [0; 512];
    let (name, link) = (&name[..name.len().min(100)], &link[..link.len().min(100)]);
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[124] = 0x80;
    block[128..136].copy_from_slice(&size.to_be_bytes());
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar  \0");
    more(&mut block);
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(&block);
}

fn contents(tar: &mut Vec<u8>, contents: &[u8]) {
    tar.extend_from_slice(contents);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn text(parts: &[Part], absolute: bool) -> Vec<u8> {
    let mut text = if absolute { b"/".to_vec() } else { Vec::new() };
    for (nr, part) in parts.iter().take(40).enumerate() {
        if nr > 0 {
            text.push(b'/');
        }
        match part {
            Part::A => text.push(b'a'),
            Part::B => text.push(b'b'),
            Part::C => text.push(b'c'),
            Part::File => text.extend(b"file"),
            Part::Canary => text.extend(b"canary"),
            Part::Up => text.extend(b".."),
            Part::Here => text.push(b'.'),
            Part::Nothing => {}
            Part::HiddenA => text.extend(b".wh.a"),
            Part::HiddenUp => text.extend(b".wh..."),
            Part::Opaque => text.extend(b".wh..wh..opq"),
            Part::Aufs => text.extend(b".wh..wh.plnk"),
            Part::Outside => text.extend(tidegate_fuzz::CANARY.as_bytes()),
            Part::Odd(byte) => text.push(*byte),
            Part::Long(length) => text.extend(std::iter::repeat_n(b'l', usize::from(*length) + 10)),
        }
    }
    text
}
