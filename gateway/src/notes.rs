//! What is valid in a file, but may not be what was meant: shown by `tidegate check` and `plan`, logged at the start of the
//! gateway and when it takes up a changed file.

use std::fmt::Write;

use tidegate_config::model::Model;

use crate::tls;

/// Everything worth a second look, in whole sentences.
#[must_use]
pub(crate) fn notes(model: &Model) -> Vec<String> {
    [tidegate_config::notes(model), tls::stale(model), tls::notes(model)].concat()
}

/// Them in lines, for people.
#[must_use]
pub(crate) fn lines(notes: &[String]) -> String {
    notes.iter().fold(String::new(), |mut lines, note| {
        writeln!(lines, "note: {note}").expect("writing to a string does not fail");
        lines
    })
}

/// Says them in the log. Certificates that are stale are told there by those who follow them.
pub(crate) fn log(model: &Model) {
    for note in [tidegate_config::notes(model), tls::notes(model)].concat() {
        tracing::warn!("{note}");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tidegate_config::{Format, parse};
    use tracing::subscriber::with_default;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panics").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_is_a_line_of_its_own() {
        let file = "services.a = { image = 'a', scaling = { target = 0.7 } }\nservices.b = { image = 'b', scaling = { target = 0.7 } }";
        let model = parse(file, Format::Toml).expect("a good text");
        let (log, notes) = (Log::default(), notes(&model));
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        with_default(subscriber.finish(), || super::log(&model));
        let logged = String::from_utf8(log.0.lock().expect("no panics").clone()).expect("text");
        assert_eq!((notes.len(), logged.lines().count(), lines(&notes).lines().count()), (2, 2, 2));
        for (note, (logged, line)) in notes.iter().zip(logged.lines().zip(lines(&notes).lines())) {
            assert!(logged.contains("WARN") && logged.ends_with(note), "{logged}");
            assert_eq!(line, format!("note: {note}"));
        }
    }
}
