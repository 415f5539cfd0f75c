//! What both fuzz targets do with a layer: unpack it, and look whether anything beside its folder changed.
//! The unpacking is the runner's own source; the rest of the runner is not built for it.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, symlink},
    path::{Path, PathBuf},
    sync::OnceLock,
};

#[path = "../../src/embedded/images/unpack/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the runner uses more of it")]
mod unpack;

use unpack::{Limits, decompress};

/// What is looked at before and after.
type Fact = (PathBuf, [u64; 6], [i64; 2], Vec<u8>);

/// Where layers are unpacked, and what lies beside them.
struct Yard {
    folder: PathBuf,
    before: Vec<Fact>,
}

/// What a hostile layer would like to reach: every run has it at the same place, so that inputs can be run again.
pub const CANARY: &str = "/dev/shm/tidegate-fuzz/canary";

static YARD: OnceLock<Yard> = OnceLock::new();

/// Unpacks a layer. Panics if anything outside its folder changed, or if there is what no layer may have.
pub fn layer(bytes: Vec<u8>) {
    let yard = YARD.get_or_init(Yard::new);
    let layer = yard.folder.join("layer");
    let _ = fs::remove_dir_all(&layer);
    fs::create_dir(&layer).expect("a folder in memory");
    let limits = Limits {
        bytes: 1 << 20,
        entries: 500,
        extended: 16 << 10,
        trailing: 64 << 10,
        depth: 24,
        ..Limits::default()
    };
    if let Ok(tar) = decompress(std::io::Cursor::new(bytes)) {
        // What becomes of it is not the question.
        let _ = unpack::unpack(tar, &layer, &limits);
    }
    assert_eq!(yard.facts(), yard.before, "something outside the layer's folder changed");
    look(&layer);
}

impl Yard {
    fn new() -> Self {
        let canary = Path::new(CANARY);
        let shared = canary.parent().expect("it has one");
        let folder = shared.join(std::process::id().to_string());
        fs::create_dir_all(canary.join("sub")).expect("a folder in memory");
        fs::create_dir_all(&folder).expect("a folder in memory");
        for name in ["file", "sub/a"] {
            if !canary.join(name).exists() {
                fs::write(canary.join(name), name).expect("a file in memory");
            }
        }
        // The same by a way that starts at the layer's folder.
        let _ = symlink(canary, folder.join("canary"));
        let mut yard = Self { folder, before: Vec::new() };
        yard.before = yard.facts();
        yard
    }

    fn facts(&self) -> Vec<Fact> {
        let canary = Path::new(CANARY);
        let mut facts: Vec<Fact> = ["/", "/etc", "/etc/passwd"].map(|path| fact(Path::new(path))).into();
        for path in ["", "file", "sub", "sub/a"] {
            facts.push(fact(&canary.join(path)));
        }
        facts.push(fact(&self.folder.join("canary")));
        let entries = fs::read_dir(&self.folder).expect("a folder in memory");
        let names = entries.map(|entry| entry.expect("an entry").path());
        let mut names: Vec<PathBuf> = names.filter(|path| !path.ends_with("layer")).collect();
        names.sort();
        facts.extend(names.into_iter().map(|path| (path, [0; 6], [0; 2], Vec::new())));
        facts
    }
}

fn fact(path: &Path) -> Fact {
    let found = fs::symlink_metadata(path).expect("what was there is there");
    let (mode, user, group) = (found.mode().into(), found.uid().into(), found.gid().into());
    let numbers = [mode, user, group, found.nlink(), found.ino(), found.size()];
    let contents = if found.is_file() { fs::read(path).expect("readable") } else { Vec::new() };
    (path.to_owned(), numbers, [found.mtime(), found.mtime_nsec()], contents)
}

/// Only whiteouts are devices, and nothing lies too deep.
fn look(layer: &Path) {
    let mut folders = vec![(layer.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        assert!(depth <= 26, "{} is too deep", folder.display());
        for entry in fs::read_dir(&folder).expect("a folder in memory") {
            let path = entry.expect("an entry").path();
            let found = fs::symlink_metadata(&path).expect("what was there is there");
            let kind = found.file_type();
            assert!(!kind.is_block_device() && !kind.is_socket(), "{} is a device", path.display());
            assert!(!kind.is_char_device() || found.rdev() == 0, "{} is a device", path.display());
            if kind.is_dir() {
                folders.push((path, depth + 1));
            }
        }
    }
}
