//! A plan in words: a line for each service, then the gateway's settings.

use std::fmt::Write;

use super::compare::{Changes, Difference, NOT_SHOWN, ServiceChange, TakesOver, What};

/// The plan as people read it.
pub(super) fn text(changes: &Changes) -> String {
    if changes.is_empty() {
        return "nothing changes\n".to_owned();
    }
    let width = changes.services.iter().map(|change| change.service.len()).max().unwrap_or(0);
    let mut text = String::new();
    for change in &changes.services {
        let (sign, words) = words(change);
        let mut lines = words.into_iter();
        let first = lines.next().unwrap_or_default();
        line(&mut text, &format!("{sign} {:width$}  {first}", change.service));
        for more in lines {
            line(&mut text, &format!("  {:width$}  {more}", ""));
        }
    }
    for (when, settings) in [("at once", &changes.gateway), ("at its next start", &changes.at_next_start)] {
        for setting in settings {
            line(&mut text, &format!("gateway, {when}: {}", difference(setting)));
        }
    }
    text
}

fn words(change: &ServiceChange) -> (char, Vec<String>) {
    let settings = |all: &[Difference]| all.iter().map(difference).collect::<Vec<_>>().join(", ");
    let quiet = |settings: String| format!("no restart: {settings}");
    match &change.what {
        What::Add { image } => ('+', vec![format!("add: image {image}")]),
        What::AddOutside { upstreams } => {
            ('+', vec![format!("add: at {}; nothing to start", items(upstreams))])
        }
        What::RunFrom { image } => ('~', vec![format!("update: run from image {image} from now on")]),
        What::MoveOut { upstreams } => {
            let drained = match change.replicas {
                0 => "nothing runs".to_owned(),
                count => format!("{} drained", replicas(count)),
            };
            ('~', vec![format!("update: at {} from now on; {drained}", items(upstreams))])
        }
        What::Remove => match change.replicas {
            0 => ('-', vec!["remove: nothing runs".to_owned()]),
            count => ('-', vec![format!("remove: {} drained", replicas(count))]),
        },
        What::Adjust => ('~', vec![quiet(settings(&change.live))]),
        What::NewRevision { takes_over } => {
            let how = how(takes_over, change.replicas);
            let mut lines = vec![format!("update: new revision ({}); {how}", settings(&change.revision))];
            lines.extend(Some(settings(&change.live)).filter(|settings| !settings.is_empty()).map(quiet));
            ('~', lines)
        }
    }
}

fn how(takes_over: &TakesOver, count: usize) -> String {
    match takes_over {
        TakesOver::AtWake => "nothing runs, the next wake starts it".to_owned(),
        TakesOver::AtOnce => format!("{} replaced once the new one is ready", replicas(count)),
        TakesOver::Steps { steps, every } => {
            format!("{} replaced by rollout {steps}, {every} each", replicas(count))
        }
        TakesOver::Recreate => {
            format!("{} stopped before the new one starts, requests wait meanwhile", replicas(count))
        }
    }
}

/// A list without its brackets.
fn items(list: &str) -> &str {
    list.trim_matches(['[', ']'])
}

fn replicas(count: usize) -> String {
    if count == 1 { "1 replica".to_owned() } else { format!("{count} replicas") }
}

fn difference(setting: &Difference) -> String {
    let Difference { key, from, to } = setting;
    match (from.as_deref(), to.as_deref()) {
        (Some(NOT_SHOWN), Some(_)) => format!("{key} changed"),
        (None, Some(NOT_SHOWN)) => format!("{key} added"),
        (None, Some(to)) => format!("{key} added: {to}"),
        (_, None) => format!("{key} removed"),
        (Some(from), Some(to)) => format!("{key} {from} -> {to}"),
    }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a string does not fail");
}
