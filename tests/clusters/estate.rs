//! What cases run on: three machines joined into a swarm, this machine's own engine beside it, and a service of somebody
//! else's that nobody may touch.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use crate::Ground;
use anyhow::{Context, Result, ensure};
use bollard::{
    Docker,
    models::{
        NodeState, ServiceSpec, SwarmInitRequest, SwarmJoinRequest, TaskSpec, TaskSpecContainerSpec,
        TaskSpecPlacement, TaskState,
    },
    query_parameters::{
        InspectServiceOptions, KillContainerOptions, ListContainersOptions, ListNodesOptions,
        ListTasksOptions,
    },
};
use e2e::{
    chaos::{
        IMAGE, ROOT,
        certs::Authority,
        gateway::{Gateway, Setup},
        host::{self, Host, Options},
        leaks::Engines,
        run::run,
    },
    eventually::eventually,
};
use tidegate_runner::{
    InstanceId,
    swarm::{self, Swarm},
};

/// A service that is not ours.
const FOREIGN: &str = "somebody-elses";

/// Three nodes; the first is the manager.
pub(crate) struct Estate {
    pub(crate) nodes: Vec<Host>,
    /// Addresses of nodes, by Swarm's ids of them.
    addresses: HashMap<String, String>,
    /// The foreign service: its id and version.
    foreign: (String, u64),
    /// Instances whose replicas are removed after the case.
    instances: Vec<String>,
}

impl Estate {
    pub(crate) async fn up() -> Result<Self> {
        let authority = Authority::new(&host::certs())?;
        authority.gateway()?;
        let image = Path::new(ROOT).join("echo.tar");
        if !image.exists() {
            run(&format!("docker save --output {} {IMAGE}", image.display()))
                .context("scripts/image makes it")?;
        }
        let mut nodes = Vec::new();
        for number in 1..=3 {
            let node = Host::up(number, &authority, Options::default()).await?;
            node.load(&image)?;
            nodes.push(node);
        }
        join(&nodes).await?;
        let listed = nodes[0].docker()?.list_nodes(None::<ListNodesOptions>).await?;
        let address = |node: bollard::models::Node| Some((node.id?, node.status?.addr?));
        let addresses = listed.into_iter().filter_map(address).collect();
        let mut estate = Self { nodes, addresses, foreign: Default::default(), instances: Vec::new() };
        estate.make_foreign().await?;
        estate.foreign = estate.foreign_version().await?;
        Ok(estate)
    }

    /// The manager's engine.
    pub(crate) fn manager(&self) -> Result<Docker> {
        self.nodes[0].docker()
    }

    /// The address of a node.
    pub(crate) fn address_of(&self, node: &str) -> Result<&str> {
        self.addresses.get(node).map(String::as_str).context("a node of ours")
    }

    /// All engines, by their names.
    pub(crate) fn engines(&self) -> Result<Engines> {
        self.nodes.iter().map(|node| Ok((node.name(), node.docker()?))).collect()
    }

    /// The `[[hosts]]` table of the swarm.
    pub(crate) fn config(&self) -> String {
        let (address, certs) = (self.nodes[0].address(), host::certs());
        let certs = certs.display();
        format!(
            "[[hosts]]\nname = \"swarm\"\nengine = \"swarm\"\nendpoint = \"tcp://{address}:2376\"\n\
             tls = {{ ca = \"{certs}/ca.pem\", cert = \"{certs}/gateway.pem\", key = \"{certs}/gateway.key\" }}\n"
        )
    }

    /// What a runner of ours needs.
    pub(crate) fn options(&self, instance: InstanceId) -> swarm::Options {
        swarm::Options {
            host: "swarm".parse().expect("a host's name"),
            endpoint: Some(format!("unix://{}", self.nodes[0].socket().display())),
            tls: None,
            address: None,
            instance,
        }
    }

    /// A gateway whose replicas are removed after the case.
    pub(crate) async fn gateway(&mut self, config: String) -> Result<Gateway> {
        let gateway = Gateway::start(Setup::new(config)).await?;
        self.instances.push(gateway.instance()?);
        Ok(gateway)
    }

    /// An instance of a case's own, the same.
    pub(crate) fn instance(&mut self, bits: u128) -> InstanceId {
        let instance = InstanceId::from_bits(bits);
        self.instances.push(instance.to_string());
        instance
    }

    /// Ends a replica's process on whichever node it runs, as SIGKILL does.
    pub(crate) async fn kill(engines: Arc<Engines>, instance: &str, replica: &str) -> Result<()> {
        let labels = [format!("dev.tidegate.instance={instance}"), format!("dev.tidegate.replica={replica}")];
        let filters = Some(HashMap::from([("label".to_owned(), labels.to_vec())]));
        let options = ListContainersOptions { filters, ..ListContainersOptions::default() };
        let kill = async {
            loop {
                for engine in engines.values() {
                    let found = engine.list_containers(Some(options.clone())).await?;
                    if let Some(container) = found.into_iter().find_map(|one| one.id) {
                        let signal = KillContainerOptions { signal: "KILL".into() };
                        return Ok(engine.kill_container(&container, Some(signal)).await?);
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), kill).await.context("its container never runs")?
    }

    /// Waits until so many nodes are ready.
    pub(crate) async fn ready(&self, count: usize) -> Result<()> {
        let manager = self.manager()?;
        let what = format!("{count} nodes are ready");
        let waited = eventually(&what, async || {
            let nodes = manager.list_nodes(None::<ListNodesOptions>).await?;
            let states = nodes.into_iter().filter_map(|node| node.status?.state);
            Ok(states.filter(|state| *state == NodeState::READY).count() == count)
        });
        waited.await
    }

    async fn make_foreign(&self) -> Result<()> {
        let manager = self.manager()?;
        let image = manager.inspect_image(IMAGE).await?.id;
        let spec = ServiceSpec {
            name: Some(FOREIGN.into()),
            task_template: Some(TaskSpec {
                container_spec: Some(TaskSpecContainerSpec { image, ..TaskSpecContainerSpec::default() }),
                placement: Some(TaskSpecPlacement {
                    // Where nothing is taken down.
                    constraints: Some(vec!["node.role==manager".into()]),
                    ..TaskSpecPlacement::default()
                }),
                ..TaskSpec::default()
            }),
            ..ServiceSpec::default()
        };
        manager.create_service(spec, None).await?;
        eventually("the foreign service runs", async || self.foreign_runs().await).await
    }

    async fn foreign_version(&self) -> Result<(String, u64)> {
        let found = self.manager()?.inspect_service(FOREIGN, None::<InspectServiceOptions>).await?;
        let version = found.version.and_then(|version| version.index);
        found.id.zip(version).context("the foreign service")
    }

    async fn foreign_runs(&self) -> Result<bool> {
        let filters = Some(HashMap::from([("service".to_owned(), vec![FOREIGN.to_owned()])]));
        let tasks = self.manager()?.list_tasks(Some(ListTasksOptions { filters })).await?;
        let mut states = tasks.into_iter().filter_map(|task| task.status?.state);
        Ok(states.any(|state| state == TaskState::RUNNING))
    }
}

impl Ground for Estate {
    async fn clear(&mut self) -> Result<()> {
        for instance in std::mem::take(&mut self.instances) {
            let options = self.options(instance.parse().context("an instance's id")?);
            Swarm::connect(options).await?.clear().await?;
        }
        ensure!(self.foreign_version().await? == self.foreign, "the foreign service was changed");
        eventually("the foreign service runs", async || self.foreign_runs().await).await?;
        Ok(())
    }
}

/// Makes one swarm of all.
async fn join(nodes: &[Host]) -> Result<()> {
    let at = |node: &Host| Some(format!("{}:2377", node.address()));
    let manager = nodes[0].docker()?;
    let init =
        SwarmInitRequest { listen_addr: at(&nodes[0]), advertise_addr: at(&nodes[0]), ..Default::default() };
    manager.init_swarm(init).await.context("swarm init")?;
    let token = manager.inspect_swarm().await?.join_tokens.and_then(|tokens| tokens.worker);
    for node in &nodes[1..] {
        let request = SwarmJoinRequest {
            listen_addr: at(node),
            advertise_addr: at(node),
            remote_addrs: Some(Vec::from_iter(at(&nodes[0]))),
            join_token: token.clone(),
            ..SwarmJoinRequest::default()
        };
        tokio::time::timeout(Duration::from_secs(60), node.docker()?.join_swarm(request))
            .await
            .context("a node does not reach the manager")?
            .context("swarm join")?;
    }
    Ok(())
}
