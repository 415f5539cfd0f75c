//! Images that are not ours: packages as Debian installed them on this machine, with all that they depend on, packed the way
//! official images are and written as a docker-archive. Made once per set of package versions, below the target folder.
//!
//! What maintainers' scripts would have made (users, folders) is in the [`Recipe`]. Absent: anything that Tidegate would need.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Component, Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};

/// What only maintainers' scripts need, and what would make every image large for nothing.
const LEFT_OUT: &[&str] = &[
    "adduser",
    "debconf",
    "debianutils",
    "dpkg",
    "init-system-helpers",
    "iproute2",
    "lsb-base",
    "passwd",
    "perl-base",
    "sysvinit-utils",
    "tar",
    "tzdata",
];

/// What slim images leave out as well.
const NO_DOCUMENTS: &[&str] = &[
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bug",
    "usr/share/perl5",
    "usr/share/bash-completion",
    "usr/share/applications",
    "usr/share/pixmaps",
    "usr/share/doc-base",
    "etc/init.d",
    "lib/systemd",
    "usr/lib/systemd",
];

/// The folders of a merged /usr, which packages still name by their old names.
const MERGED: &[(&str, &str)] = &[
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("lib32", "usr/lib32"),
];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n\
    redis:x:999:999::/var/lib/redis:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";

const GROUP: &str = "root:x:0:\nadm:x:4:\ntty:x:5:\nwww-data:x:33:\nredis:x:999:\nnogroup:x:65534:\n";

/// An image to be made of packages.
#[derive(Debug, Clone, Default)]
pub struct Recipe {
    /// The file's and the image's name.
    pub name: &'static str,
    /// Installed packages; what they depend on comes along.
    pub packages: &'static [&'static str],
    /// Folders with their owner: user and group have the same number.
    pub folders: &'static [(&'static str, u64)],
    /// Symbolic links and where they lead.
    pub links: &'static [(&'static str, &'static str)],
    /// Files and their contents.
    pub files: &'static [(&'static str, &'static str)],
    /// The image's own.
    pub entrypoint: &'static [&'static str],
    /// The image's own.
    pub cmd: &'static [&'static str],
    /// The image's own; empty: root.
    pub user: &'static str,
    /// The image's own.
    pub working_dir: &'static str,
    /// The one port that it exposes; 0: none.
    pub port: u16,
    /// The image's own; empty: SIGTERM.
    pub stop_signal: &'static str,
}

impl Recipe {
    /// The docker-archive, made if it is not there.
    ///
    /// # Errors
    /// When a package is not installed; says which.
    pub fn archive(&self) -> anyhow::Result<PathBuf> {
        let packages = closure(self.packages)?;
        let mut key = Sha256::new();
        key.update(format!("1 {self:?}"));
        for package in &packages {
            key.update(format!("{} {}\n", package.name, package.version));
        }
        let folder = images()?;
        let path = folder.join(format!("{}-{}.tar", self.name, &hex(&key.finalize())[..12]));
        if path.exists() {
            return Ok(path);
        }
        // Other test programs may be making it as well: whoever is last wins with the same bytes.
        let work = tempfile::tempdir_in(&folder)?;
        let layer = work.path().join("layer.tar");
        self.layer(&packages, &layer)?;
        let made = work.path().join("image.tar");
        self.image(&layer, &made)?;
        fs::rename(&made, &path)?;
        Ok(path)
    }

    fn layer(&self, packages: &[Package], into: &Path) -> anyhow::Result<()> {
        let mut tree = Tree::new();
        for (name, target) in MERGED {
            tree.folder(Path::new(target), 0o755, 0);
            tree.insert(PathBuf::from(name), Node::Link(target.into()));
        }
        for path in ["etc", "var/log", "var/lib", "var/www", "run", "root", "proc", "sys", "dev"] {
            tree.folder(Path::new(path), 0o755, 0);
        }
        for path in ["tmp", "var/tmp"] {
            tree.folder(Path::new(path), 0o1777, 0);
        }
        tree.insert("var/run".into(), Node::Link("/run".into()));
        tree.insert("etc/passwd".into(), Node::Text(PASSWD));
        tree.insert("etc/group".into(), Node::Text(GROUP));
        for package in packages {
            for path in package.files()? {
                tree.take(&path)?;
            }
        }
        for (path, owner) in self.folders {
            tree.folder(Path::new(path), 0o755, *owner);
        }
        for (path, text) in self.files {
            tree.insert(PathBuf::from(path), Node::Text(text));
        }
        for (path, target) in self.links {
            tree.insert(PathBuf::from(path), Node::Link(target.into()));
        }
        tree.pack(into)
    }

    fn image(&self, layer: &Path, into: &Path) -> anyhow::Result<()> {
        let bytes = fs::read(layer)?;
        let layer = hex(&Sha256::digest(&bytes));
        let mut process = json!({
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": self.entrypoint,
            "Cmd": self.cmd,
            "User": self.user,
            "WorkingDir": self.working_dir,
        });
        if self.port != 0 {
            process["ExposedPorts"] = json!({ format!("{}/tcp", self.port): {} });
        }
        if !self.stop_signal.is_empty() {
            process["StopSignal"] = json!(self.stop_signal);
        }
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": process,
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
            "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "tests" }],
        });
        let config = serde_json::to_vec(&config)?;
        let id = hex(&Sha256::digest(&config));
        let tag = format!("tidegate.test/{}:1", self.name);
        let manifest = json!([{ "Config": format!("{id}.json"), "RepoTags": [tag], "Layers": [format!("{layer}/layer.tar")] }]);
        let mut tar = tar::Builder::new(fs::File::create(into)?);
        add(&mut tar, &format!("{layer}/layer.tar"), &bytes)?;
        add(&mut tar, &format!("{id}.json"), &config)?;
        add(&mut tar, "manifest.json", &serde_json::to_vec(&manifest)?)?;
        Ok(tar.into_inner()?.flush()?)
    }
}

/// Where images for the tests are: beside what cargo builds.
///
/// # Errors
/// When it cannot be made.
pub fn images() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target =
        own.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists() || folder.ends_with("target"));
    let fallback = || own.ancestors().nth(3).map(Path::to_owned);
    let folder = target.map(Path::to_owned).or_else(fallback).context("the target folder")?.join("images");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

/// As Go names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

struct Package {
    name: String,
    version: String,
    /// Alternatives, of which one has to be there.
    needs: Vec<Vec<String>>,
    provides: Vec<String>,
}

impl Package {
    /// What it has installed.
    fn files(&self) -> anyhow::Result<Vec<PathBuf>> {
        let listed = run("dpkg-query", &["-L", &self.name])?;
        Ok(listed.lines().filter(|line| line.starts_with('/') && *line != "/.").map(PathBuf::from).collect())
    }
}

/// These packages and all installed ones that they depend on, by name.
fn closure(wanted: &[&str]) -> anyhow::Result<Vec<Package>> {
    let mut installed = installed()?;
    let mut providers = BTreeMap::new();
    for package in installed.values() {
        for name in package.provides.iter().chain([&package.name]) {
            providers.entry(name.clone()).or_insert_with(|| package.name.clone());
        }
    }
    let (mut names, mut next) = (BTreeSet::new(), Vec::new());
    for name in wanted {
        ensure!(installed.contains_key(*name), "this suite needs the package {name}: apt-get install {name}");
        next.push((*name).to_owned());
    }
    while let Some(name) = next.pop() {
        if !names.insert(name.clone()) {
            continue;
        }
        let needs = installed.get(&name).map(|package| &package.needs[..]).unwrap_or_default();
        for alternatives in needs {
            let found = alternatives.iter().find_map(|one| providers.get(one));
            next.extend(found.filter(|found| !LEFT_OUT.contains(&found.as_str())).cloned());
        }
    }
    Ok(names.iter().filter_map(|name| installed.remove(name)).collect())
}

fn installed() -> anyhow::Result<BTreeMap<String, Package>> {
    let format = "-f=${Package}\t${Version}\t${db:Status-Status}\t${Provides}\t${Depends}, ${Pre-Depends}\n";
    let listed = run("dpkg-query", &["-W", format])?;
    let rows = listed.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let packages = rows.filter(|row| row.len() == 5 && row[2] == "installed").map(|row| {
        let package = Package {
            name: row[0].to_owned(),
            version: row[1].to_owned(),
            needs: row[4].split(',').map(|one| one.split('|').map(bare).collect()).collect(),
            provides: row[3].split(',').map(bare).collect(),
        };
        (package.name.clone(), package)
    });
    Ok(packages.collect())
}

/// `libc6:any (>= 2.34)` -> `libc6`.
fn bare(relation: &str) -> String {
    relation.trim().split([' ', ':', '(']).next().unwrap_or_default().to_owned()
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("this suite needs {program}, as Debian has it"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

enum Node {
    Folder { mode: u32, owner: u64 },
    File { from: PathBuf, mode: u32 },
    Text(&'static str),
    Link(PathBuf),
}

/// What will be in the layer, by path; a folder comes before what is in it.
struct Tree(BTreeMap<PathBuf, Node>);

impl Tree {
    fn new() -> Self {
        Self(BTreeMap::new())
    }

    fn insert(&mut self, path: PathBuf, node: Node) {
        if let Some(parent) = path.parent() {
            self.parents(parent);
        }
        self.0.insert(path, node);
    }

    fn folder(&mut self, path: &Path, mode: u32, owner: u64) {
        self.insert(path.to_owned(), Node::Folder { mode, owner });
    }

    fn parents(&mut self, path: &Path) {
        if path.as_os_str().is_empty() || self.0.contains_key(path) {
            return;
        }
        self.folder(path, 0o755, 0);
    }

    /// Takes what is at this path on this machine.
    fn take(&mut self, path: &Path) -> anyhow::Result<()> {
        let inside = merged(path);
        // A package may list what was removed since, or what we must not read: its own business.
        let Ok(seen) = fs::symlink_metadata(path) else { return Ok(()) };
        if NO_DOCUMENTS.iter().any(|left| inside.starts_with(left)) || self.0.contains_key(&inside) {
            return Ok(());
        }
        let (kind, mode) = (seen.file_type(), seen.permissions().mode() & 0o7777);
        let node = match () {
            () if kind.is_symlink() => Node::Link(fs::read_link(path)?),
            () if kind.is_dir() => Node::Folder { mode, owner: 0 },
            () if kind.is_fifo() || kind.is_socket() => return Ok(()),
            () => Node::File { from: path.to_owned(), mode },
        };
        self.insert(inside, node);
        Ok(())
    }

    fn pack(&self, into: &Path) -> anyhow::Result<()> {
        let mut tar = tar::Builder::new(fs::File::create(into)?);
        for (path, node) in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_mtime(0);
            header.set_mode(0o644);
            header.set_size(0);
            match node {
                Node::Folder { mode, owner } => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(*mode);
                    header.set_uid(*owner);
                    header.set_gid(*owner);
                    tar.append_data(&mut header, path, std::io::empty())?;
                }
                Node::File { from, mode } => {
                    let bytes = fs::read(from).with_context(|| format!("read {}", from.display()))?;
                    header.set_mode(*mode);
                    header.set_size(u64::try_from(bytes.len())?);
                    tar.append_data(&mut header, path, &bytes[..])?;
                }
                Node::Text(text) => {
                    header.set_size(u64::try_from(text.len())?);
                    tar.append_data(&mut header, path, text.as_bytes())?;
                }
                Node::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    tar.append_link(&mut header, path, target)?;
                }
            }
        }
        Ok(tar.into_inner()?.flush()?)
    }
}

/// Where a path is in an image whose /usr is merged; without the leading slash.
fn merged(path: &Path) -> PathBuf {
    let bare: PathBuf = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    for (old, new) in MERGED {
        if let Ok(rest) = bare.strip_prefix(old) {
            return if rest.as_os_str().is_empty() { PathBuf::from(new) } else { Path::new(new).join(rest) };
        }
    }
    bare
}

fn add(tar: &mut tar::Builder<fs::File>, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(u64::try_from(bytes.len())?);
    Ok(tar.append_data(&mut header, path, bytes)?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The recipes of the suites.
pub mod recipes {
    use super::Recipe;

    /// Serves a page; also has `sh`, `wget` and the rest.
    pub const BUSYBOX: Recipe = Recipe {
        name: "busybox",
        packages: &["busybox-static"],
        folders: &[("www", 0)],
        links: &[
            ("usr/bin/sh", "busybox"),
            ("usr/bin/cat", "busybox"),
            ("usr/bin/wget", "busybox"),
            ("usr/bin/httpd", "busybox"),
        ],
        files: &[("www/index.html", "a page from busybox\n")],
        entrypoint: &[],
        cmd: &["/bin/busybox", "httpd", "-f", "-vv", "-p", "80", "-h", "/www"],
        user: "",
        working_dir: "",
        port: 80,
        stop_signal: "",
    };

    /// The master is root, its workers are www-data; logs go to the standard streams as in the official image.
    pub const NGINX: Recipe = Recipe {
        name: "nginx",
        packages: &["nginx-light"],
        folders: &[
            ("var/log/nginx", 33),
            ("var/lib/nginx", 33),
            ("etc/nginx/sites-enabled", 0),
            ("var/www/html", 0),
        ],
        links: &[
            ("var/log/nginx/access.log", "/dev/stdout"),
            ("var/log/nginx/error.log", "/dev/stderr"),
            ("etc/nginx/sites-enabled/default", "/etc/nginx/sites-available/default"),
        ],
        files: &[("var/www/html/index.html", "a page from nginx\n")],
        entrypoint: &["nginx"],
        cmd: &["-g", "daemon off;"],
        user: "",
        working_dir: "",
        port: 80,
        stop_signal: "SIGQUIT",
    };

    /// The standard library's own server.
    pub const PYTHON: Recipe = Recipe {
        name: "python",
        packages: &["python3-minimal", "libpython3-stdlib"],
        folders: &[("srv", 0)],
        links: &[],
        files: &[("srv/index.html", "a page from python\n")],
        entrypoint: &["python3"],
        cmd: &["-u", "-m", "http.server", "8000"],
        user: "nobody",
        working_dir: "/srv",
        port: 8000,
        stop_signal: "SIGINT",
    };

    /// Speaks no HTTP, runs as a user of its own.
    pub const REDIS: Recipe = Recipe {
        name: "redis",
        packages: &["redis-server"],
        folders: &[("data", 999)],
        links: &[],
        files: &[],
        entrypoint: &["redis-server"],
        cmd: &["--protected-mode", "no", "--bind", "0.0.0.0", "--dir", "/data"],
        user: "redis",
        working_dir: "/data",
        port: 6379,
        stop_signal: "",
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_of_merged_folders_lead_to_the_new_ones() {
        let rows = [
            ("/bin/busybox", "usr/bin/busybox"),
            ("/lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libc.so.6"),
            ("/lib64", "usr/lib64"),
            ("/library/x", "library/x"),
            ("/etc/nginx", "etc/nginx"),
        ];
        for (path, inside) in rows {
            assert_eq!(merged(Path::new(path)), Path::new(inside), "{path}");
        }
    }

    #[test]
    fn relations_are_reduced_to_names() {
        for (relation, name) in
            [("libc6 (>= 2.34)", "libc6"), (" python3:any", "python3"), ("a", "a"), ("", "")]
        {
            assert_eq!(bare(relation), name);
        }
    }
}
