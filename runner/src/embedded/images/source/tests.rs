//! Images in files as tools write them, and as nobody should.

use std::{fs, io::Write, path::PathBuf};

use serde_json::{Value, json};

use super::{
    super::{places::sha256, reference::Reference, unpack::decompress},
    platform::Platform,
    *,
};

/// A folder in which an image is put together.
struct Bench(tempfile::TempDir);

/// What the one layer of these images has in it.
const LAYER: &[u8] = b"the tar of a layer";

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("image/blobs/sha256")).expect("a folder");
        fs::create_dir_all(folder.path().join("scratch")).expect("a folder");
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("image")
    }

    fn put(&self, name: &str, bytes: &[u8]) -> &Self {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
        fs::write(path, bytes).expect("a file");
        self
    }

    fn blob(&self, bytes: &[u8]) -> Value {
        let digest = sha256(bytes).0;
        self.put(&digest.replace("sha256:", "blobs/sha256/"), bytes);
        json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": bytes.len()})
    }

    fn json(&self, value: &Value) -> Value {
        self.blob(value.to_string().as_bytes())
    }

    /// A manifest, told apart by a label.
    fn image(&self, label: &str) -> Value {
        let layer = self.blob(&gzip(LAYER));
        let config = self.json(&config(label));
        self.json(&json!({"schemaVersion": 2, "config": config, "layers": [layer]}))
    }

    fn index(&self, manifests: &[Value]) {
        self.put("index.json", json!({"schemaVersion": 2, "manifests": manifests}).to_string().as_bytes());
    }

    fn tar(&self, compressed: bool) {
        let mut tar = tar::Builder::new(Vec::new());
        tar.follow_symlinks(false);
        tar.append_dir_all(".", self.path()).expect("a tar");
        let bytes = tar.into_inner().expect("a tar");
        let bytes = if compressed { gzip(&bytes) } else { bytes };
        fs::write(self.0.path().join("image.tar"), bytes).expect("a file");
    }

    fn open(&self, reference: &str) -> Result<Box<dyn Source>, Error> {
        let folder = self.0.path().display().to_string();
        let reference = Reference::parse(&reference.replace("HERE", &folder)).expect("a reference");
        open(&reference, &self.0.path().join("scratch"))
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes it")
}

fn config(label: &str) -> Value {
    let here = Platform::here();
    let rootfs = json!({"type": "layers", "diff_ids": [sha256(LAYER).0]});
    json!({"architecture": here.architecture, "os": "linux", "config": {"User": label}, "rootfs": rootfs})
}

fn with(manifest: &Value, more: &Value) -> Value {
    let mut manifest = manifest.clone();
    for (key, value) in more.as_object().expect("an object") {
        manifest[key] = value.clone();
    }
    manifest
}

fn named(manifest: &Value, name: &str) -> Value {
    with(manifest, &json!({"annotations": {"org.opencontainers.image.ref.name": name}}))
}

fn on(manifest: &Value, architecture: &str) -> Value {
    with(manifest, &json!({"platform": {"os": "linux", "architecture": architecture}}))
}

/// Which image it is, by its label; its layer is read, too.
fn label(source: &dyn Source) -> Result<String, String> {
    let found = source.image();
    assert_eq!(sha256(&found.config), found.id);
    for layer in &found.layers {
        let stored = source.open(layer).map_err(|e| e.to_string())?;
        let mut tar = Vec::new();
        decompress(stored)
            .and_then(|mut tar_reader| tar_reader.read_to_end(&mut tar))
            .map_err(|e| e.to_string())?;
        assert_eq!(sha256(&tar), layer.diff_id);
    }
    let config: Value = serde_json::from_slice(&found.config).expect("JSON");
    Ok(config["config"]["User"].as_str().expect("a label").to_owned())
}

fn check(bench: &Bench, reference: &str, expected: Result<&str, &str>) {
    let found = bench.open(reference).map_err(|e| e.to_string()).and_then(|source| label(&*source));
    match (&found, expected) {
        (Ok(found), Ok(expected)) if found == expected => {}
        (Err(found), Err(words)) if found.contains(words) => {}
        _ => panic!("{reference}: {found:?}, expected {expected:?}"),
    }
}

#[test]
fn layouts_and_their_tars() {
    let bench = Bench::new();
    let (one, two) = (bench.image("one"), bench.image("two"));
    bench.index(&[named(&one, "1.0"), named(&two, "example.org/app:2.0")]);
    for (tarred, compressed, prefix) in [
        (false, false, "oci:HERE/image"),
        (true, false, "oci-archive:HERE/image.tar"),
        (true, true, "oci-archive:HERE/image.tar"),
    ] {
        if tarred {
            bench.tar(compressed);
        }
        check(&bench, &format!("{prefix}:1.0"), Ok("one"));
        check(&bench, &format!("{prefix}:2.0"), Ok("two"));
        check(&bench, &format!("{prefix}:example.org/app:2.0"), Ok("two"));
        check(&bench, &format!("{prefix}@{}", two["digest"].as_str().expect("text")), Ok("two"));
        check(&bench, prefix, Err("name one of 1.0, example.org/app:2.0"));
        check(&bench, &format!("{prefix}:3.0"), Err("no such image in it, but 1.0"));
    }
    let left = fs::read_dir(bench.0.path().join("scratch")).expect("a folder").count();
    assert_eq!(left, 0, "what was unpacked is left");
}

#[test]
fn images_for_several_machines() {
    let here = Platform::here().architecture;
    let bench = Bench::new();
    let (mine, other) = (bench.image("mine"), bench.image("other"));
    let index =
        bench.json(&json!({"schemaVersion": 2, "manifests": [on(&other, "other"), on(&mine, &here)]}));
    let foreign = bench.json(&json!({"schemaVersion": 2, "manifests": [on(&other, "pdp11")]}));
    let nested = bench.json(&json!({"schemaVersion": 2, "manifests": [on(&index, &here)]}));
    for (manifests, expected) in [
        (vec![index.clone()], Ok("mine")),
        (vec![nested], Ok("mine")),
        (vec![on(&other, "other"), on(&mine, &here)], Ok("mine")),
        (vec![foreign], Err("only for linux/pdp11")),
        (vec![on(&other, "pdp11"), on(&other, "vax")], Err("linux/pdp11, linux/vax")),
        (vec![mine.clone()], Ok("mine")),
        (vec![], Err("no image in it")),
        (vec![mine.clone(), other.clone()], Err("platform")),
    ] {
        bench.index(&manifests);
        check(&bench, "oci:HERE/image", expected);
    }
}

#[test]
fn layouts_that_lie() {
    let bench = Bench::new();
    let image = bench.image("one");
    let (config, layer) = (bench.json(&config("one")), bench.blob(&gzip(LAYER)));
    let of = |layers: &[&Value], config: &Value| {
        bench.json(&json!({"schemaVersion": 2, "config": config, "layers": layers}))
    };
    let mut outside = config.clone();
    outside["digest"] = "sha256:../../../../../../etc/passwd".into();
    let mut absent = layer.clone();
    absent["digest"] = sha256(b"absent").0.into();
    let mut long = layer.clone();
    long["size"] = 1.into();
    let mut huge = config.clone();
    huge["size"] = (1u64 << 40).into();
    for (manifest, words) in [
        (of(&[&layer], &outside), "not a digest"),
        (of(&[&absent], &config), "missing"),
        (of(&[&long], &config), "not 1"),
        (of(&[&layer], &huge), "bytes"),
        (of(&[&layer, &layer], &config), "2 layers"),
        (of(&[], &config), "0 layers"),
        (bench.blob(b"{}"), "manifest"),
        (bench.blob(b"no json"), "not understood"),
    ] {
        bench.index(&[manifest]);
        check(&bench, "oci:HERE/image", Err(words));
    }
    let digest = image["digest"].as_str().expect("text").to_owned();
    for digest in [digest, layer["digest"].as_str().expect("text").to_owned()] {
        let bench = Bench::new();
        bench.index(&[bench.image("one")]);
        let path = bench.path().join(digest.replace("sha256:", "blobs/sha256/"));
        let mut bytes = fs::read(&path).expect("the blob");
        bytes[5] ^= 1;
        fs::write(path, bytes).expect("a file");
        check(&bench, "oci:HERE/image", Err("not what its digest says"));
    }
    bench.put("index.json", b"[]]");
    check(&bench, "oci:HERE/image", Err("not understood"));
    check(&bench, "oci:HERE/none", Err("no index.json"));
    check(&bench, "oci-archive:HERE/none.tar", Err("cannot open"));
}

/// An index that leads to itself cannot be made; one that leads to others, often enough, can.
#[test]
fn indexes_without_end() {
    let bench = Bench::new();
    let here = Platform::here().architecture;
    let chain = (0..20).fold(bench.image("deep"), |inner, _| {
        bench.json(&json!({"schemaVersion": 2, "manifests": [on(&inner, &here)]}))
    });
    bench.index(&[chain]);
    check(&bench, "oci:HERE/image", Err("indexes lead to indexes"));
}

#[test]
fn what_docker_saves() {
    let bench = Bench::new();
    for label in ["old", "new"] {
        bench.put(&format!("{label}.json"), config(label).to_string().as_bytes());
    }
    bench.put("aaaa/layer.tar", LAYER).put("blobs/sha256/bbbb", &gzip(LAYER));
    fs::create_dir(bench.path().join("cccc")).expect("a folder");
    std::os::unix::fs::symlink("../aaaa/layer.tar", bench.path().join("cccc/layer.tar")).expect("a link");
    let item = |label: &str, tags: Value, layer: &str| json!({"Config": format!("{label}.json"), "RepoTags": tags, "Layers": [layer]});
    let old = item("old", json!(["app:1", "localhost:5000/app:1"]), "aaaa/layer.tar");
    let linked = item("old", json!(null), "cccc/layer.tar");
    let new = item("new", json!(["app:2"]), "blobs/sha256/bbbb");
    let id = sha256(config("new").to_string().as_bytes()).0;
    let by_id = format!("docker-archive:HERE/image.tar@{id}");
    let absent = item("new", json!(null), "dddd/layer.tar");
    let escape = item("new", json!(null), "../../../../../etc/passwd");
    for (items, reference, expected) in [
        (json!([old]), "docker-archive:HERE/image.tar", Ok("old")),
        (json!([new]), "docker-archive:HERE/image.tar", Ok("new")),
        (json!([linked]), "docker-archive:HERE/image.tar", Ok("old")),
        (json!([old, new]), "docker-archive:HERE/image.tar", Err("app:1, localhost:5000/app:1, app:2")),
        (json!([old, new]), "docker-archive:HERE/image.tar:docker.io/library/app:2", Ok("new")),
        (json!([old, new]), "docker-archive:HERE/image.tar:localhost:5000/app:1", Ok("old")),
        (json!([old, new]), "docker-archive:HERE/image.tar:app:3", Err("no such image")),
        (json!([old, new]), &by_id, Ok("new")),
        (json!([]), "docker-archive:HERE/image.tar", Err("no image in it")),
        (json!([absent]), "docker-archive:HERE/image.tar", Err("dddd/layer.tar is missing")),
        (json!([escape]), "docker-archive:HERE/image.tar", Err("passwd is missing")),
        (json!({}), "docker-archive:HERE/image.tar", Err("not understood")),
    ] {
        bench.put("manifest.json", items.to_string().as_bytes());
        for compressed in [false, true] {
            bench.tar(compressed);
            check(&bench, reference, expected);
        }
    }
    fs::remove_file(bench.path().join("manifest.json")).expect("it was there");
    bench.tar(false);
    check(&bench, "docker-archive:HERE/image.tar", Err("no manifest.json"));
}

#[test]
fn archives_that_are_none() {
    let bench = Bench::new();
    let file = bench.0.path().join("image.tar");
    let mut header = tar::Header::new_gnu();
    header.set_path("index.json").expect("a name");
    header.set_size(1 << 60);
    header.set_cksum();
    let mut link = tar::Header::new_gnu();
    link.set_path("index.json").expect("a name");
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_link_name("index.json").expect("a name");
    link.set_size(0);
    link.set_cksum();
    let mut long = tar::Header::new_gnu();
    long.set_entry_type(tar::EntryType::GNULongName);
    long.set_size(1 << 20);
    long.set_cksum();
    let long = [&long.as_bytes()[..], &vec![b'x'; 1 << 20]].concat();
    for (bytes, words) in [
        (b"garbage".repeat(200), "checksum"),
        (header.as_bytes().to_vec(), "shorter than its entries say"),
        (link.as_bytes().to_vec(), "a link to a link"),
        (long, "limit"),
        (Vec::new(), "no index.json"),
        (gzip(b"short"), "no index.json"),
        (gzip(LAYER)[..20].to_vec(), "cannot unpack"),
    ] {
        fs::write(&file, bytes).expect("a file");
        check(&bench, "oci-archive:HERE/image.tar", Err(words));
    }
}
