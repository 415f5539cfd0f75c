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
}

impl Engine {
    /// As the state directory has it.
    fn word(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Embedded => "embedded",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Docker, Self::Embedded].into_iter().find(|engine| engine.word() == word.trim())
    }

    /// As people say it.
    fn name(self) -> &'static str {
        match self {
            Self::Docker => "Docker",
            Self::Embedded => "Tidegate's own engine",
        }
    }
}

/// One runner per host.
pub(super) async fn runners(
    model: &Model,
    state: &StateDir,
) -> anyhow::Result<BTreeMap<HostName, Arc<dyn Runner>>> {
    let mut runners: BTreeMap<HostName, Arc<dyn Runner>> = BTreeMap::new();
    for host in &model.hosts {
        let runner = runner(host, model, state).await.with_context(|| format!("host {}", host.name))?;
        runners.insert(host.name.clone(), runner);
    }
    Ok(runners)
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
    let key = format!("{RECORDED}{}", host.name);
    let known = state.recall(&key)?.as_deref().and_then(Engine::from_word);
    let docker = || async {
        let options = docker::Options::of(host, state.instance.clone(), model.gateway.subnet);
        anyhow::Ok(Docker::connect(options).await?)
    };
    let (engine, how) = match (host.engine, known) {
        (model::Engine::Docker, _) => (Engine::Docker, "as the file says"),
        (model::Engine::Embedded, _) => (Engine::Embedded, "as the file says"),
        (model::Engine::Auto, Some(known)) => (known, "as before"),
        (model::Engine::Auto, None) => (choose(host, &docker().await?).await?, "chosen automatically"),
    };
    if let Some(before) = known.filter(|before| *before != engine) {
        bail!(
            "the file says {}, but the containers of this state directory run with {}; remove those first \
             (`{}`), or use another state directory with --state",
            engine.name(),
            before.name(),
            match before {
                Engine::Embedded => format!("tidegate doctor --purge --state {}", state.path().display()),
                Engine::Docker => format!(
                    "docker rm -f $(docker ps -aq --filter label=dev.tidegate.instance={}); docker network rm tg-{}; rm {}",
                    state.instance,
                    state.instance.short(),
                    state.path().join(&key).display()
                ),
            }
        );
    }
    let runner: Arc<dyn Runner> = match engine {
        Engine::Docker => {
            let docker = docker().await?;
            if *host == Host::local() && known.is_none() {
                // Nobody ever said that there is an engine, so one that does not answer is none, and not a lost host.
                docker.answers().await?;
            }
            Arc::new(docker)
        }
        Engine::Embedded => Arc::new(Embedded::open(embedded_options(host, model, state)?).await?),
    };
    if known.is_none() {
        say(&format!("tidegate: host {} runs its containers with {} ({how})\n", host.name, engine.name()));
        state.remember(&key, engine.word())?;
    }
    Ok(runner)
}

/// Docker where somebody said where it is, or where it answers; else our own engine, if this machine lets it.
async fn choose(host: &Host, docker: &Docker) -> anyhow::Result<Engine> {
    let told = host.endpoint.is_some() || std::env::var_os("DOCKER_HOST").is_some_and(|at| !at.is_empty());
    if told {
        return Ok(Engine::Docker);
    }
    let Err(silent) = docker.answers().await else { return Ok(Engine::Docker) };
    let missing =
        tokio::task::spawn_blocking(doctor::missing).await.context("look what this machine offers")?;
    if missing.is_empty() {
        return Ok(Engine::Embedded);
    }
    bail!(
        "there is nothing here to run containers with.\n  Docker: {silent}\n  Tidegate's own engine: {}\n\
         `tidegate doctor` says more",
        missing.join("; ")
    )
}

fn embedded_options(host: &Host, model: &Model, state: &StateDir) -> anyhow::Result<embedded::Options> {
    let path: PathBuf = std::env::current_exe().context("cannot tell which program this is")?;
    Ok(embedded::Options {
        host: host.name.clone(),
        instance: state.instance.clone(),
        folder: state.path().join("embedded"),
        subnet: model.gateway.subnet,
        allow_metadata: model.gateway.allow_metadata,
        images: model.images.clone(),
        shim: embedded::ShimProgram { path, args: vec![OsString::from(SHIM)] },
    })
}
