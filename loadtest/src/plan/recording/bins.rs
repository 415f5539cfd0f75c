//! Counts with the times from which on they are, as monitoring exports them. `[P]`

use std::time::Duration;

use super::{
    Invalid, MOST_VALUES, Options, Recording, cells, count, counted, instant, lines, no_time, since_1970,
    wrong,
};

/// `when`, `at`: the columns of the times and of the counts. The shortest step is how long each is for; where rows are missing
/// nothing came.
pub(super) fn read(text: &str, when: usize, at: usize, options: &Options) -> Result<Recording, Invalid> {
    let row = |(number, line)| {
        let time = cells(line).nth(when).and_then(instant).ok_or_else(|| no_time(number, line))?;
        Ok((number, line, time, count(number, cells(line).nth(at).unwrap_or_default())?))
    };
    let rows: Vec<_> = lines(text).skip(1).map(row).collect::<Result<_, Invalid>>()?;
    let begin = rows.first().map_or(0.0, |(_, _, time, _)| *time);
    let steps = rows.windows(2).map(|pair| pair[1].2 - pair[0].2).filter(|step| *step > 0.0);
    let shortest = steps.fold(f64::INFINITY, f64::min);
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
