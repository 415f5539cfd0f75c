//! How versions of a service follow each other, and what becomes of replicas that are not needed. A volume that one
//! replica writes to decides much of it: two replicas would write to it at once, so there is never more than one.

use super::value;
use crate::{
    decode::{At, leaf::Span},
    model::{Rollout, Sleep, Update},
    problem::Draft,
    raw::{self, Mount},
    units::Percent,
};

/// What to do about a volume that allows one replica only.
pub(super) fn share(volume: &At<Mount>) -> String {
    let (source, target) = match &volume.value {
        Mount::Text(text) => {
            let mut fields = text.split(':');
            (fields.next().unwrap_or_default(), fields.next().unwrap_or_default())
        }
        Mount::Table(table) => (text(&table.source), text(&table.target)),
    };
    format!(
        "if several replicas may write to it at once: {{ source = {source:?}, target = {target:?}, shared = true }}"
    )
}

fn text(field: &Option<At<String>>) -> &str {
    field.as_ref().map_or("", |field| &field.value)
}

/// The first volume that is written to by one replica only.
pub(super) fn writer(volumes: Option<&At<Vec<At<Mount>>>>) -> Option<&At<Mount>> {
    let written = |mount: &&At<Mount>| match &mount.value {
        Mount::Text(text) => text.contains(':') && !text.ends_with(":ro"),
        Mount::Table(table) => {
            let rules = [&table.read_only, &table.shared];
            table.tmpfs.is_none()
                && table.disk.is_none()
                && rules.into_iter().all(|rule| !value::of(rule.clone(), false))
        }
    };
    volumes.into_iter().flat_map(|volumes| &volumes.value).find(written)
}

pub(super) fn update(
    raw: Option<&At<Update>>,
    writer: Option<&At<Mount>>,
    problems: &mut Vec<Draft>,
) -> Update {
    if let (Some(raw @ At { value: Update::Rolling, .. }), Some(volume)) = (raw, writer) {
        let draft = raw.problem("the new replica would write to a volume while the old one still does");
        let draft = draft.allowed("\"recreate\" (the default here), or a volume that is shared or read-only");
        problems.push(draft.also(&volume.at, "the volume").help(share(volume)));
    }
    let default = if writer.is_some() { Update::Recreate } else { Update::default() };
    raw.map_or(default, |raw| raw.value)
}

pub(super) fn rollout(raw: Option<At<raw::Rollout>>, update: Update, problems: &mut Vec<Draft>) -> Rollout {
    /// More are a history, not a way back: each keeps its image on every host.
    const MOST_KEPT: u32 = 20;
    let default = Rollout::default();
    let Some(At { value: raw, .. }) = raw else { return default };
    if let Some(keep) = raw.keep.as_ref().filter(|keep| keep.value > MOST_KEPT) {
        problems.push(keep.problem("too many versions to keep").allowed(format!("0 to {MOST_KEPT}")));
    }
    Rollout {
        steps: raw.steps.as_ref().and_then(|raw| steps(raw, update, problems)).unwrap_or(default.steps),
        every: value::lasting(raw.every, default.every, problems),
        margin: value::of(raw.margin, default.margin),
        failures: value::positive(raw.failures, default.failures, problems),
        keep: value::of(raw.keep, default.keep),
    }
}

fn steps(raw: &At<Vec<At<u32>>>, update: Update, problems: &mut Vec<Draft>) -> Option<Vec<Percent>> {
    const ALLOWED: &str = "percentages that rise, the last of them 100, as in [10, 50, 100]";
    let mut steps: Vec<Percent> = Vec::new();
    for step in &raw.value {
        let percent = u8::try_from(step.value).ok().and_then(Percent::new);
        match percent {
            Some(percent) if steps.last().is_none_or(|last| *last < percent) => steps.push(percent),
            Some(_) => {
                problems.push(step.problem("not more than the step before it").allowed(ALLOWED));
                return None;
            }
            None => {
                problems.push(step.problem("not a percentage").allowed("1 to 100"));
                return None;
            }
        }
    }
    if steps.last().is_none_or(|last| last.whole() != 100) {
        problems.push(raw.problem("the new version never gets everything").allowed(ALLOWED));
        return None;
    }
    if update == Update::Recreate && steps.len() > 1 {
        let draft = raw.problem("with update = \"recreate\" old and new never run together");
        problems.push(draft.allowed("[100], or update = \"rolling\""));
    }
    Some(steps)
}

pub(super) fn sleep(raw: Option<At<raw::Sleep>>, problems: &mut Vec<Draft>) -> Sleep {
    let raw = value::of(raw, raw::Sleep::default());
    Sleep { frozen: age(raw.frozen.as_ref(), problems), stopped: age(raw.stopped.as_ref(), problems) }
}

fn age(raw: Option<&At<Span>>, problems: &mut Vec<Draft>) -> Option<std::time::Duration> {
    let raw = raw?;
    if raw.value.0.is_zero() {
        let draft = raw.problem("too short").allowed("more than 0s");
        problems.push(draft.help("leave it out to switch this sleep off".to_owned()));
    }
    Some(raw.value.0)
}
