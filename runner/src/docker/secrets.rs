//! Reads the values of a replica's secrets at the moment it starts.
//! Holds: no error and no log line carries a value.

use std::collections::BTreeMap;

use tidegate_config::spec::Secret;

use crate::{Error, Kind, Result};

/// What fits into one environment variable of a Linux process.
const LONGEST: usize = 128 * 1024 - 1;

/// Each variable with its value.
pub(super) async fn read(secrets: &BTreeMap<String, Secret>) -> Result<Vec<(String, String)>> {
    let mut values = Vec::with_capacity(secrets.len());
    for (variable, secret) in secrets {
        let refuse = |why: &dyn std::fmt::Display| {
            let file = secret.file.display();
            Error::new(Kind::Permanent, format!("the secret {variable} cannot be read from {file}: {why}"))
        };
        let bytes = tokio::fs::read(&secret.file).await.map_err(|e| refuse(&e))?;
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
        values.push((variable.clone(), value));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn values_lose_one_newline_and_errors_name_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        for (content, expected) in [
            (b"s3cret\n".to_vec(), Some("s3cret")),
            (b"two\n\n".to_vec(), Some("two\n")),
            (b"canary\xff".to_vec(), None),
            (b"canary\0".to_vec(), None),
            ([b'x'; LONGEST].to_vec(), None),
        ] {
            let file = folder.path().join("value");
            std::fs::write(&file, &content).expect("written");
            let secrets = BTreeMap::from([("KEY".to_owned(), Secret { file: file.clone() })]);
            match (read(&secrets).await, expected) {
                (Ok(values), Some(expected)) => assert_eq!(values, [("KEY".to_owned(), expected.to_owned())]),
                (Err(error), None) => {
                    assert_eq!(error.kind, Kind::Permanent);
                    assert!(error.message.contains("KEY") && error.message.contains("value"));
                    assert!(!format!("{error:?}").contains("canary"));
                }
                (outcome, expected) => panic!("expected {expected:?}, got {:?}", outcome.is_ok()),
            }
        }
        let absent = BTreeMap::from([("KEY".to_owned(), Secret { file: "/nowhere/key".into() })]);
        let error = read(&absent).await.expect_err("there is no such file");
        assert!(error.message.contains("KEY cannot be read from /nowhere/key"), "{error}");
    }
}
