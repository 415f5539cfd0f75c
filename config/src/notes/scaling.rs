//! What is valid under `scaling`, but may not be what was meant. Asked by [`notes`](super::notes). Pure.

use croner::Direction;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use crate::{
    model::{KeepWarm, Law, Model, ScalingPolicy, Service, Work},
    written::{Because, why_no_effect},
};

const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);

pub(super) fn notes(service: &Service, model: &Model) -> Vec<String> {
    let mut notes: Vec<String> = [Because::Law, Because::Min, Because::Fixed]
        .into_iter()
        .filter_map(|why| ignored(service, model, why))
        .collect();
    notes.extend(turned_away(service));
    notes.extend(by_clock(service));
    notes
}

/// Settings that do nothing beside the others.
fn ignored(service: &Service, model: &Model, why: Because) -> Option<String> {
    let ScalingPolicy { min, max, law, .. } = service.scaling;
    let keys = model.ignored.get(&service.name)?.iter();
    let keys: Vec<_> = keys.filter(|key| why_no_effect(key, &service.scaling) == Some(why)).collect();
    let (it, decides) = if keys.len() == 1 { ("it", "decides") } else { ("them", "decide") };
    let what = match why {
        Because::Law => {
            format!("`policy = \"{law}\"` does not look at: leave {it} out, or say `policy = \"kpa\"`")
        }
        Because::Min => {
            format!(
                "has no effect beside `min = {min}`, as the last replica never goes: leave one of them out"
            )
        }
        Because::Fixed => {
            format!(
                "{decides} nothing beside `min` and `max` of {max}: leave {it} out, or say a larger `max`"
            )
        }
    };
    (!keys.is_empty()).then(|| {
        let keys = keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        format!("services.{}.scaling has {keys}, which {what}", service.name)
    })
}

/// Nobody can wait for so long.
fn turned_away(service: &Service) -> Option<String> {
    let ScalingPolicy { law, work: Work { late_after, .. }, hold, .. } = &service.scaling;
    let is_said = *law == Law::Work && *late_after != Work::default().late_after;
    (is_said && late_after > hold).then(|| {
        format!(
            "services.{}.scaling takes a request for late after {}, but `hold` turns it away after {}: say less than that, or a \
             longer `hold`",
            service.name,
            humantime::format_duration(*late_after),
            humantime::format_duration(*hold)
        )
    })
}

/// Replicas that are there whatever the clock says.
fn by_clock(service: &Service) -> Vec<String> {
    let ScalingPolicy { min, keep_warm, .. } = &service.scaling;
    let note = |(place, keep): (usize, &KeepWarm)| {
        let what = if keep.replicas <= *min {
            format!(
                "asks for no more replicas than `min = {min}` always keeps: leave it out, or ask for more"
            )
        } else if holds_always(keep) {
            format!(
                "begins again before it ends, and so holds at all times: say `min = {}` instead",
                keep.replicas
            )
        } else {
            return None;
        };
        Some(format!("services.{}.scaling.keep_warm[{place}] {what}", service.name))
    };
    keep_warm.iter().enumerate().filter_map(note).collect()
}

/// Whether it begins again, and again, before it ends. Told of what is the same in every week.
fn holds_always(keep: &KeepWarm) -> bool {
    let fields: Vec<_> = keep.cron.as_str().split_whitespace().collect();
    let &[_, _, "*", "*", days] = fields.as_slice() else { return false };
    // The first Monday of a month, or the last one.
    if days.contains(['#', 'L']) {
        return false;
    }
    let begins = keep.cron.iter_from(Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC), Direction::Forward);
    let mut begins = begins.map(|begin| begin.timestamp());
    let Some(first) = begins.next() else { return false };
    let mut before = first;
    begins.take_while(|begin| *begin <= first + WEEK).all(|begin| {
        let gap = begin.duration_since(before).unsigned_abs();
        before = begin;
        gap <= keep.lasts
    })
}
