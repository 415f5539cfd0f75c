//! Reads recordings from files, plain or compressed (`.gz`, `.bz2`). `[IO]`

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use anyhow::Context;

use super::{
    Shape,
    language::{self, Load},
    trace::{Options, Profile},
};

/// Bytes of text at most, unpacked.
const MOST: u64 = 2 << 30;

/// Reads a shape, and the files that it names.
pub fn load(text: &str) -> Result<Load, language::Invalid> {
    language::parse(text, |file, options| {
        trace(Path::new(file), options).map(Arc::new).map_err(|error| format!("{error:#}"))
    })
}

/// Reads a shape of the open kind, and the files that it names.
pub fn shape(text: &str) -> Result<Shape, language::Invalid> {
    load(text)?.open(text)
}

/// Reads a recording.
pub fn trace(path: &Path, options: &Options) -> anyhow::Result<Profile> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
    let packed: Box<dyn Read> = match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some("bz2") => Box::new(bzip2::read::MultiBzDecoder::new(file)),
        _ => Box::new(file),
    };
    let text = all(packed).with_context(|| format!("cannot read {shown}"))?;
    Profile::parse(&text, options).with_context(|| format!("{shown} is no recording"))
}

fn all(file: impl Read) -> io::Result<String> {
    let mut text = String::new();
    file.take(MOST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn packed_and_plain_files_say_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = b"3 4 0 5\n";
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("t.txt"), text).expect("written");
        let mut gz = flate2::write::GzEncoder::new(
            File::create(at("t.gz")).expect("a file"),
            flate2::Compression::fast(),
        );
        gz.write_all(text).and_then(|()| gz.finish()).expect("written");
        let mut bz = bzip2::write::BzEncoder::new(
            File::create(at("t.bz2")).expect("a file"),
            bzip2::Compression::fast(),
        );
        bz.write_all(text).and_then(|()| bz.finish()).expect("written");
        for name in ["t.txt", "t.gz", "t.bz2"] {
            let profile = trace(&at(name), &Options::default()).expect(name);
            assert_eq!(profile.requests(), 12.0, "{name}");
        }
        let shape = shape(&format!("trace \"{}\" scale=2", at("t.gz").display())).expect("a shape");
        assert_eq!(shape.requests(), 24.0);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = shape("const 5 1s | trace /nowhere.csv").expect_err("no file");
        assert_eq!(error.column, 20);
        assert!(error.to_string().contains("cannot open /nowhere.csv"), "{error}");
    }
}
