//! What cases run on: a Kubernetes of one node, the account that gateways have there, and a pod of somebody else's that
//! nobody may touch.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use e2e::{
    chaos::{
        IMAGE, ROOT,
        gateway::{Gateway, Setup},
        run::run,
    },
    debian::recipes::BUSYBOX as BUSYBOX_RECIPE,
    eventually::eventually,
};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api, Client, Config, ResourceExt,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use tidegate_config::model;
use tidegate_runner::{
    InstanceId,
    kubernetes::{Kubernetes, Options},
};

use super::node::{Node, apply, ctl};
use crate::Ground;

/// Where replicas are.
pub(super) const NAMESPACE: &str = "replicas";
/// An image with a shell.
pub(super) const BUSYBOX: &str = "tidegate.test/busybox:1";
/// A pod that is not ours.
const FOREIGN: &str = "somebody-elses";

/// A Kubernetes, and what is on it.
pub(crate) struct Estate {
    pub(super) node: Node,
    pub(super) client: Client,
    pub(super) pods: Api<Pod>,
    /// Of the account that gateways have: what deploy/kubernetes/role.yaml allows, and nothing else.
    kubeconfig: PathBuf,
    /// The foreign pod's uid.
    foreign: String,
    /// Instances whose replicas are removed after the case.
    instances: Vec<String>,
}

impl Estate {
    pub(crate) async fn up() -> Result<Self> {
        let image = Path::new(ROOT).join("echo.tar");
        if !image.exists() {
            run(&format!("docker save --output {} {IMAGE}", image.display()))
                .context("scripts/image makes it")?;
        }
        let mut images = vec![image, BUSYBOX_RECIPE.archive()?];
        images.extend(std::env::var_os("GATEWAY_IMAGE").map(PathBuf::from));
        let node = Node::up(&images)?;
        ctl(&format!("create namespace {NAMESPACE}"))?;
        ctl(&format!("apply --namespace {NAMESPACE} --filename deploy/kubernetes/role.yaml"))?;
        let account = format!("get --namespace {NAMESPACE} serviceaccount default");
        eventually("the namespace has its account", async || Ok(ctl(&account).is_ok())).await?;
        let kubeconfig = account_of(&node)?;
        let client = client(&node.kubeconfig()).await?;
        let pods = Api::namespaced(client.clone(), NAMESPACE);
        let mut estate =
            Self { node, client, pods, kubeconfig, foreign: String::new(), instances: Vec::new() };
        estate.make_foreign().await?;
        Ok(estate)
    }

    /// The `[[hosts]]` table of the cluster.
    pub(super) fn config(&self) -> String {
        let kubeconfig = self.kubeconfig.display();
        format!(
            "[[hosts]]\nname = \"kubernetes\"\nengine = \"kubernetes\"\n\
             kubernetes = {{ kubeconfig = \"{kubeconfig}\", namespace = \"{NAMESPACE}\" }}\n"
        )
    }

    /// What a runner of ours needs. `whole`: with all rights instead of a gateway's.
    pub(super) fn options(&self, instance: InstanceId, whole: bool) -> Options {
        let kubeconfig = if whole { self.node.kubeconfig() } else { self.kubeconfig.clone() };
        let cluster = model::Kubernetes {
            kubeconfig: Some(kubeconfig),
            namespace: Some(NAMESPACE.into()),
            ..model::Kubernetes::default()
        };
        let host = "kubernetes".parse().expect("a host's name");
        Options { host, cluster, images: model::Images::default(), instance }
    }

    /// A gateway whose replicas are removed after the case.
    pub(super) async fn gateway(&mut self, config: String) -> Result<Gateway> {
        let gateway = Gateway::start(Setup::new(config)).await?;
        self.instances.push(gateway.instance()?);
        Ok(gateway)
    }

    /// An instance of a case's own, the same.
    pub(super) fn instance(&mut self, bits: u128) -> InstanceId {
        let instance = InstanceId::from_bits(bits);
        self.instances.push(instance.to_string());
        instance
    }

    /// The pods of an instance that are not on their way out.
    pub(super) async fn pods_of(&self, instance: &str) -> Result<Vec<Pod>> {
        let ours = ListParams::default().labels(&format!("dev.tidegate.instance={instance}"));
        let pods = self.pods.list(&ours).await?.items;
        Ok(pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
    }

    /// The name of a replica's pod.
    pub(super) fn name_of(instance: &str, replica: &str) -> String {
        format!("tg-{}-{replica}", &instance[..8])
    }

    /// Ends a replica's process, once it runs, as SIGKILL does.
    pub(super) async fn kill(&self, instance: &str, replica: &str) -> Result<()> {
        let name = Self::name_of(instance, replica);
        let kill = async {
            loop {
                if let Some(uid) = self.pods.get_opt(&name).await?.and_then(|pod| pod.uid())
                    && self.node.kill_pod(&uid)?
                {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), kill).await.context("its process never runs")?
    }

    async fn make_foreign(&mut self) -> Result<()> {
        apply(
            NAMESPACE,
            &format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {FOREIGN}, labels: {{ app: theirs }} }}\nspec:\n  \
                 terminationGracePeriodSeconds: 1\n  \
                 tolerations: [{{ operator: Exists }}]\n  containers: [{{ name: theirs, image: \"{IMAGE}\", imagePullPolicy: Never }}]\n"
            ),
        )?;
        eventually("the foreign pod runs", async || self.foreign_runs().await.map(|uid| uid.is_some()))
            .await?;
        self.foreign = self.foreign_runs().await?.context("it runs")?;
        Ok(())
    }

    /// The uid of the foreign pod, if it runs.
    async fn foreign_runs(&self) -> Result<Option<String>> {
        let pod = self.pods.get(FOREIGN).await?;
        let runs = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
        Ok(pod.uid().filter(|_| runs && pod.metadata.deletion_timestamp.is_none()))
    }
}

impl Ground for Estate {
    async fn clear(&mut self) -> Result<()> {
        for instance in std::mem::take(&mut self.instances) {
            let options = self.options(instance.parse().context("an instance's id")?, true);
            Kubernetes::connect(options).await?.clear().await?;
            let secrets: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
            let ours = ListParams::default().labels(&format!("dev.tidegate.instance={instance}"));
            eventually("no secret is left", async || Ok(secrets.list(&ours).await?.items.is_empty())).await?;
            eventually("no pod is left", async || Ok(self.pods.list(&ours).await?.items.is_empty())).await?;
        }
        let foreign = self.foreign_runs().await?;
        ensure!(foreign.as_ref() == Some(&self.foreign), "the foreign pod was touched");
        Ok(())
    }
}

/// A kubeconfig for the account that gateways have.
fn account_of(node: &Node) -> Result<PathBuf> {
    let token = ctl(&format!("create token tidegate --namespace {NAMESPACE} --duration 4h"))?;
    let server = ctl("config view --minify --output jsonpath={.clusters[0].cluster.server}")?;
    let authority = node.authority();
    let config = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters: [{{name: test, cluster: {{server: \"{server}\", certificate-authority: \"{}\"}}}}]\n\
         users: [{{name: gateway, user: {{token: \"{}\"}}}}]\n\
         contexts: [{{name: test, context: {{cluster: test, user: gateway}}}}]\n",
        authority.display(),
        token.trim()
    );
    let file = PathBuf::from(ROOT).join("kubernetes/gateway.conf");
    std::fs::write(&file, config)?;
    Ok(file)
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
