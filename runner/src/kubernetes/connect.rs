//! Finds out how the API is reached: by a kubeconfig, or by the account of the pod that the gateway runs in.
//! Absent: calls; whether anybody answers there.

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tidegate_config::model;

use crate::{Error, Kind, Result, error::chain};

/// What every pod's environment has.
const IN_A_POD: &str = "KUBERNETES_SERVICE_HOST";

/// A client, and the namespace in which pods are made.
///
/// # Errors
/// [`Kind::Permanent`]: a kubeconfig that is not there or cannot be used.
pub(super) async fn client(cluster: &model::Kubernetes) -> Result<(Client, String)> {
    // The program does this at its start; without it, TLS would panic.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let config = config(cluster).await?;
    let namespace = cluster.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).map_err(|error| unusable(&error))?;
    Ok((client, namespace))
}

async fn config(cluster: &model::Kubernetes) -> Result<Config> {
    let inside = std::env::var_os(IN_A_POD).is_some();
    if cluster.kubeconfig.is_none() && cluster.context.is_none() && inside {
        return Config::incluster().map_err(|error| unusable(&error));
    }
    let read = match &cluster.kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    let chosen = KubeConfigOptions { context: cluster.context.clone(), ..KubeConfigOptions::default() };
    let found = Config::from_custom_kubeconfig(read.map_err(|error| unusable(&error))?, &chosen).await;
    found.map_err(|error| unusable(&error))
}

fn unusable(error: &dyn std::error::Error) -> Error {
    let words = format!(
        "cannot tell how the Kubernetes is reached: {}; set kubernetes.kubeconfig, and kubernetes.context where it has several",
        chain(error)
    );
    Error::new(Kind::Permanent, words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_config::model::Kubernetes;

    const CONFIG: &str = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}], "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u", "namespace": "apps"}},
            {"name": "b", "context": {"cluster": "c", "user": "u"}}]}"#;

    #[tokio::test]
    async fn a_kubeconfig_says_where_and_what_it_lacks_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config");
        std::fs::write(&file, CONFIG).expect("written");
        for (kubeconfig, context, namespace, expected) in [
            (&file, None, None, Ok("apps")),
            (&file, Some("b"), None, Ok("default")),
            (&file, Some("b"), Some("own"), Ok("own")),
            (&file, Some("c"), None, Err("c")),
            (&folder.path().join("absent"), None, None, Err("absent")),
        ] {
            let kubernetes = Kubernetes {
                kubeconfig: Some(kubeconfig.clone()),
                context: context.map(str::to_owned),
                namespace: namespace.map(str::to_owned),
                ..Kubernetes::default()
            };
            match (client(&kubernetes).await, expected) {
                (Ok((_, found)), Ok(expected)) => assert_eq!(found, expected),
                (Err(error), Err(words)) => {
                    assert!(error.kind == Kind::Permanent && error.message.contains(words), "{error}");
                }
                (outcome, expected) => panic!("{:?} instead of {expected:?}", outcome.map(|(_, name)| name)),
            }
        }
    }
}
