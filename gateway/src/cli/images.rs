//! `tidegate images`: what the embedded engine has fetched, what of it is in use, and making room. Works on the state
//! directory, with or without a gateway: the store is safe for two processes.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;
use tidegate_config::{model, spec::Digest, units::Bytes};
use tidegate_runner::embedded::{self, Prune, Store, Stored};

use super::{
    Gateway,
    client::Client,
    host::rounded,
    output::{print, print_json},
    replicas::{age, aligned},
};
use crate::control::status::ServiceStatus;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Images {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Args)]
struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gateway: Gateway,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Remove images that nothing uses
    Prune(PruneArgs),
}

#[derive(Debug, Args)]
struct PruneArgs {
    /// All that nothing uses, however short ago it was used
    #[arg(long, conflicts_with = "older_than")]
    all: bool,
    /// Those that were not used for this long [default: 30d]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Say what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gateway: Gateway,
}

/// An image, as it is printed.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    image: Stored,
    in_use: bool,
}

pub(super) async fn run(args: Images) -> anyhow::Result<ExitCode> {
    match args.command {
        None => list(&args.list).await?,
        Some(Command::Prune(args)) => prune(&args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: &List) -> anyhow::Result<()> {
    let engine = engine(&args.gateway);
    let images = match open(&engine)? {
        Some(store) => {
            let used = in_use(&args.gateway, &engine).await?;
            shown(store.list().await?, &used)
        }
        None => Vec::new(),
    };
    if args.json {
        return print_json(&images);
    }
    if images.is_empty() {
        return print(&format!("no images in {}\n", engine.display()));
    }
    print(&text(&images, SystemTime::now()))
}

async fn prune(args: &PruneArgs) -> anyhow::Result<()> {
    let engine = engine(&args.gateway);
    let Some(store) = open(&engine)? else { bail!("there are no images in {}", engine.display()) };
    let used = in_use(&args.gateway, &engine).await?;
    let older_than = args.older_than.unwrap_or(model::Images::default().keep_unused);
    let rule = Prune { older_than: (!args.all).then_some(older_than), max_size: None, all: args.all };
    if args.dry_run {
        let now = SystemTime::now();
        let images = shown(store.list().await?, &used);
        let go: Vec<Shown> = images.into_iter().filter(|image| goes(image, &rule, now)).collect();
        return if args.json {
            print_json(&go)
        } else if go.is_empty() {
            print("nothing would go\n")
        } else {
            print(&text(&go, now))
        };
    }
    let pruned = store.prune(&used, rule).await?;
    if args.json {
        return print_json(&pruned);
    }
    let gone: String = pruned.images.iter().map(|id| format!("removed {}\n", id.short())).collect();
    print(&format!("{gone}{} images, {} freed\n", pruned.images.len(), rounded(pruned.freed.0)))
}

/// Whether a rule by age alone takes an image.
fn goes(shown: &Shown, rule: &Prune, now: SystemTime) -> bool {
    let unused = now.duration_since(shown.image.last_used).unwrap_or_default();
    !shown.in_use && (rule.all || rule.older_than.is_some_and(|older_than| unused > older_than))
}

/// The embedded engine's folder.
fn engine(gateway: &Gateway) -> PathBuf {
    gateway.state().join("embedded")
}

/// The images; `None` if the engine has never run there.
fn open(engine: &Path) -> anyhow::Result<Option<std::sync::Arc<Store>>> {
    let folder = engine.join("images");
    match folder.try_exists() {
        Ok(false) => Ok(None),
        Ok(true) => Ok(Some(Store::open(&folder, model::Images::default())?)),
        Err(error) => {
            Err(error).with_context(|| format!("cannot look into {}; are you root?", folder.display()))
        }
    }
}

/// Images that are needed: of the replicas that there are, of what services run or may go back to, as it was kept and as
/// a running gateway knows it.
async fn in_use(gateway: &Gateway, engine: &Path) -> anyhow::Result<BTreeSet<Digest>> {
    let mut used =
        embedded::in_use(engine).with_context(|| format!("cannot look into {}", engine.display()))?;
    if let Ok(kept) = std::fs::read_to_string(gateway.state().join("kept.json")) {
        digests(&serde_json::from_str(&kept).unwrap_or_default(), &mut used);
    }
    // Without a gateway what was kept has to do.
    let services = Client::new(gateway).services::<Vec<ServiceStatus>>().await.unwrap_or_default();
    for service in services {
        let replicas = service.replicas.into_iter().map(|replica| replica.digest);
        used.extend([service.digest, service.newer].into_iter().flatten().chain(replicas).map(Digest));
    }
    Ok(used)
}

/// Every value of a field called `digest`.
fn digests(value: &Value, found: &mut BTreeSet<Digest>) {
    match value {
        Value::Object(table) => {
            let own = table.get("digest").and_then(Value::as_str);
            found.extend(own.map(|digest| Digest(digest.to_owned())));
            table.values().for_each(|value| digests(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| digests(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn shown(images: Vec<Stored>, used: &BTreeSet<Digest>) -> Vec<Shown> {
    images.into_iter().map(|image| Shown { in_use: used.contains(&image.id), image }).collect()
}

fn text(images: &[Shown], now: SystemTime) -> String {
    let head = ["NAME", "ID", "SIZE", "LAYERS", "LAST USED", "IN USE"].map(str::to_owned);
    let rows = std::iter::once(head.to_vec()).chain(images.iter().map(|shown| row(shown, now)));
    aligned(rows, &[2, 3]).into_iter().map(|line| line + "\n").collect()
}

fn row(Shown { image, in_use }: &Shown, now: SystemTime) -> Vec<String> {
    let unused = now.duration_since(image.last_used).unwrap_or_default();
    vec![
        if image.names.is_empty() { "-".to_owned() } else { image.names.join(", ") },
        image.id.short().to_owned(),
        size(image.bytes),
        image.layers.to_string(),
        format!("{} ago", age(unused.as_secs())),
        if *in_use { "yes" } else { "no" }.to_owned(),
    ]
}

fn size(bytes: Bytes) -> String {
    rounded(bytes.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(names: &[&str], days: u64, in_use: bool) -> Shown {
        let last_used = SystemTime::UNIX_EPOCH + Duration::from_secs((100 - days) * 86_400);
        let image = Stored {
            id: Digest(format!("sha256:{days:064}")),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            bytes: Bytes::mib(3),
            layers: 2,
            created: None,
            fetched: last_used,
            last_used,
        };
        Shown { image, in_use }
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(100 * 86_400)
    }

    #[test]
    fn images_are_lines() {
        let images = [image(&["nginx:1.27", "web:2"], 3, true), image(&[], 0, false)];
        let want = "\
NAME               ID            SIZE  LAYERS  LAST USED    IN USE
nginx:1.27, web:2  000000000000  3MiB       2  3 d 0 h ago  yes
-                  000000000000  3MiB       2  0 s ago      no
";
        assert_eq!(text(&images, now()), want);
    }

    #[test]
    fn what_is_in_use_never_goes() {
        let days = |days: u64| Some(Duration::from_secs(days * 86_400));
        for (rule, age, in_use, expected) in [
            (Prune { all: true, ..Prune::default() }, 0, false, true),
            (Prune { all: true, ..Prune::default() }, 99, true, false),
            (Prune { older_than: days(7), ..Prune::default() }, 8, false, true),
            (Prune { older_than: days(7), ..Prune::default() }, 8, true, false),
            (Prune { older_than: days(7), ..Prune::default() }, 6, false, false),
        ] {
            assert_eq!(goes(&image(&[], age, in_use), &rule, now()), expected, "{rule:?} {age} {in_use}");
        }
    }

    #[test]
    fn digests_are_found_wherever_they_stand() {
        let kept = serde_json::json!({"services": {"a": {"release": {"good": [{"digest": "sha256:1", "x": 1}],
            "trial": {"version": {"digest": "sha256:2"}}}}}, "digest": 3});
        let mut found = BTreeSet::new();
        digests(&kept, &mut found);
        assert_eq!(found, [Digest("sha256:1".into()), Digest("sha256:2".into())].into());
    }
}
