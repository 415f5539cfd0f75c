//! The results as a table and as JSON.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::{About, Tried};
use crate::simulate::replay::outcome::Point;

/// For people.
pub(super) fn table(tried: &[Tried], about: &About) -> String {
    let refused = tried.iter().any(|one| one.outcome.refused > 0);
    let cut = tried.iter().any(|one| one.outcome.cut > 0);
    let mut table = Table::new();
    table.load_style(presets::NOTHING).force_no_tty();
    let mut header = vec![
        "settings",
        "late",
        "cold",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "replica-s",
        "idle-s",
        "x least",
        "starts",
        "most",
    ];
    header.extend(refused.then_some("refused"));
    header.extend(cut.then_some("cut"));
    table.set_header(header);
    for Tried { setting, outcome, .. } in tried {
        let wait = |quantile| outcome.waits.value_at_quantile(quantile).to_string();
        let mut row = vec![
            setting.name.clone(),
            percent(outcome.late_share()),
            percent(outcome.cold_share()),
            wait(0.5),
            wait(0.95),
            wait(0.99),
            format!("{:.0}", outcome.replica_seconds),
            format!("{:.0}", outcome.idle_seconds),
            outcome.over_least().map_or_else(|| "–".to_owned(), |over| format!("{over:.2}")),
            outcome.starts.to_string(),
            outcome.most.to_string(),
        ];
        row.extend(refused.then(|| outcome.refused.to_string()));
        row.extend(cut.then(|| outcome.cut.to_string()));
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let requests = match tried.first().map_or(0, |one| one.outcome.requests) {
        1 => "1 request".to_owned(),
        several => format!("{several} requests"),
    };
    format!(
        "{table}\n\n{requests} in {}. late: waited more than {}; cold: waited for a start; p50, p95, p99: waits{}; x least: over what \
         somebody who knew all requests beforehand would need\n{}\n",
        humantime::format_duration(Duration::from_secs(about.length.as_secs().max(1))),
        humantime::format_duration(about.late_after),
        if refused { " of those who were served" } else { "" },
        about.assumed
    )
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.3}%", share * 100.0)
}

/// For machines.
pub(super) fn values(tried: &[Tried], about: &About) -> Vec<Value> {
    let value = |one: &Tried| {
        let mut value = value(one);
        value["late_after_ms"] = json!(about.late_after.as_secs_f64() * 1e3);
        value["assumed"] = json!(about.assumed);
        value["notes"] = json!(about.all_notes(std::slice::from_ref(one)).collect::<Vec<_>>());
        value
    };
    tried.iter().map(value).collect()
}

pub(super) fn value(Tried { setting, outcome, .. }: &Tried) -> Value {
    let of = |histogram: &hdrhistogram::Histogram<u64>| {
        let at = |quantile| histogram.value_at_quantile(quantile);
        json!({ "p50": at(0.5), "p90": at(0.9), "p95": at(0.95), "p99": at(0.99), "p99_9": at(0.999), "max": histogram.max() })
    };
    let course = |of: fn(&Point) -> u32| outcome.course.iter().map(of).collect::<Vec<_>>();
    json!({
        "settings": setting.name,
        "policy": setting.scaling.law.to_string(),
        "requests": outcome.requests,
        "late": outcome.late,
        "late_share": outcome.late_share(),
        "goal": setting.goal().map(|allowed| json!({
            "allowed": allowed,
            "waited_longer": outcome.beyond_share(),
            "in_second_half": outcome.halves[1].share(),
        })),
        "refused": outcome.refused,
        "cut": outcome.cut,
        "cold": outcome.cold,
        "wait_ms": of(&outcome.waits),
        "latency_ms": of(&outcome.latencies),
        "replica_seconds": outcome.replica_seconds,
        "idle_seconds": outcome.idle_seconds,
        "least_seconds": outcome.least_seconds,
        "starts": outcome.starts,
        "drains": outcome.drains,
        "changes": outcome.changes,
        "most": outcome.most,
        "course": {
            "step_seconds": outcome.step.as_secs_f64(),
            "ready": course(|point| point.ready),
            "waiting": course(|point| point.waiting),
        },
    })
}

#[cfg(test)]
mod tests {
    use tidegate_config::model::ScalingPolicy;

    use super::*;
    use crate::{cli::simulate::settings, simulate::replay::Outcome};

    #[test]
    fn without_a_least_nothing_is_compared_with_it() {
        let row = |least_seconds, refused| {
            let setting = settings::read(&ScalingPolicy::default(), "kpa").expect("good");
            let outcome =
                Outcome { replica_seconds: 9.0, least_seconds, refused, starts: 7, ..Outcome::default() };
            let table = table(&[Tried { setting, outcome, notes: Vec::new() }], &About::default());
            table.lines().nth(1).expect("a row").split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(row(4.0, 0)[6..10], ["9", "0", "2.25", "7"]);
        assert_eq!(row(0.0, 0)[6..10], ["9", "0", "–", "7"]);
        assert_eq!(row(4.0, 1)[6..10], ["9", "0", "–", "7"], "who serves nobody needs nothing");
    }
}
