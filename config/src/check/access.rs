//! The access log.

use super::{World, value};
use crate::{
    decode::{At, leaf::Text},
    model::{AccessLog, LogTo},
    problem::Draft,
    raw,
};

pub(super) fn check(raw: raw::AccessLog, world: &World<'_>, problems: &mut Vec<Draft>) -> AccessLog {
    let default = AccessLog::default();
    AccessLog {
        format: value::of(raw.format, default.format),
        to: raw.to.map_or(default.to, |to| target(&to, world, problems)),
        sample: value::share(raw.sample, default.sample, problems),
        slow: value::lasting(raw.slow, default.slow, problems),
        redact_query: value::of(raw.redact_query, default.redact_query),
    }
}

fn target(to: &At<Text>, world: &World<'_>, problems: &mut Vec<Draft>) -> LogTo {
    match &*to.value {
        "stdout" => LogTo::Stdout,
        "stderr" => LogTo::Stderr,
        "" => {
            let draft = to.problem("empty").allowed("\"stdout\", \"stderr\" or a file");
            problems.push(draft.help("leave [gateway.access_log] out for no access log".to_owned()));
            LogTo::Stdout
        }
        path => LogTo::File(world.path(path)),
    }
}
