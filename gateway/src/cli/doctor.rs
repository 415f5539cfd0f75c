//! `tidegate doctor`: whether this machine has what the embedded engine needs, and what crashes left behind. Works with
//! and without a gateway; what only root may see is looked at as root.

use std::{fs::File, io, path::Path, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use tidegate_runner::embedded::doctor::{self, Finding, Installation, Leftover, Verdict};

use super::{
    default_state,
    output::{Misuse, print, print_json},
    replicas::aligned,
};

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Remove what belongs to no replica and no living instance any more
    #[arg(long)]
    fix: bool,
    /// Remove everything that the embedded engine made for this state directory, except images and named volumes
    #[arg(long, conflicts_with = "fix")]
    purge: bool,
    /// With --purge: images too
    #[arg(long, requires = "purge")]
    images: bool,
    /// With --purge: named volumes too, with what is in them
    #[arg(long, requires = "purge")]
    volumes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The state directory [default: that of `tidegate up`]
    #[arg(long, value_name = "DIR", env = "TIDEGATE_STATE")]
    state: Option<PathBuf>,
}

/// Everything that is said.
#[derive(Debug, Serialize)]
struct Report {
    checks: Vec<Finding>,
    leftovers: Vec<Leftover>,
    /// Whether the leftovers were removed.
    fixed: bool,
    /// What could not be.
    problems: Vec<String>,
}

pub(super) async fn run(args: Doctor) -> anyhow::Result<ExitCode> {
    let state = args.state.clone().unwrap_or_else(default_state);
    // Held until the end, so that no gateway starts in the middle.
    let (own, lock) = installation(&state)?;
    if args.purge {
        return purge(&args, &state, own.as_ref()).await;
    }
    let checks = doctor::check(Some(state)).await?;
    let root = nix::unistd::geteuid().is_root();
    if args.fix && !root {
        return Err(Misuse("--fix needs root".into()).into());
    }
    let leftovers = if root { doctor::leftovers(own.as_ref()).await? } else { Vec::new() };
    let mut problems = Vec::new();
    for leftover in leftovers.iter().filter(|_| args.fix) {
        problems.extend(leftover.remove(own.as_ref()).await.err().map(|error| error.to_string()));
    }
    drop(lock);
    let report = Report { checks, leftovers, fixed: args.fix, problems };
    if args.json {
        print_json(&report)?;
    } else {
        print(&text(&report, root))?;
    }
    let bad = report.checks.iter().any(|check| check.verdict == Verdict::Fail) || !report.problems.is_empty();
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Removes all of this installation.
async fn purge(args: &Doctor, state: &Path, own: Option<&Installation>) -> anyhow::Result<ExitCode> {
    let shown = state.display();
    let Some(own) = own else { bail!("{shown} is no state directory: it has no instance") };
    if own.gateway {
        bail!("a gateway runs on {shown}; stop it first");
    }
    doctor::purge(&own.folder, &own.instance).await?;
    super::engines::forget(state)?;
    for (wanted, name) in [(args.images, "images"), (args.volumes, "volumes")] {
        let folder = own.folder.join(name);
        if wanted && folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    let kept = match (args.images, args.volumes) {
        (true, true) => "",
        (true, false) => "; named volumes are kept",
        (false, true) => "; images are kept",
        (false, false) => "; images and named volumes are kept",
    };
    if args.json {
        print_json(&serde_json::json!({ "purged": state }))?;
    } else {
        print(&format!("{shown}: nothing of the embedded engine is left{kept}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The instance of a state directory, and its lock if no gateway has it.
fn installation(state: &Path) -> anyhow::Result<(Option<Installation>, Option<Flock<File>>)> {
    let file = state.join("instance");
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, None)),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let instance =
        text.trim().parse().with_context(|| format!("{} holds no instance's id", file.display()))?;
    let lock = lock(&state.join("lock"))?;
    let gateway = matches!(lock, Lock::Held);
    let own = Installation { instance, folder: state.join("embedded"), gateway };
    Ok((Some(own), if let Lock::Ours(lock) = lock { Some(lock) } else { None }))
}

enum Lock {
    /// Nobody ever had it.
    Absent,
    Ours(Flock<File>),
    Held,
}

fn lock(file: &Path) -> anyhow::Result<Lock> {
    let cannot = || format!("cannot use {}", file.display());
    let opened = match File::options().read(true).write(true).open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lock::Absent),
        Err(error) => return Err(error).with_context(cannot),
    };
    match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Lock::Ours(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(Lock::Held),
        Err((_, errno)) => Err(errno).with_context(cannot),
    }
}

fn text(report: &Report, root: bool) -> String {
    let rows = report.checks.iter().map(|check| {
        let verdict = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        let advice = check.advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
        vec![verdict.to_owned(), check.what.to_owned(), format!("{}{advice}", check.found)]
    });
    let mut lines = aligned(rows, &[]);
    lines.push(String::new());
    lines.extend(leftovers(report, root));
    lines.into_iter().map(|line| line + "\n").collect()
}

fn leftovers(report: &Report, root: bool) -> Vec<String> {
    let count = match report.leftovers.len() {
        _ if !root => return vec!["what was left over is seen as root only".to_owned()],
        0 => return vec!["nothing is left over".to_owned()],
        1 => "1 thing".to_owned(),
        many => format!("{many} things"),
    };
    let head = match report.fixed {
        false => format!("{count} left over; `tidegate doctor --fix` removes what belongs to nobody:"),
        true if report.problems.is_empty() => format!("{count} left over, removed:"),
        true => format!("{count} left over; not all could be removed:"),
    };
    let listed = report.leftovers.iter().map(|left| format!("  {} (instance {})", left.what, left.instance));
    let problems = report.problems.iter().map(|problem| format!("  FAIL {problem}"));
    std::iter::once(head).chain(listed).chain(problems).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_dir::StateDir;

    fn finding(verdict: Verdict, advice: Option<&str>) -> Finding {
        Finding { verdict, what: "root", found: "user 7".into(), advice: advice.map(String::from) }
    }

    #[test]
    fn each_check_is_a_line() {
        let report = |problems: &[&str]| Report {
            checks: vec![finding(Verdict::Ok, None), finding(Verdict::Fail, Some("become root"))],
            leftovers: Vec::new(),
            fixed: false,
            problems: problems.iter().map(|problem| (*problem).to_owned()).collect(),
        };
        let want = "ok    root  user 7\nFAIL  root  user 7; become root\n\nnothing is left over\n";
        assert_eq!(text(&report(&[]), true), want);
        assert!(text(&report(&[]), false).ends_with("seen as root only\n"));
    }

    #[test]
    fn a_gateway_is_known_by_its_lock() {
        let room = tempfile::tempdir().expect("a folder");
        let state = room.path().join("state");
        assert!(installation(&state).expect("nothing is there").0.is_none());
        let held = StateDir::take(&state).expect("free");
        let (own, lock) = installation(&state).expect("it reads");
        let own = own.expect("it has an instance");
        assert_eq!((own.instance.clone(), own.gateway, lock.is_some()), (held.instance.clone(), true, false));
        drop(held);
        let (own, lock) = installation(&state).expect("it reads");
        assert_eq!((own.map(|own| own.gateway), lock.is_some()), (Some(false), true));
        assert!(StateDir::take(&state).is_err());
        drop(lock);
        StateDir::take(&state).expect("free again");
    }
}
