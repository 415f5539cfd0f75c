//! Layers that want out of their folder.

use std::{fs, os::unix::fs::MetadataExt};

use super::*;

const OUT: &str = "tidegate-hostile";

fn check_escapes(rows: Vec<Row>) {
    check(rows, &Limits::default());
    for path in ["/tidegate-hostile", "/etc/tidegate-hostile", "/tmp/tidegate-hostile"] {
        assert!(fs::symlink_metadata(path).is_err(), "{path} was made");
    }
}

fn canary(yard: &Yard, below: &str) -> Vec<u8> {
    yard.canary().join(below).as_os_str().as_bytes().to_vec()
}

#[test]
fn names_that_lead_out() {
    check_escapes(vec![
        ("../x", |_| Tar::default().file("../canary/file", "bad").end(), Refused("..")),
        ("a/../../x", |_| Tar::default().file("a/../../canary/file", "bad").end(), Refused("..")),
        ("a/..", |_| Tar::default().folder("a/..").end(), Refused("..")),
        ("..", |_| Tar::default().folder("..").end(), Refused("..")),
        (
            "a long ..",
            |_| Tar::default().file(format!("{}../canary/x", "a/".repeat(80)), "bad").end(),
            Refused(".."),
        ),
        (
            "by PAX",
            |_| Tar::default().pax(&[("path", b"../canary/file")]).file("fine", "bad").end(),
            Refused(".."),
        ),
        (
            "by a sparse name",
            |_| {
                let records: [(&str, &[u8]); 4] = [
                    ("GNU.sparse.name", b"../canary/file"),
                    ("GNU.sparse.realsize", b"0"),
                    ("GNU.sparse.major", b"0"),
                    ("GNU.sparse.map", b""),
                ];
                Tar::default().pax(&records).file("fine", "").end()
            },
            Refused(".."),
        ),
        (
            "by the prefix",
            |_| {
                let mut raw = Raw::new(b'0', b"canary/file");
                raw.set(257, b"ustar\x0000").set(345, b"..");
                Tar::default().raw(&raw, b"").end()
            },
            Refused(".."),
        ),
        (
            "/abs",
            |yard| Tar::default().file(canary(yard, "file"), "mine").file("/etc/x", "x").end(),
            Contained(|layer| holds(layer, "etc/x", "x")),
        ),
        ("NUL", |_| Tar::default().pax(&[("path", b"a\0/../../x")]).file("a", "").end(), Refused("NUL")),
        ("no name", |_| Tar::default().file("", "x").end(), Refused("no name")),
        (
            "the folder itself as a symlink",
            |yard| Tar::default().symlink("./", canary(yard, "")).file("file", "bad").end(),
            Refused("no name"),
        ),
        ("the folder itself as a link", |_| Tar::default().link("/", "x").end(), Refused("no name")),
    ]);
}

#[test]
fn symlinks_that_lead_out() {
    check_escapes(vec![
        (
            "d -> /, then d/etc/x",
            |_| Tar::default().symlink("d", "/").file(format!("d/etc/{OUT}"), "in").end(),
            Contained(|layer| holds(layer, &format!("etc/{OUT}"), "in")),
        ),
        (
            "d -> ../../.., then d/x",
            |_| Tar::default().symlink("d", "../../../../../..").file(format!("d/{OUT}"), "in").end(),
            Contained(|layer| holds(layer, OUT, "in")),
        ),
        (
            "d -> the canary, then d/file",
            |yard| Tar::default().symlink("d", canary(yard, "")).file("d/file", "bad").end(),
            Refused("leads nowhere"),
        ),
        (
            "d -> ../canary, then d/file",
            |_| Tar::default().symlink("d", "../canary").file("d/file", "bad").end(),
            Refused("leads nowhere"),
        ),
        (
            "a chain",
            |_| {
                let tar = Tar::default().symlink("a", "..").symlink("b", "a/..").symlink("c", "b/../..");
                tar.folder("c/canary").file("c/canary/file", "in").end()
            },
            Contained(|layer| holds(layer, "canary/file", "in")),
        ),
        (
            "a loop",
            |_| Tar::default().symlink("a", "b").symlink("b", "a").file("a/x", "bad").end(),
            Refused("loop"),
        ),
        ("through itself", |_| Tar::default().symlink("a", "a").file("a/x", "bad").end(), Refused("loop")),
        (
            "a file where a symlink leads out",
            |yard| Tar::default().symlink("f", canary(yard, "file")).file("f", "in").end(),
            Contained(|layer| holds(layer, "f", "in")),
        ),
        (
            "a folder where a symlink leads out",
            |yard| Tar::default().symlink("f", canary(yard, "sub")).folder("f").file("f/x", "in").end(),
            Contained(|layer| holds(layer, "f/x", "in")),
        ),
        (
            "a fifo where a symlink leads out",
            |yard| Tar::default().symlink("f", canary(yard, "file")).raw(&Raw::new(b'6', b"f"), b"").end(),
            Contained(|layer| assert_eq!(at(layer, "f").mode() & libc::S_IFMT, libc::S_IFIFO)),
        ),
        (
            "a symlink below a symlink that leads out",
            |_| Tar::default().symlink("d", "/").symlink(format!("d/{OUT}"), "/etc/passwd").end(),
            Contained(|layer| assert!(at(layer, OUT).is_symlink())),
        ),
        (
            "a folder becomes a symlink, then an entry below it",
            |_| {
                let tar = Tar::default().folder("d").file("d/x", "1");
                tar.symlink("d", "../canary").file("d/x", "bad").end()
            },
            Refused("leads nowhere"),
        ),
        (
            "the same, where the parent was known",
            |_| {
                let tar = Tar::default().folder("d/e").file("d/e/x", "1").symlink("d/e", "/");
                tar.file(format!("d/e/{OUT}"), "in").end()
            },
            Contained(|layer| holds(layer, OUT, "in")),
        ),
        (
            "a known parent that went through what is replaced",
            |_| {
                let tar = Tar::default().symlink("s", ".").file("s/a", "1");
                tar.file("s/s", "2").file("s/x", "bad").end()
            },
            Refused("not a folder"),
        ),
        (
            "/proc's own links",
            |_| Tar::default().symlink("d", "/proc/self/root").file(format!("d/{OUT}"), "bad").end(),
            Refused("leads nowhere"),
        ),
        ("a symlink to nothing", |_| Tar::default().symlink("d", "").end(), Refused("nothing")),
        (
            "metadata of a folder through a symlink",
            |_| Tar::default().symlink("d", "../canary").folder("d/").end(),
            Contained(|layer| assert!(at(layer, "d").is_dir())),
        ),
    ]);
}

#[test]
fn hard_links_that_lead_out() {
    check_escapes(vec![
        ("to /etc/passwd", |_| Tar::default().link("p", "/etc/passwd").end(), Refused("not in the layer")),
        ("to ../../x", |_| Tar::default().link("p", "../canary/file").end(), Refused("..")),
        (
            "to the canary by its whole path",
            |yard| Tar::default().link("p", canary(yard, "file")).end(),
            Refused("not in the layer"),
        ),
        (
            "through a symlink",
            |_| Tar::default().symlink("d", "/etc").link("p", "d/passwd").end(),
            Refused("not in the layer"),
        ),
        (
            "through a symlink that leads up",
            |_| Tar::default().symlink("d", "../canary").link("p", "d/file").end(),
            Refused("not in the layer"),
        ),
        (
            "to a symlink, and then written",
            |yard| {
                let tar = Tar::default().symlink("s", canary(yard, "file"));
                tar.link("p", "s").file("p", "in").end()
            },
            Contained(|layer| {
                holds(layer, "p", "in");
                assert!(at(layer, "s").is_symlink());
            }),
        ),
        (
            "to a symlink: the symlink, not where it leads",
            |yard| Tar::default().symlink("s", canary(yard, "file")).link("p", "s").end(),
            Contained(|layer| {
                assert!(at(layer, "p").is_symlink());
                assert_eq!(at(layer, "p").ino(), at(layer, "s").ino());
            }),
        ),
        (
            "a link is replaced, not written through",
            |_| Tar::default().file("a", "1").link("b", "a").file("b", "2").end(),
            Contained(|layer| {
                holds(layer, "a", "1");
                holds(layer, "b", "2");
            }),
        ),
        (
            "to itself",
            |_| Tar::default().file("a", "1").link("a", "a").end(),
            Contained(|layer| holds(layer, "a", "1")),
        ),
        ("to a folder", |_| Tar::default().folder("d").link("p", "d").end(), Refused("no file")),
        ("to the layer's folder", |_| Tar::default().link("p", "/").end(), Refused("not in the layer")),
        ("to a whiteout", |_| Tar::default().file(".wh.a", "").link("b", "a").end(), Refused("no file")),
        (
            "to what it replaces",
            |_| Tar::default().file("d/x", "1").link("d", "d/x").end(),
            Refused("not in the layer"),
        ),
        ("through a loop", |_| Tar::default().symlink("a", "a").link("p", "a/x").end(), Refused("loop")),
        (
            "through a file",
            |_| Tar::default().file("a", "1").link("p", "a/x").end(),
            Refused("not in the layer"),
        ),
    ]);
}

#[test]
fn whiteouts_that_lead_out() {
    check_escapes(vec![
        ("of ..", |_| Tar::default().file(".wh...", "").end(), Refused("whiteout")),
        ("of .", |_| Tar::default().file(".wh..", "").end(), Refused("whiteout")),
        ("of nothing", |_| Tar::default().file("a/.wh.", "").end(), Refused("whiteout")),
        ("beside ..", |_| Tar::default().file("../canary/.wh.file", "").end(), Refused("..")),
        ("as a folder", |_| Tar::default().file(".wh.a/b", "").end(), Refused("whiteout")),
        (
            "below a symlink that leads out",
            |_| Tar::default().symlink("d", "../canary").file("d/.wh.file", "").end(),
            Refused("leads nowhere"),
        ),
        (
            "opaque below a symlink that leads out",
            |_| Tar::default().symlink("d", "../canary").file("d/.wh..wh..opq", "").end(),
            Refused("leads nowhere"),
        ),
        (
            "of all other layers",
            |_| Tar::default().file(".wh..wh..opq", "").end(),
            Refused("all other layers"),
        ),
        (
            "of all other layers, by a symlink",
            |_| Tar::default().symlink("s", "/").file("s/.wh..wh..opq", "").end(),
            Refused("all other layers"),
        ),
        (
            "of a symlink that leads out",
            |yard| Tar::default().symlink("d", canary(yard, "sub")).file(".wh.d", "").end(),
            Contained(|layer| assert!(at(layer, "d").is_symlink())),
        ),
    ]);
}
