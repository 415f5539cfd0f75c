//! Layers that nobody should accept, and odd ones that everybody must: each is refused for the right reason or stays
//! within its folder. After each, what lies beside the folder is what it was: contents, modes, owners, times, links.

use std::{
    fs,
    io::{Cursor, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use super::{Error, Limits, Unpacked, unpack};

mod bombs;
mod escapes;
mod shapes;
mod tars;

use tars::{Raw, Tar};

/// A folder for a layer, and what must not change beside it.
struct Yard {
    folder: tempfile::TempDir,
    before: Vec<Fact>,
}

/// What is known of a file that must not change.
#[derive(Debug, PartialEq, Eq)]
struct Fact {
    path: PathBuf,
    kind: u32,
    owner: (u32, u32),
    links: u64,
    inode: u64,
    modified: (i64, i64),
    contents: Vec<u8>,
}

/// What is to become of a layer.
enum Expected {
    /// An entry is refused, for a reason with these words.
    Refused(&'static str),
    /// It is over a limit: of these.
    TooLarge(&'static str),
    /// It is no tar.
    Damaged(&'static str),
    /// It is unpacked, and then this holds of its folder.
    Contained(fn(&Path)),
}

use Expected::{Contained, Damaged, Refused, TooLarge};

impl Yard {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let canary = folder.path().join("canary");
        fs::create_dir_all(canary.join("sub")).expect("a folder");
        fs::create_dir(folder.path().join("layer")).expect("a folder");
        for (name, mode) in [("file", 0o640), ("sub/inner", 0o4711), ("sub/x", 0o600)] {
            fs::write(canary.join(name), name).expect("a file");
            fs::set_permissions(canary.join(name), PermissionsExt::from_mode(mode)).expect("a mode");
        }
        symlink("file", canary.join("link")).expect("a link");
        let mut yard = Self { folder, before: Vec::new() };
        yard.before = yard.facts();
        yard
    }

    fn layer(&self) -> PathBuf {
        self.folder.path().join("layer")
    }

    fn canary(&self) -> PathBuf {
        self.folder.path().join("canary")
    }

    /// Unpacks a tar and looks whether everything else is as it was.
    fn unpack(&self, tar: impl Read, limits: &Limits) -> Result<Unpacked, Error> {
        let unpacked = unpack(tar, &self.layer(), limits);
        assert_eq!(self.facts(), self.before, "something outside the layer's folder changed");
        unpacked
    }

    fn facts(&self) -> Vec<Fact> {
        let mut facts = vec![fact(Path::new("/etc/passwd")), fact(Path::new("/etc")), fact(Path::new("/"))];
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path == self.layer() {
                    continue;
                }
                facts.push(fact(&path));
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                }
            }
        }
        facts.sort_by(|a, b| a.path.cmp(&b.path));
        facts
    }
}

fn fact(path: &Path) -> Fact {
    let found = fs::symlink_metadata(path).expect("what was there is there");
    let contents = if found.is_file() {
        fs::read(path).expect("readable")
    } else if found.is_symlink() {
        fs::read_link(path).expect("readable").as_os_str().as_bytes().to_vec()
    } else {
        Vec::new()
    };
    Fact {
        path: path.to_owned(),
        kind: found.mode(),
        owner: (found.uid(), found.gid()),
        links: found.nlink(),
        inode: found.ino(),
        modified: (found.mtime(), found.mtime_nsec()),
        contents,
    }
}

/// A row of these tests: what it is, the tar, and what is to become of it.
type Row = (&'static str, fn(&Yard) -> Tar, Expected);

fn check(rows: Vec<Row>, limits: &Limits) {
    for (what, tar, expected) in rows {
        let yard = Yard::new();
        let unpacked = yard.unpack(Cursor::new(tar(&yard).0), limits);
        verdict(what, unpacked, expected, &yard.layer());
    }
}

fn verdict(what: &str, unpacked: Result<Unpacked, Error>, expected: Expected, layer: &Path) {
    match (unpacked, expected) {
        (Err(Error::Refused { why, .. }), Refused(words)) if why.contains(words) => {}
        (Err(Error::TooLarge { what, .. }), TooLarge(words)) if what.contains(words) => {}
        (Err(Error::Damaged { why, .. }), Damaged(words)) if why.contains(words) => {}
        (Ok(_), Contained(holds)) => {
            eprintln!("{what}");
            holds(layer);
        }
        (Ok(unpacked), _) => panic!("{what}: was accepted: {unpacked:?}"),
        (Err(error), _) => panic!("{what}: {error} ({error:?})"),
    }
}

/// What lies at a path of a layer, which is not followed.
fn at(layer: &Path, path: &str) -> fs::Metadata {
    let path = layer.join(path);
    fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn absent(layer: &Path, path: &str) {
    assert!(fs::symlink_metadata(layer.join(path)).is_err(), "there is a {path}");
}

fn holds(layer: &Path, path: &str, text: &str) {
    let found = at(layer, path);
    assert!(found.is_file(), "{path} is no file");
    assert_eq!(fs::read(layer.join(path)).expect("readable"), text.as_bytes(), "{path}");
}

fn is_whiteout(layer: &Path, path: &str) -> bool {
    let found = at(layer, path);
    found.mode() & libc::S_IFMT == libc::S_IFCHR && found.rdev() == 0
}

/// An extended attribute of a file or folder.
#[expect(unsafe_code, reason = "there is no getxattr without it")]
fn attribute(layer: &Path, path: &str, name: &str) -> Option<Vec<u8>> {
    let path = std::ffi::CString::new(layer.join(path).as_os_str().as_bytes()).expect("no NUL");
    let name = std::ffi::CString::new(name).expect("no NUL");
    let mut value = vec![0u8; 4096];
    // SAFETY: both strings end in a NUL, and the buffer is as long as is said.
    let got =
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(got).ok()?);
    Some(value)
}
