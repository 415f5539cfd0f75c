//! Whatever is in a file, reading it ends with a model that can be told, or with problems that can be shown, each with its
//! place in the file.

use tidegate_config::{Format, Place, describe, diff, parse};

/// Reads bytes, the first of which says in what format. Panics where a promise is broken.
pub fn look(bytes: &[u8]) {
    let Some((format, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let format = match format {
        b'y' => Format::Yaml,
        b'j' => Format::Json,
        _ => Format::Toml,
    };
    match parse(text, format) {
        Ok(model) => {
            let _ = describe(&model);
            assert!(diff(&model, &model).is_empty(), "a model differs from itself");
        }
        Err(problems) => {
            assert!(!problems.list().is_empty() && !problems.to_string().is_empty());
            let lines = text.lines().count() + 1;
            for problem in problems.list() {
                if let Place::File { line, column, .. } = &problem.place {
                    assert!((1..=lines).contains(line) && *column > 0, "{problem:?}");
                }
            }
        }
    }
}
