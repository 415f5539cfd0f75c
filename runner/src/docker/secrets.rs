//! Reads the values of a replica's secrets at the moment it starts.

use std::collections::BTreeMap;

use tidegate_config::spec::Secret;

use crate::{Error, Kind, Result, secrets::value};

/// Each variable with its value.
pub(crate) async fn read(secrets: &BTreeMap<String, Secret>) -> Result<Vec<(String, String)>> {
    let secrets = secrets.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let each = secrets.into_iter();
        each.map(|(variable, secret)| value(&variable, &secret.file).map(|value| (variable, value))).collect()
    });
    reading.await.map_err(|error| Error::because(Kind::Retryable, "the secrets cannot be read", error))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::LONGEST;

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
