//! An image of nothing but a static busybox (Debian: busybox-static), as `docker save` writes it.

/// Where busybox is, here and in the image.
pub(crate) const BUSYBOX: &str = "/bin/busybox";

/// The archive of an image with this name.
pub(crate) fn archive(name: &str) -> Vec<u8> {
    let busybox =
        std::fs::read(BUSYBOX).expect("this suite needs /bin/busybox: apt-get install busybox-static");
    let layer = tar(&[("bin/busybox", &busybox, 0o755)], &["tmp", "proc", "dev", "etc"]);
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"ExposedPorts": {"8080/tcp": {}}, "Cmd": [BUSYBOX, "sleep", "3600"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let (config, manifest) = (config.to_string(), manifest.to_string());
    tar(
        &[
            ("layer.tar", &layer, 0o644),
            ("config.json", config.as_bytes(), 0o644),
            ("manifest.json", manifest.as_bytes(), 0o644),
        ],
        &[],
    )
}

fn tar(files: &[(&str, &[u8], u32)], folders: &[&str]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, data: &[u8], mode, kind| {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(mode);
        header.set_entry_type(kind);
        builder.append_data(&mut header, path, data).expect("it fits");
    };
    for folder in folders {
        add(folder, &[], if *folder == "tmp" { 0o1777 } else { 0o755 }, tar::EntryType::Directory);
    }
    for (path, data, mode) in files {
        add(path, data, *mode, tar::EntryType::Regular);
    }
    builder.into_inner().expect("written to memory")
}

fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(bytes);
    format!("sha256:{}", hash.iter().map(|b| format!("{b:02x}")).collect::<String>())
}
