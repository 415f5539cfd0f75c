//! Replicas that are kept by the clock: an expression that names some instant, a time zone that exists.

use std::time::Duration;

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{Timestamp, tz::TimeZone};

use super::value;
use crate::{
    decode::{At, leaf::Text},
    model::KeepWarm,
    problem::Draft,
    raw,
};

const EXPRESSION: &str = "minute, hour, day, month and day of the week, as in \"0 8 * * mon-fri\"";
const ZONE: &str = "a name of the time zone database, as in \"Europe/Berlin\", or \"UTC\"";
/// An expression alone holds for the minutes that it names.
const MINUTE: Duration = Duration::from_secs(60);

/// `most`: the service's `max`.
pub(super) fn check(
    raw: Option<At<Vec<At<raw::KeepWarm>>>>,
    most: u32,
    problems: &mut Vec<Draft>,
) -> Vec<KeepWarm> {
    value::of(raw, Vec::new()).into_iter().filter_map(|entry| one(entry, most, problems)).collect()
}

fn one(entry: At<raw::KeepWarm>, most: u32, problems: &mut Vec<Draft>) -> Option<KeepWarm> {
    if entry.value.cron.is_none() && !entry.value.refused.contains(&"cron") {
        problems
            .push(entry.problem("replicas by the clock, and no time").allowed(format!("cron: {EXPRESSION}")));
    }
    let raw = entry.value;
    if let Some(replicas) = raw.replicas.as_ref().filter(|replicas| !(1..=most).contains(&replicas.value)) {
        problems.push(replicas.problem("not a number of replicas").allowed(format!("1 to {most} (max)")));
    }
    let lasts = value::lasting(raw.lasts, MINUTE, problems);
    let zone = raw.zone.map_or(Some(TimeZone::UTC), |name| zone(&name, problems));
    let cron = cron(&raw.cron?, problems);
    Some(KeepWarm { cron: cron?, zone: zone?, lasts, replicas: value::of(raw.replicas, 1) })
}

fn cron(text: &At<Text>, problems: &mut Vec<Draft>) -> Option<Cron> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let cron = match parser.parse(&text.value) {
        Ok(cron) => cron,
        Err(error) => {
            let said = error.to_string();
            problems.push(text.problem("not a cron expression").allowed(EXPRESSION).help(said));
            return None;
        }
    };
    // Leap days come, the thirtieth of February does not: whatever comes at all comes after some day or other.
    let some_day = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    if cron.find_next_occurrence(&some_day, true).is_err() {
        problems.push(text.problem("names no day that ever comes").allowed(EXPRESSION));
        return None;
    }
    Some(cron)
}

fn zone(name: &At<Text>, problems: &mut Vec<Draft>) -> Option<TimeZone> {
    let zone = TimeZone::get(&name.value).ok();
    if zone.is_none() {
        problems.push(name.problem("not a time zone").allowed(ZONE));
    }
    zone
}
