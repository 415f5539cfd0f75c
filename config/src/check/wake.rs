//! Who wakes a service that sleeps, and how often.

use super::{World, value};
use crate::{
    decode::{At, leaf::OnOrFile},
    model::{Ignore, WaitingPage, Wake},
    name::PathPrefix,
    problem::Draft,
    raw,
};

pub(super) fn check(raw: Option<At<raw::Wake>>, world: &World<'_>, problems: &mut Vec<Draft>) -> Wake {
    let default = Wake::default();
    let Some(At { value: raw, .. }) = raw else { return default };
    Wake {
        waiting_page: raw.waiting_page.and_then(|page| waiting_page(&page, world, problems)),
        per_client: value::rate(raw.per_client.as_ref(), default.per_client, problems),
        per_service: value::rate(raw.per_service.as_ref(), default.per_service, problems),
        ignore: ignore(value::of(raw.ignore, raw::Ignore::default()), problems),
    }
}

/// A page is read with the file, so that a reload that succeeds has it.
fn waiting_page(page: &At<OnOrFile>, world: &World<'_>, problems: &mut Vec<Draft>) -> Option<WaitingPage> {
    let file = match &page.value {
        OnOrFile::On(on) => return on.then_some(WaitingPage::BuiltIn),
        OnOrFile::File(file) => file,
    };
    let path = world.path(file);
    match world.files.read(&path) {
        Ok(html) if html.len() <= LARGEST_PAGE => Some(WaitingPage::Own(html.into())),
        Ok(_) => {
            let draft =
                page.problem("a page that is too large").allowed("256KiB at most, with all that it needs");
            problems.push(draft);
            None
        }
        Err(error) => {
            let draft = page.problem(format!("{} cannot be read: {error}", path.display()));
            problems.push(
                draft.allowed("true, false, or an HTML file, relative to the folder of this configuration"),
            );
            None
        }
    }
}

/// Whoever waits has it sent before anything else.
const LARGEST_PAGE: usize = 256 << 10;

fn ignore(raw: raw::Ignore, problems: &mut Vec<Draft>) -> Ignore {
    let default = Ignore::default();
    let mut paths = Vec::new();
    for text in value::of(raw.paths, Vec::new()) {
        let Some(path) = value::parsed::<PathPrefix>(&text, problems) else { continue };
        if path == PathPrefix::root() {
            let draft = text.problem("every request is below this path: none would wake the service");
            problems.push(draft.allowed("a path of health checks, as in \"/healthz\""));
        }
        paths.push(path);
    }
    let mut user_agents = Vec::new();
    for text in value::of(raw.user_agents, Vec::new()) {
        if text.value.trim().is_empty() {
            problems.push(text.problem("every User-Agent contains this").allowed("a part of a name"));
        }
        user_agents.push(text.value.to_ascii_lowercase());
    }
    Ignore {
        paths,
        user_agents,
        networks: value::networks(raw.networks, problems),
        monitors: value::of(raw.monitors, default.monitors),
    }
}
