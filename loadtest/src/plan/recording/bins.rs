//! Counts with the times from which on they are, as monitoring exports them. `[P]`

use std::time::Duration;

use super::{
    Invalid, LATEST, MOST_VALUES, Options, Recording, cells, count, counted, instant, lines, no_time,
    since_1970, wrong,
};

/// Columns of numbers that say when, and of how many seconds one is.
pub(super) const UNITS: [(&str, f64); 3] = [("second", 1.0), ("minute", 60.0), ("hour", 3600.0)];

/// The column that says when.
#[derive(Clone, Copy)]
pub(super) enum When {
    /// Times.
    Instants(usize),
    /// Numbers of seconds, minutes or hours; `unit`: of how many seconds one is.
    Numbers { at: usize, unit: f64 },
}

impl When {
    /// In seconds.
    fn read(self, number: usize, line: &str) -> Result<f64, Invalid> {
        match self {
            Self::Instants(at) => cells(line).nth(at).and_then(instant).ok_or_else(|| no_time(number, line)),
            Self::Numbers { at, unit } => {
                let cell = cells(line).nth(at).unwrap_or_default();
                let nth = cell.parse::<f64>().ok().filter(|nth| nth.abs() < LATEST);
                nth.map(|nth| nth * unit)
                    .ok_or_else(|| wrong(number, cell, "which second, minute or hour, a number"))
            }
        }
    }
}

/// `at`: the column of the counts. Each is for one second, minute or hour, or for the shortest step between the times; where rows are
/// missing nothing came.
pub(super) fn read(text: &str, when: When, at: usize, options: &Options) -> Result<Recording, Invalid> {
    let row = |(number, line)| {
        let time = when.read(number, line)?;
        Ok((number, line, time, count(number, cells(line).nth(at).unwrap_or_default())?))
    };
    let rows: Vec<_> = lines(text).skip(1).map(row).collect::<Result<_, Invalid>>()?;
    let begin = rows.first().map_or(0.0, |(_, _, time, _)| *time);
    let steps = rows.windows(2).map(|pair| pair[1].2 - pair[0].2).filter(|step| *step > 0.0);
    let shortest = match when {
        When::Instants(_) => steps.fold(f64::INFINITY, f64::min),
        When::Numbers { unit, .. } => unit,
    };
    let step = options.bin.map_or(shortest, |bin| bin.as_secs_f64());
    let step = if step.is_finite() { step } else { 1.0 };
    let mut counts = Vec::new();
    for (number, line, time, count) in rows {
        let nth = (time - begin) / step;
        if !((nth - nth.round()).abs() < 0.1 && nth.round() >= counts.len() as f64) {
            return Err(wrong(
                number,
                line,
                "a time that comes after those above it, by as much as between the others",
            ));
        }
        if nth > MOST_VALUES as f64 {
            return Err(Invalid::TooLong);
        }
        counts.resize(nth.round() as usize, 0.0);
        counts.push(count);
    }
    let step = Duration::try_from_secs_f64(step).map_err(|_| Invalid::TooLong)?;
    let mut recording = counted(counts, options, step)?;
    recording.begins = since_1970(begin, options.from);
    Ok(recording)
}
