//! The engines that a suite is run for, and what a file of services needs to be run by one of them. The gateway of a test
//! learns its engine from its file; ENGINE=docker or ENGINE=embedded keeps a suite to one of them.

use std::{fmt, path::PathBuf, process::Command, sync::Arc};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use tidegate_config::model::{self, Model};

use crate::{debian, process::Gateway};

/// An engine that gateways of tests use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The Docker engine that answers on this machine.
    Docker,
    /// Tidegate's own; needs root.
    Embedded,
}

impl Engine {
    /// Those that suites are run for.
    ///
    /// # Errors
    /// When ENGINE names none.
    pub fn all() -> anyhow::Result<Vec<Self>> {
        Ok(Self::named()?.map_or_else(|| vec![Self::Docker, Self::Embedded], |one| vec![one]))
    }

    /// The one that ENGINE names.
    ///
    /// # Errors
    /// When it names none.
    pub fn named() -> anyhow::Result<Option<Self>> {
        match std::env::var("ENGINE").unwrap_or_default().as_str() {
            "" => Ok(None),
            "docker" => Ok(Some(Self::Docker)),
            "embedded" => Ok(Some(Self::Embedded)),
            other => bail!("ENGINE={other}; expected docker or embedded"),
        }
    }

    /// The engine of a file's first host.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        match model.hosts.first().map(|host| host.engine) {
            Some(model::Engine::Embedded) => Self::Embedded,
            Some(
                model::Engine::Auto
                | model::Engine::Docker
                | model::Engine::Swarm
                | model::Engine::Kubernetes,
            )
            | None => Self::Docker,
        }
    }

    /// Adds the host to a file's text; `more` are lines of that host's.
    #[must_use]
    pub fn on(self, text: &str, more: &str) -> String {
        format!("{text}\n[[hosts]]\nname = \"local\"\nengine = \"{self}\"\n{more}")
    }

    /// What a file calls the sample service's image.
    ///
    /// # Errors
    /// When it was not built.
    pub fn echo(self) -> anyhow::Result<String> {
        match self {
            Self::Docker => Ok("tidegate-echo:test".to_owned()),
            Self::Embedded => {
                let file = echo_archive()?;
                Ok(format!("docker-archive:{}", file.display()))
            }
        }
    }

    /// Says at once what would otherwise fail in the middle.
    ///
    /// # Errors
    /// When this process may not do what the engine needs.
    pub fn check(self) -> anyhow::Result<()> {
        let root = nix::unistd::geteuid().is_root();
        ensure!(
            self == Self::Docker || root,
            "the embedded engine needs root: run this as root or through scripts/test, which uses sudo -n (ENGINE=docker leaves it out)"
        );
        Ok(())
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "docker",
            Self::Embedded => "embedded",
        })
    }
}

/// The sample service as a file.
fn echo_archive() -> anyhow::Result<PathBuf> {
    let file = match std::env::var_os("ECHO_ARCHIVE") {
        Some(named) => PathBuf::from(named),
        None => debian::images()?.join("echo.tar"),
    };
    ensure!(
        file.exists(),
        "the sample service's image is missing: scripts/image --archive {} tidegate-echo:test",
        file.display()
    );
    Ok(file)
}

/// A file of services on disk, for one engine.
#[derive(Debug, Clone)]
pub struct File {
    engine: Engine,
    folder: Arc<TempDir>,
}

impl File {
    /// Writes it; `@echo@` in the text stands for the sample service's image.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(engine: Engine, text: &str) -> anyhow::Result<Self> {
        engine.check()?;
        let file = Self { engine, folder: Arc::new(tempfile::tempdir()?) };
        file.write(text)?;
        Ok(file)
    }

    /// Writes it anew.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, text: &str) -> anyhow::Result<()> {
        let text = text.replace("@echo@", &self.engine.echo()?);
        // In one go: a gateway may be looking.
        let (new, path) = (self.folder.path().join("new"), self.path());
        std::fs::write(&new, self.engine.on(&text, ""))?;
        std::fs::rename(new, path).context("replace the file of services")
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("tidegate.toml")
    }

    /// A folder that goes with it.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Which engine it is for.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.engine
    }
}

/// Runs a test with a gateway of its own on one engine, and removes what it left however the test ends.
///
/// # Errors
/// When the test fails, or something is left over.
pub async fn with(
    engine: Engine,
    text: &str,
    test: impl AsyncFnOnce(&mut Gateway, &File) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let file = File::new(engine, text)?;
    let tested = async {
        let mut gateway = Gateway::start(&file.path()).await?;
        let tested = test(&mut gateway, &file).await;
        let stopped = gateway.stop().await;
        tested.and(stopped)
    };
    tested.await.with_context(|| format!("on the engine {engine}"))
}

/// Runs the same test on each engine, one after the other.
///
/// # Errors
/// When it fails on one.
pub async fn on_each(
    text: &str,
    mut test: impl AsyncFnMut(&mut Gateway, &File) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for engine in Engine::all()? {
        with(engine, text, &mut test).await?;
    }
    Ok(())
}

/// Runs `tidegate` with these arguments on a gateway's state; what it prints.
///
/// # Errors
/// When it fails.
pub fn tidegate(gateway: &Gateway, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(crate::process::binary()?);
    let output = command.args(arguments).env("TIDEGATE_STATE", gateway.state()).output()?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "tidegate {}: {words}", arguments.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
