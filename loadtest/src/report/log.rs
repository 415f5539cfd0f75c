//! A run as a log of HdrHistogram, which its tools draw and add up: an interval for each phase and each of its times. `[P]`

use std::time::Duration;

use hdrhistogram::serialization::{
    V2DeflateSerializer,
    interval_log::{IntervalLogWriterBuilder, Tag},
};

use super::Report;
use crate::record::{Cell, Spread};

/// One of the times of a cell, and what it is called.
type Time = (&'static str, fn(&Cell) -> &Spread);

const TIMES: [Time; 3] =
    [("response", |cell| &cell.response), ("service", |cell| &cell.service), ("lag", |cell| &cell.lag)];

/// The log. Values are microseconds, the column `Interval_Max` is in milliseconds.
#[must_use]
pub fn log(report: &Report) -> String {
    let (mut bytes, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("[values are microseconds]").with_max_value_divisor(1000.0);
    let mut log = builder.begin_log_with(&mut bytes, &mut serializer).expect("memory takes everything");
    for (number, phase) in report.phases.iter().enumerate() {
        for (tag, time) in TIMES {
            let spread = report.spread(time, |key| key.phase == number);
            if spread.count() > 0 {
                let (begin, length) = (seconds(phase.begin), seconds(phase.end - phase.begin));
                log.write_histogram(spread.histogram(), begin, length, Tag::new(tag))
                    .expect("memory takes everything");
            }
        }
    }
    String::from_utf8(bytes).expect("a log is text")
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use hdrhistogram::{
        Histogram,
        serialization::{
            Deserializer,
            interval_log::{IntervalLogIterator, LogEntry},
        },
    };

    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn other_tools_can_read_it() {
        let text = log(&sample());
        let mut tags = Vec::new();
        for entry in IntervalLogIterator::new(text.as_bytes()) {
            let LogEntry::Interval(interval) = entry.expect("a log") else { continue };
            let bytes = BASE64_STANDARD.decode(interval.encoded_histogram()).expect("base64");
            let histogram: Histogram<u64> =
                Deserializer::new().deserialize(&mut bytes.as_slice()).expect("a histogram");
            assert_eq!((histogram.len(), interval.duration()), (100, Duration::from_secs(10)));
            tags.push(interval.tag().expect("a tag").as_str().to_owned());
        }
        assert_eq!(tags, ["response", "service", "lag"]);
    }
}
