//! A swarm of one node: a `dockerd` in network and mount namespaces of its own, which nothing reaches but its socket.
//! One for each process of tests; a shell that reads from us ends it and removes its files when we are gone, however.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bollard::{
    models::{ServiceSpec, SwarmInitRequest},
    query_parameters::{ImportImageOptions, ListServicesOptions},
};
use futures_util::TryStreamExt;
use tokio::sync::OnceCell;

use crate::busybox;

/// Made in the test from a static busybox (Debian: busybox-static).
pub(crate) const IMAGE: &str = "tidegate.test/busybox:1";

/// Brings up the engine named by `$1`, waits for the end of what we are told, and leaves nothing.
const KEEPER: &str = r#"
set -u
mount --make-rprivate / && mount -t tmpfs tmpfs /run && mkdir -p /run/docker /run/containerd
echo nameserver 127.0.0.1 >/run/resolv.conf && mount --bind /run/resolv.conf /etc/resolv.conf
ip link set lo up
dockerd --data-root "$1/data" --exec-root /run/docker --pidfile /run/dockerd.pid --host "unix://$1/docker.sock" \
    --bip 172.31.0.1/24 --cgroup-parent "/tgswarm$$" >"$1/log" 2>&1 &
cat >/dev/null
kill "$!"; wait "$!"
umount -R "$1/data" 2>/dev/null
rm -rf "$1"
find /sys/fs/cgroup -depth -type d -path "*/tgswarm$$*" -exec rmdir {} + 2>/dev/null
"#;

/// The manager of a swarm of one node.
pub(crate) struct Manager {
    folder: PathBuf,
    _keeper: Child,
}

impl Manager {
    /// The one of this process.
    pub(crate) async fn get() -> &'static Self {
        static ONE: OnceCell<Manager> = OnceCell::const_new();
        ONE.get_or_init(Self::up).await
    }

    async fn up() -> Self {
        let folder = tempfile::Builder::new().prefix("tgswarm").tempdir().expect("a folder").keep();
        let mut keeper = Command::new("unshare");
        keeper.args(["--net", "--mount", "--fork", "sh", "-c", KEEPER, "sh"]).arg(&folder);
        keeper.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        // A group of its own: what ends us must not end it before it has cleaned up.
        std::os::unix::process::CommandExt::process_group(&mut keeper, 0);
        let keeper = keeper.stdin(Stdio::piped()).spawn().expect("this suite needs unshare and root");
        let manager = Self { folder, _keeper: keeper };
        manager.answers().await;
        let api = manager.api();
        let init = SwarmInitRequest {
            listen_addr: Some("127.0.0.1:2377".into()),
            advertise_addr: Some("127.0.0.1".into()),
            ..SwarmInitRequest::default()
        };
        api.init_swarm(init).await.expect("it becomes a swarm");
        let body = bollard::body_full(busybox::archive(IMAGE).into());
        let loaded = api.import_image(ImportImageOptions::default(), body, None);
        loaded.try_for_each(|_| std::future::ready(Ok(()))).await.expect("the image loads");
        manager
    }

    /// Where it answers.
    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub(crate) fn api(&self) -> bollard::Docker {
        let socket = self.socket();
        let at = socket.to_str().expect("a plain path");
        bollard::Docker::connect_with_unix(at, 60, bollard::API_DEFAULT_VERSION).expect("there is a socket")
    }

    /// A service of somebody else's, that runs nothing; its id.
    pub(crate) async fn foreign(&self, name: &str, labels: HashMap<String, String>) -> String {
        let idle = bollard::models::ServiceSpecModeReplicated { replicas: Some(0) };
        let container = bollard::models::TaskSpecContainerSpec {
            image: Some(IMAGE.into()),
            ..bollard::models::TaskSpecContainerSpec::default()
        };
        let spec = ServiceSpec {
            name: Some(name.into()),
            labels: Some(labels),
            task_template: Some(bollard::models::TaskSpec {
                container_spec: Some(container),
                ..bollard::models::TaskSpec::default()
            }),
            mode: Some(bollard::models::ServiceSpecMode {
                replicated: Some(idle),
                ..bollard::models::ServiceSpecMode::default()
            }),
            ..ServiceSpec::default()
        };
        self.api().create_service(spec, None).await.expect("it is made").id.expect("it has an id")
    }

    /// Whether a service is there.
    pub(crate) async fn has(&self, service: &str) -> bool {
        let all = self.api().list_services(None::<ListServicesOptions>).await.expect("it lists");
        all.iter().any(|one| one.id.as_deref() == Some(service))
    }

    async fn answers(&self) {
        let asked = async {
            while !(Path::exists(&self.socket()) && self.api().ping().await.is_ok()) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let log = self.folder.join("log");
        tokio::time::timeout(Duration::from_secs(120), asked).await.unwrap_or_else(|_| {
            panic!("dockerd answers: {}", std::fs::read_to_string(log).unwrap_or_default())
        });
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("docker.sock")
    }
}
