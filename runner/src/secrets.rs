//! The values of secrets, read at the moment a replica starts.
//! Holds: no error and no log line carries a value.

use std::path::Path;

use crate::{Error, Kind, Result};

/// What fits into one environment variable of a Linux process.
pub(crate) const LONGEST: usize = 128 * 1024 - 1;

/// The value of a secret that becomes an environment variable: the file's contents, less one trailing newline. Blocks.
pub(crate) fn value(variable: &str, file: &Path) -> Result<String> {
    let refuse = |why: &dyn std::fmt::Display| {
        let file = file.display();
        Error::new(Kind::Permanent, format!("the secret {variable} cannot be read from {file}: {why}"))
    };
    let bytes = std::fs::read(file).map_err(|e| refuse(&e))?;
    let mut value = String::from_utf8(bytes).map_err(|_| refuse(&"it is not UTF-8"))?;
    if value.ends_with('\n') {
        value.pop();
    }
    if value.contains('\0') {
        return Err(refuse(&"it has a zero byte, which no environment variable can hold"));
    }
    if variable.len() + value.len() >= LONGEST {
        return Err(refuse(&"it is longer than an environment variable can be (128 KiB)"));
    }
    Ok(value)
}
