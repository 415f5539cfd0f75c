//! Which engine runs each host's containers, and a runner for it. What `auto` turns out to be is remembered in the state
//! directory, and later starts never switch: an engine that does not answer is then a lost host, and no reason to start
//! everything twice elsewhere.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use tidegate_config::{
    model::{self, Host, Model},
    name::HostName,
};
use tidegate_runner::{
    Runner,
    docker::{self, Docker},
    embedded::{self, Embedded, doctor},
    kubernetes::{self, Kubernetes},
    swarm::{self, Swarm},
};

use super::up::say;
use crate::state_dir::StateDir;

/// The argument that makes this program a shim.
pub const SHIM: &str = "shim";

/// What the names of files in the state directory begin with that say which engine a host has.
const RECORDED: &str = "engine-";

/// What runs a host's containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Docker,
    Embedded,
    Swarm,
    Kubernetes,
}

impl Engine {
    /// As the state directory has it.
    fn word(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Embedded => "embedded",
            Self::Swarm => "swarm",
            Self::Kubernetes => "kubernetes",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Docker, Self::Embedded, Self::Swarm, Self::Kubernetes]
            .into_iter()
            .find(|engine| engine.word() == word.trim())
    }

    /// As people say it.
    fn name(self) -> &'static str {
        match self {
            Self::Docker => "Docker",
            Self::Embedded => "Tidegate's own engine",
            Self::Swarm => "Docker Swarm",
            Self::Kubernetes => "Kubernetes",
        }
    }
}

/// One runner per host; none where the file starts nothing, names no host, and nothing was ever started.
pub(super) async fn runners(
    model: &Model,
    state: &StateDir,
) -> anyhow::Result<BTreeMap<HostName, Arc<dyn Runner>>> {
    let mut runners: BTreeMap<HostName, Arc<dyn Runner>> = BTreeMap::new();
    for host in &model.hosts {
        let known = state.recall(&recorded(host))?.is_some();
        if !model.needs_engine() && *host == Host::local() && !known {
            continue;
        }
        let runner = runner(host, model, state).await.with_context(|| format!("host {}", host.name))?;
        runners.insert(host.name.clone(), runner);
    }
    Ok(runners)
}

/// The file in the state directory that says which engine a host has.
fn recorded(host: &Host) -> String {
    format!("{RECORDED}{}", host.name)
}

/// Forgets that hosts have our own engine, once nothing of it is left.
pub(super) fn forget(state: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(state).with_context(|| format!("cannot read {}", state.display()))? {
        let path = entry?.path();
        let recorded = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(RECORDED));
        let engine = recorded.then(|| std::fs::read_to_string(&path).ok()).flatten();
        if engine.as_deref().and_then(Engine::from_word) == Some(Engine::Embedded) {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

async fn runner(host: &Host, model: &Model, state: &StateDir) -> anyhow::Result<Arc<dyn Runner>> {
    let key = recorded(host);
    let known = state.recall(&key)?.as_deref().and_then(Engine::from_word);
    let (engine, how) = match (host.engine, known) {
        (model::Engine::Docker, _) => (Engine::Docker, "as the file says"),
        (model::Engine::Embedded, _) => (Engine::Embedded, "as the file says"),
        (model::Engine::Swarm, _) => (Engine::Swarm, "as the file says"),
        (model::Engine::Kubernetes, _) => (Engine::Kubernetes, "as the file says"),
        (model::Engine::Auto, Some(known)) => (known, "as before"),
        (model::Engine::Auto, None) => (choose(host, model, state).await?, "chosen automatically"),
    };
    if let Some(before) = known.filter(|before| *before != engine) {
        bail!(switched(before, engine, state, &key));
    }
    let first = known.is_none();
    let runner: Arc<dyn Runner> = match engine {
        Engine::Docker => Arc::new(docker(host, model, state, first).await?),
        Engine::Embedded => Arc::new(embedded(host, model, state, first).await?),
        Engine::Swarm => Arc::new(Swarm::connect(swarm::Options::of(host, state.instance.clone())).await?),
        Engine::Kubernetes => {
            let options = kubernetes::Options::of(host, &model.images, state.instance.clone());
            Arc::new(Kubernetes::connect(options).await?)
        }
    };
    if first {
        say(&format!("tidegate: host {} runs its containers with {} ({how})\n", host.name, engine.name()));
        state.remember(&key, engine.word())?;
    }
    Ok(runner)
}

/// Why a state directory's containers stay with their engine, and how to part with them.
fn switched(before: Engine, now: Engine, state: &StateDir, key: &str) -> String {
    let (instance, path) = (&state.instance, state.path());
    let remove = match before {
        Engine::Embedded => format!("tidegate doctor --purge --state {}", path.display()),
        Engine::Docker => format!(
            "docker rm -f $(docker ps -aq --filter label=dev.tidegate.instance={instance}); \
             docker network rm tg-{}; rm {}",
            instance.short(),
            path.join(key).display()
        ),
        Engine::Swarm => format!(
            "docker service rm $(docker service ls -q --filter label=dev.tidegate.instance={instance}); rm {}",
            path.join(key).display()
        ),
        Engine::Kubernetes => format!(
            "kubectl delete pods,configmaps -l dev.tidegate.instance={instance}; rm {}",
            path.join(key).display()
        ),
    };
    format!(
        "the file says {}, but the containers of this state directory run with {}; remove those first (`{remove}`), \
         or use another state directory with --state",
        now.name(),
        before.name(),
    )
}

async fn docker(host: &Host, model: &Model, state: &StateDir, first: bool) -> anyhow::Result<Docker> {
    let options = docker::Options::of(host, state.instance.clone(), model.gateway.subnet);
    let docker = Docker::connect(options).await?;
    if *host == Host::local() && first {
        // Nobody ever said that there is an engine, so one that does not answer is none, and not a lost host.
        docker.answers().await?;
    }
    Ok(docker)
}

async fn embedded(host: &Host, model: &Model, state: &StateDir, first: bool) -> anyhow::Result<Embedded> {
    let missing = if first { missing().await? } else { Vec::new() };
    if !missing.is_empty() {
        let missing = missing.join("; ");
        bail!("Tidegate's own engine cannot work here: {missing}; `tidegate doctor` says more");
    }
    let path: PathBuf = std::env::current_exe().context("cannot tell which program this is")?;
    let options = embedded::Options {
        host: host.name.clone(),
        instance: state.instance.clone(),
        folder: state.path().join("embedded"),
        subnet: model.gateway.subnet,
        allow_metadata: model.gateway.allow_metadata,
        images: model.images.clone(),
        shim: embedded::ShimProgram { path, args: vec![OsString::from(SHIM)] },
    };
    Ok(Embedded::open(options).await?)
}

/// Docker where somebody said where it is, or where it answers; else our own engine, if this machine lets it.
async fn choose(host: &Host, model: &Model, state: &StateDir) -> anyhow::Result<Engine> {
    let told = host.endpoint.is_some() || std::env::var_os("DOCKER_HOST").is_some_and(|at| !at.is_empty());
    if told {
        return Ok(Engine::Docker);
    }
    let docker = docker(host, model, state, false).await?;
    let Err(silent) = docker.answers().await else { return Ok(Engine::Docker) };
    let missing = missing().await?;
    if missing.is_empty() {
        return Ok(Engine::Embedded);
    }
    bail!(
        "there is nothing here to run containers with.\n  Docker: {silent}\n  Tidegate's own engine: {}\n\
         `tidegate doctor` says more",
        missing.join("; ")
    )
}

/// What this machine lacks for our own engine.
async fn missing() -> anyhow::Result<Vec<String>> {
    tokio::task::spawn_blocking(doctor::missing).await.context("look what this machine offers")
}
