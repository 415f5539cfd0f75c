//! What a cluster has, in a replica: a ConfigMap, a Secret, an empty folder on a node's disk.

use anyhow::Result;
use e2e::{
    chaos::{burst::burst, load::Aim, verdict::Verdict},
    eventually::eventually,
};

use super::{
    estate::{BUSYBOX, Estate, NAMESPACE},
    node::{apply, ctl},
};
use crate::steps::{end, ready};

/// A replica of the strict profile makes a page of both in the empty folder. Until the ConfigMap is there, `explain` says so.
pub(super) async fn arrive(estate: &mut Estate) -> Result<Verdict> {
    let tried = serves(estate).await;
    ctl(&format!("delete --namespace {NAMESPACE} --ignore-not-found configmap/settings secret/tls"))?;
    tried
}

async fn serves(estate: &mut Estate) -> Result<Verdict> {
    let secret = "kind: Secret\nmetadata: { name: tls }\nstringData: { key: s3cret }\n";
    apply(NAMESPACE, &format!("apiVersion: v1\n{secret}"))?;
    let page = "echo $(/bin/busybox cat /etc/app/word /tls/key) >/work/index.html; \
                exec /bin/busybox httpd -f -p 8080 -h /work";
    let config = format!(
        "{}[services.web]\nimage = \"{BUSYBOX}\"\npull = \"never\"\nport = 8080\nprofile = \"strict\"\nuser = \"1000\"\n\
         command = [\"/bin/busybox\", \"sh\", \"-c\"]\nargs = [\"{page}\"]\n\
         volumes = [\"configmap/settings:/etc/app:ro\", \"secret/tls:/tls:ro\", {{ target = \"/work\", disk = \"1MiB\" }}]\n\
         scaling = {{ min = 1, max = 1 }}\n",
        estate.config()
    );
    let gateway = estate.gateway(config).await?;
    eventually("explain says what is missing", async || {
        let failure = gateway.explain("web").await?.last_failure;
        Ok(failure.is_some_and(|failure| failure.cause.contains("there is no ConfigMap settings")))
    })
    .await?;
    let map = "kind: ConfigMap\nmetadata: { name: settings }\ndata: { word: hello }\n";
    apply(NAMESPACE, &format!("apiVersion: v1\n{map}"))?;
    ready(&gateway, "web", 1).await?;
    let mut verdict = Verdict::default();
    let aim = Aim { expect: Some("hello s3cret".to_owned()), ..Aim::at(gateway.address(), "web") };
    verdict.faultless(&burst(&aim, 1).await);
    end(gateway).await?;
    Ok(verdict)
}
