//! Tries for real what the engine will need of the kernel, where nothing of it can stay behind: each attempt is a thread
//! of its own in namespaces of its own, which end with it. Blocking.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use rtnetlink::{LinkBridge, LinkVeth};

/// What became of an attempt: nothing to say, or what the kernel said.
pub(super) type Outcome = Result<(), String>;

/// Whether an overlay can be mounted with its writable part on the file system of `folder`; `None`: in memory.
pub(super) fn overlay(folder: Option<&Path>) -> Outcome {
    let parent = folder.map_or_else(std::env::temp_dir, Path::to_owned);
    let attempt = || {
        let room = tempfile::Builder::new().prefix(".doctor-").tempdir_in(&parent)?;
        let (path, memory) = (room.path().to_owned(), folder.is_none());
        apart(CloneFlags::CLONE_NEWNS, move || overlay_in(&path, memory))
    };
    attempt().map_err(|error| error.to_string())
}

fn overlay_in(room: &Path, memory: bool) -> io::Result<()> {
    // Nothing that is mounted from here on is seen by anybody else.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    if memory {
        mount(Some("tmpfs"), room, Some("tmpfs"), MsFlags::empty(), Some("size=1m"))?;
    }
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| room.join(name));
    for folder in [&lower, &upper, &work, &merged] {
        fs::create_dir(folder)?;
    }
    fs::write(lower.join("file"), "")?;
    let options =
        format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(&*options))?;
    // Removing what a layer below has needs the most of an upper file system.
    let written = fs::remove_file(merged.join("file")).and_then(|()| fs::write(merged.join("file"), "x"));
    let unmounted = nix::mount::umount(&merged);
    if memory {
        nix::mount::umount2(room, nix::mount::MntFlags::MNT_DETACH)?;
    }
    written.and(Ok(unmounted?))
}

/// Whether a network namespace with a bridge and a pair of virtual cards can be made.
pub(super) fn network() -> Outcome {
    let attempt = apart(CloneFlags::CLONE_NEWNET, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection()?;
            let make = async {
                let link = handle.link();
                link.add(LinkBridge::new("tidegate0").build()).execute().await?;
                handle.link().add(LinkVeth::new("tidegate1", "tidegate2").build()).execute().await
            };
            tokio::select! {
                () = connection => Err(io::Error::other("the kernel does not answer")),
                made = make => made.map_err(io::Error::other),
            }
        })
    });
    attempt.map_err(|error| error.to_string())
}

/// The first program of the packet filter that works: what it is called.
pub(super) fn packet_filter() -> Result<&'static str, String> {
    const TRIED: [(&str, &[&str]); 2] =
        [("nft", &["add", "table", "ip", "tidegate"]), ("iptables", &["-t", "nat", "-N", "TIDEGATE"])];
    let attempt = apart(CloneFlags::CLONE_NEWNET, || {
        let mut said = Vec::new();
        for (name, args) in TRIED {
            let Some(program) = program(name) else {
                said.push(format!("{name} is not installed"));
                continue;
            };
            // In the namespace of this thread.
            let output = Command::new(program).args(args).stdin(Stdio::null()).output()?;
            if output.status.success() {
                return Ok(name);
            }
            let words = String::from_utf8_lossy(&output.stderr);
            said.push(format!("{name}: {}", words.lines().next().unwrap_or("it fails").trim()));
        }
        Err(io::Error::other(said.join("; ")))
    });
    attempt.map_err(|error| error.to_string())
}

/// Whether a control group can be made below this folder.
pub(super) fn group(root: &Path) -> Outcome {
    let folder = root.join(format!("tidegate-doctor-{}", std::process::id()));
    fs::create_dir(&folder)
        .and_then(|()| fs::remove_dir(&folder))
        .map_err(|error| format!("{}: {error}", folder.display()))
}

/// Where a program is; administrators' folders are looked into even if the environment leaves them out.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Runs this in a thread that has namespaces of its own: they end with the thread, and what is in them too.
fn apart<T: Send + 'static>(
    namespaces: CloneFlags,
    attempt: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let thread = std::thread::Builder::new().name("doctor".into()).spawn(move || {
        unshare(namespaces)?;
        attempt()
    })?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the attempt broke off")))
}
