//! Words and lines that `ps` and `explain` share: replicas, ages, aligned columns.

use comfy_table::{CellAlignment, Table};

use crate::control::status::ReplicaStatus;

/// A table without a frame: columns two spaces apart, a line per row whatever the width.
pub(super) fn aligned(rows: impl IntoIterator<Item = Vec<String>>, right: &[usize]) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).force_no_tty();
    for row in rows {
        table.add_row(row.iter().map(|cell| one_line(cell)));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// A line for each replica.
pub(super) fn lines<'r>(replicas: impl IntoIterator<Item = &'r ReplicaStatus>) -> Vec<String> {
    let row = |replica: &ReplicaStatus| {
        vec![
            replica.id.clone(),
            replica.phase.clone(),
            replica.host.clone(),
            replica.address.clone().unwrap_or_else(|| "-".into()),
            format!("{} in flight", replica.in_flight),
            age(replica.age),
            trouble(replica).unwrap_or_default(),
        ]
    };
    let lines = aligned(replicas.into_iter().map(row), &[4, 5]);
    lines.into_iter().map(|line| format!("  {line}")).collect()
}

/// Why it gets no requests, or may soon get none, where that is nothing usual.
fn trouble(replica: &ReplicaStatus) -> Option<String> {
    let place = replica.waits_for.as_ref().map(|why| format!("no place: {why}"));
    place
        .or_else(|| replica.trouble.clone())
        .or_else(|| replica.balance.ejected.map(|seconds| format!("ejected for {seconds} s")))
}

/// A number of seconds for people, in at most two units.
pub(super) fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_for_people() {
        for (seconds, words) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3660, "1 h 1 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(age(seconds), words);
        }
    }

    #[test]
    fn a_row_is_a_line() {
        let rows = [["a", "1", "x\ny"], ["long", "10", ""]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(aligned(rows, &[1]), ["a      1  x y", "long  10"]);
    }
}
