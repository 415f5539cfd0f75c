//! Odd layers that are fine, and what becomes of them.

use super::*;

#[test]
fn whiteouts_are_overlays_own() {
    check(
        vec![
            (
                "of a file",
                |_| Tar::default().folder("d").file("d/.wh.gone", "").end(),
                Contained(|layer| {
                    assert!(is_whiteout(layer, "d/gone"));
                    absent(layer, "d/.wh.gone");
                }),
            ),
            (
                "opaque",
                |_| Tar::default().file("d/.wh..wh..opq", "").file("d/x", "1").end(),
                Contained(|layer| {
                    assert_eq!(attribute(layer, "d", "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]));
                    holds(layer, "d/x", "1");
                    absent(layer, "d/.wh..wh..opq");
                }),
            ),
            (
                "opaque after what is in it",
                |_| Tar::default().file("d/x", "1").file("d/.wh..wh..opq", "").end(),
                Contained(|layer| {
                    assert!(attribute(layer, "d", "trusted.overlay.opaque").is_some());
                    holds(layer, "d/x", "1");
                }),
            ),
            (
                "aufs's own files",
                |_| {
                    Tar::default()
                        .folder(".wh..wh.plnk")
                        .file(".wh..wh.plnk/1.2", "x")
                        .file(".wh..wh.aufs", "")
                        .end()
                },
                Contained(|layer| assert_eq!(fs::read_dir(layer).expect("a folder").count(), 0)),
            ),
            (
                "of what the layer itself has: hides what lies below only",
                |_| Tar::default().file("f", "1").file(".wh.f", "").file("d/x", "2").file(".wh.d", "").end(),
                Contained(|layer| {
                    holds(layer, "f", "1");
                    holds(layer, "d/x", "2");
                    assert!(attribute(layer, "d", "trusted.overlay.opaque").is_some());
                }),
            ),
            (
                "and then a folder of that name",
                |_| Tar::default().file(".wh.d", "").folder("d").file("d/x", "1").end(),
                Contained(|layer| {
                    holds(layer, "d/x", "1");
                    assert!(attribute(layer, "d", "trusted.overlay.opaque").is_some());
                }),
            ),
            (
                "and then something below it, without an entry for the folder",
                |_| Tar::default().file(".wh.d", "").file("d/e/x", "1").end(),
                Contained(|layer| {
                    holds(layer, "d/e/x", "1");
                    assert!(attribute(layer, "d", "trusted.overlay.opaque").is_some());
                }),
            ),
            (
                "twice, and then a file",
                |_| Tar::default().file(".wh.f", "").file(".wh.f", "").file("f", "1").end(),
                Contained(|layer| holds(layer, "f", "1")),
            ),
        ],
        &Limits::default(),
    );
}

#[test]
fn devices_are_left_out_and_false_whiteouts_refused() {
    let device = |kind, major, minor| {
        let mut raw = Raw::new(kind, b"dev");
        raw.device(major, minor);
        Tar::default().raw(&raw, b"").end()
    };
    for (kind, major, minor) in [(b'3', 1, 3), (b'4', 8, 0), (b'4', 0, 0), (b'3', 0, 1)] {
        let yard = Yard::new();
        let unpacked = yard.unpack(Cursor::new(device(kind, major, minor).0), &Limits::default());
        assert_eq!(unpacked.expect("accepted").devices, 1);
        absent(&yard.layer(), "dev");
    }
    let yard = Yard::new();
    let unpacked = yard.unpack(Cursor::new(device(b'3', 0, 0).0), &Limits::default());
    verdict("char 0/0", unpacked, Refused("whiteout"), &yard.layer());
}

#[test]
fn attributes_that_overlay_acts_on_are_not_taken() {
    let smuggled: fn(&Yard) -> Tar = |_| {
        let records: [(&str, &[u8]); 6] = [
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.metacopy", b""),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.selinux", b"x"),
            ("SCHILY.xattr.user.kept", b"v"),
        ];
        Tar::default().pax(&records).folder("d").pax(&records).file("f", "").end()
    };
    check(
        vec![(
            "smuggled",
            smuggled,
            Contained(|layer| {
                for path in ["d", "f"] {
                    for name in
                        ["trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.metacopy"]
                    {
                        assert_eq!(attribute(layer, path, name), None, "{path} {name}");
                    }
                    assert_eq!(attribute(layer, path, "user.overlay.opaque"), None);
                    assert_eq!(attribute(layer, path, "security.selinux"), None);
                    assert_eq!(attribute(layer, path, "user.kept").as_deref(), Some(&b"v"[..]));
                }
            }),
        )],
        &Limits::default(),
    );
}

#[test]
fn what_entries_say_is_done() {
    check(
        vec![
            (
                "setuid, owner, time, capability",
                |_| {
                    let mut raw = Raw::new(b'0', b"bin/su");
                    raw.mode(0o4755).owner(1000, 1001);
                    let capability = [&[1, 0, 0, 2][..], &[0; 16]].concat();
                    let tar = Tar::default().pax(&[("SCHILY.xattr.security.capability", &capability)]);
                    tar.raw(&raw, b"").end()
                },
                Contained(|layer| {
                    let su = at(layer, "bin/su");
                    assert_eq!(
                        (su.mode() & 0o7777, su.uid(), su.gid(), su.mtime()),
                        (0o4755, 1000, 1001, 1000)
                    );
                    assert!(attribute(layer, "bin/su", "security.capability").is_some());
                    assert_eq!(at(layer, "bin").mode() & 0o7777, 0o755);
                }),
            ),
            (
                "folders keep their time",
                |_| Tar::default().folder("d").file("d/x", "1").file("d/e/f", "2").file("y", "3").end(),
                Contained(|layer| assert_eq!(at(layer, "d").mtime(), 1000)),
            ),
            (
                "the layer's own folder",
                |_| {
                    let mut raw = Raw::new(b'5', b"./");
                    raw.mode(0o700).owner(7, 8);
                    Tar::default().raw(&raw, b"").file("x", "1").end()
                },
                Contained(|layer| {
                    let top = at(layer, "");
                    assert_eq!((top.mode() & 0o7777, top.uid(), top.gid(), top.mtime()), (0o700, 7, 8, 1000));
                }),
            ),
            (
                "symlinks as they are",
                |_| Tar::default().symlink("a", "/etc/x").symlink("b", "../../y").end(),
                Contained(|layer| {
                    assert_eq!(fs::read_link(layer.join("a")).expect("a link"), Path::new("/etc/x"));
                    assert_eq!(fs::read_link(layer.join("b")).expect("a link"), Path::new("../../y"));
                    assert_eq!(at(layer, "b").mtime(), 1000);
                }),
            ),
            (
                "fifos",
                |_| {
                    let mut raw = Raw::new(b'6', b"run/pipe");
                    raw.mode(0o622).owner(3, 4);
                    Tar::default().raw(&raw, b"").end()
                },
                Contained(|layer| {
                    let pipe = at(layer, "run/pipe");
                    assert_eq!((pipe.mode(), pipe.uid()), (libc::S_IFIFO | 0o622, 3));
                }),
            ),
            (
                "the last of several counts",
                |_| {
                    let tar = Tar::default().file("a", "1").file("a", "2").folder("b").file("b/c/d", "3");
                    tar.file("b", "4").file("c", "5").folder("c").file("c/x", "6").end()
                },
                Contained(|layer| {
                    holds(layer, "a", "2");
                    holds(layer, "b", "4");
                    holds(layer, "c/x", "6");
                }),
            ),
            (
                "a folder that comes twice keeps what is in it",
                |_| Tar::default().file("d/x", "1").folder("d").folder("d/").end(),
                Contained(|layer| {
                    holds(layer, "d/x", "1");
                    assert_eq!(at(layer, "d").mtime(), 1000);
                }),
            ),
            (
                "names that are no UTF-8, and long ones",
                |_| Tar::default().file(b"caf\xe9", "1").file("long/".repeat(30) + "x", "2").end(),
                Contained(|layer| {
                    let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
                    assert_eq!(fs::read(layer.join(name)).expect("there"), b"1");
                    holds(layer, &("long/".repeat(30) + "x"), "2");
                }),
            ),
            (
                "hard links",
                |_| Tar::default().file("d/a", "1").link("e/b", "d/a").link("c", "/d/a").end(),
                Contained(|layer| {
                    holds(layer, "e/b", "1");
                    assert_eq!((at(layer, "c").nlink(), at(layer, "c").ino()), (3, at(layer, "d/a").ino()));
                }),
            ),
            (
                "entries through the layer's own symlinks",
                |_| Tar::default().folder("usr/lib").symlink("lib", "usr/lib").file("lib/x", "1").end(),
                Contained(|layer| {
                    holds(layer, "usr/lib/x", "1");
                    assert!(at(layer, "lib").is_symlink());
                }),
            ),
            (
                "a deep tree goes at once",
                |_| {
                    let tar =
                        Tar::default().file("t/".repeat(150) + "x", "1").file(".lifted-1/.lifted-1/a", "2");
                    let tar = tar.file("t/.lifted-1/y/z", "3").file("t/t/.lifted-2/y", "3");
                    tar.file("t", "4").end()
                },
                Contained(|layer| {
                    holds(layer, "t", "4");
                    holds(layer, ".lifted-1/.lifted-1/a", "2");
                    assert_eq!(fs::read_dir(layer).expect("a folder").count(), 2);
                }),
            ),
        ],
        &Limits::default(),
    );
}

#[test]
fn holes_stay_holes() {
    let old: fn(&Yard) -> Tar = |_| {
        let mut raw = Raw::new(b'S', b"hole");
        raw.set(386, b"00000000000\x0000000000002\0").set(410, b"00000001000\x0000000000003\0");
        raw.set(483, b"00004000000\0").size(5);
        Tar::default().raw(&raw, b"abcde").file("after", "1").end()
    };
    let new: fn(&Yard) -> Tar = |_| {
        let tar = Tar::default().pax(&[("GNU.sparse.size", b"1048576"), ("GNU.sparse.map", b"0,2,512,3")]);
        tar.file("hole", "abcde").file("after", "1").end()
    };
    let newest: fn(&Yard) -> Tar = |_| {
        let records: [(&str, &[u8]); 4] = [
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"1048576"),
            ("GNU.sparse.name", b"hole"),
        ];
        let map = format!("{:\0<512}abcde", "2\n0\n2\n512\n3\n");
        Tar::default().pax(&records).file("GNUSparseFile.0/hole", &map).file("after", "1").end()
    };
    let look: fn(&Path) = |layer| {
        holds(layer, "after", "1");
        let contents = fs::read(layer.join("hole")).expect("a file");
        assert_eq!(
            (contents.len(), &contents[..3], &contents[511..516]),
            (1 << 20, &b"ab\0"[..], &b"\0cde\0"[..])
        );
        assert!(at(layer, "hole").blocks() < 64);
    };
    check(
        vec![("old", old, Contained(look)), ("0.1", new, Contained(look)), ("1.0", newest, Contained(look))],
        &Limits::default(),
    );
}

#[test]
fn the_digest_is_of_every_byte() {
    use sha2::Digest as _;
    let mut tar = Tar::default().file("a", "text").end().0;
    tar.extend_from_slice(&[0; 9000]);
    tar.extend_from_slice(b"and more");
    let yard = Yard::new();
    let unpacked = yard.unpack(Cursor::new(&tar), &Limits::default()).expect("accepted");
    assert_eq!(unpacked.diff_id.0, format!("sha256:{:x}", sha2::Sha256::digest(&tar)));
    assert_eq!((unpacked.bytes, unpacked.entries), (tar.len() as u64, 1));
}

/// A full disk has an error of its own. A tmpfs of 64 KiB, in a mount namespace of this thread's own.
#[test]
fn a_full_disk_is_said() {
    use nix::{mount, sched};
    std::thread::spawn(|| {
        let folder = tempfile::tempdir().expect("a folder");
        sched::unshare(sched::CloneFlags::CLONE_FS | sched::CloneFlags::CLONE_NEWNS).expect("root");
        let flags = mount::MsFlags::MS_REC | mount::MsFlags::MS_PRIVATE;
        mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).expect("root");
        let flags = mount::MsFlags::empty();
        mount::mount(Some("tmpfs"), folder.path(), Some("tmpfs"), flags, Some("size=64k")).expect("a tmpfs");
        let tar = Tar::default().file("big", &"x".repeat(1 << 20)).end().0;
        let error = unpack(Cursor::new(tar), folder.path(), &Limits::default()).expect_err("it is full");
        assert!(matches!(error, Error::Full { .. }), "{error:?}");
        assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
        mount::umount(folder.path()).expect("mounted");
    })
    .join()
    .expect("nothing went wrong");
}
