//! Reads recordings from files, plain or packed (gzip, bzip2). `[IO]`

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::Arc,
};

use anyhow::Context;

use super::{
    Shape,
    language::{self, Load},
    recording::{self, Options, Recording},
    trace::Profile,
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

/// Reads a recording, all its callers together; - is standard input.
pub fn trace(path: &Path, options: &Options) -> anyhow::Result<Profile> {
    let text = text(path)?;
    recording::profile(&text, options).with_context(|| unusable(path))
}

/// Reads a recording with each of its callers apart; - is standard input.
pub fn recordings(path: &Path, options: &Options) -> anyhow::Result<Vec<Recording>> {
    let text = text(path)?;
    recording::each(&text, options).with_context(|| unusable(path))
}

fn unusable(path: &Path) -> String {
    format!("cannot use {} as a recording", path.display())
}

fn text(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    if path == Path::new("-") {
        return unpacked(io::stdin().lock()).context("cannot read standard input");
    }
    let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
    unpacked(BufReader::new(file)).with_context(|| format!("cannot read {shown}"))
}

/// The whole text. What is packed is known by its first bytes, whatever the file is called.
fn unpacked(mut file: impl BufRead) -> io::Result<String> {
    let begin = file.fill_buf()?;
    if begin.starts_with(&[0xff, 0xfe]) || begin.starts_with(&[0xfe, 0xff]) {
        return Err(io::Error::other("its text is UTF-16; save it as UTF-8"));
    }
    if begin.starts_with(&[0x1f, 0x8b]) {
        all(flate2::bufread::MultiGzDecoder::new(file))
    } else if begin.starts_with(b"BZh") {
        all(bzip2::bufread::MultiBzDecoder::new(file))
    } else {
        all(file)
    }
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
    use crate::plan::{Plan, Process};

    #[test]
    fn packed_and_plain_files_say_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "3 4 0 5\n";
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("t.txt"), text).expect("written");
        let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        std::fs::write(at("t.gz"), filled(gz, text).finish().expect("packed")).expect("written");
        std::fs::write(at("t.bz2"), filled(bz, text).finish().expect("packed")).expect("written");
        std::fs::copy(at("t.gz"), at("packed")).expect("copied");
        for name in ["t.txt", "t.gz", "t.bz2", "packed"] {
            let profile = trace(&at(name), &Options::default()).expect(name);
            assert_eq!(profile.requests(), 12.0, "{name}");
        }
        let shape = shape(&format!("trace \"{}\" scale=2", at("t.gz").display())).expect("a shape");
        assert_eq!(shape.requests(), 24.0);
    }

    /// The forms of two public traces: calls of functions per minute, and requests of a web server per second.
    #[test]
    fn packed_counts_become_plans() {
        const PER_MINUTE: &str = "HashOwner,HashFunction,Trigger,1,2,3,4,Average,Count,Minimum\n\
            a1b2,c3d4,timer,1,0,0,1,23,2,11\ne5f6,0718,http,30,0,120,9,180,159,3\n";
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        std::fs::write(at("minutes.csv.gz"), filled(gz, PER_MINUTE).finish().expect("packed"))
            .expect("written");
        std::fs::write(at("seconds.txt.bz2"), filled(bz, "0 3 1 0 0 20\n").finish().expect("packed"))
            .expect("written");
        // Requests in each second of the plan.
        for (text, length_ms, counts) in [
            ("trace minutes.csv.gz speed=60x", 4000, vec![31, 0, 120, 10]),
            ("trace minutes.csv.gz row=1 speed=60x", 4000, vec![1, 0, 0, 1]),
            ("trace minutes.csv.gz scale=0.1 speed=60x from=2m for=2m", 2000, vec![12, 1]),
            ("trace seconds.txt.bz2", 6000, vec![0, 3, 1, 0, 0, 20]),
            ("trace seconds.txt.bz2 scale=2 from=5s", 1000, vec![40]),
        ] {
            let text = text.replace("trace ", &format!("trace {}/", folder.path().display()));
            let plan = Plan::new(shape(&text).expect(&text), Process::Scatter, 1).expect("valid");
            let mut found = vec![0; counts.len()];
            plan.instants().for_each(|at| found[at.as_secs() as usize] += 1);
            assert_eq!((found, plan.duration().as_millis()), (counts, length_ms), "{text}");
        }
        let apart = recordings(&at("minutes.csv.gz"), &Options::default()).expect("both");
        let found: Vec<_> =
            apart.iter().map(|one| (one.profile.requests(), one.mean.map(|mean| mean.as_millis()))).collect();
        assert_eq!(found, [(2.0, Some(23)), (159.0, Some(180))]);
    }

    fn filled<W: Write>(mut file: W, text: &str) -> W {
        file.write_all(text.as_bytes()).expect("room");
        file
    }

    #[test]
    fn text_that_is_not_utf_8_is_told_what_to_be() {
        for wide in [[0xff, 0xfe, b'3', 0], [0xfe, 0xff, 0, b'3']] {
            let error = unpacked(&wide[..]).expect_err("not UTF-8");
            assert_eq!(error.to_string(), "its text is UTF-16; save it as UTF-8");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = shape("const 5 1s | trace /nowhere.csv").expect_err("no file");
        assert_eq!(error.column, 20);
        assert!(error.to_string().contains("cannot open /nowhere.csv"), "{error}");
    }

    #[test]
    fn a_part_without_requests_is_told_apart_from_no_recording() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("t.txt");
        std::fs::write(&file, "3 4 0 5\n").expect("written");
        let text = format!("trace {} from=2s for=1s", file.display());
        let said = format!("cannot use {} as a recording: no request came between 2s and 3s", file.display());
        let error = shape(&text).expect_err("a pause").to_string();
        assert!(error.contains(&said), "{error}");
    }
}
