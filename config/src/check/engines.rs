//! What a service asks for that the engine of a host on which it may run has not: said here, and not when it is started.
//! What plans cope with by themselves (no freezing, say) is a note and no problem: see [`crate::notes`].

use super::At;
use crate::{
    model::{Engine, Host, Probe, Service},
    problem::Draft,
    spec::Scratch,
};

pub(super) fn check(name: &At<String>, service: &Service, hosts: &[Host], problems: &mut Vec<Draft>) {
    if service.is_outside() {
        return;
    }
    for host in hosts.iter().filter(|host| may_run(service, host)) {
        for lack in lacks(service, host.engine) {
            let draft = Draft::new(&name.key, &name.at, format!("may run on {}, where {lack}", host.name));
            problems.push(draft.allowed("run_on = [...] with hosts whose engines have it"));
        }
    }
}

/// Whether neither names nor labels of the file rule the host out; the engine's own labels are not known here.
fn may_run(service: &Service, host: &Host) -> bool {
    let contradicts =
        |(key, value): (&String, &String)| host.labels.get(key).is_some_and(|label| label != value);
    service.runs_on(&host.name) && !service.constraints.iter().any(contradicts)
}

/// What an engine cannot do for a service, in words.
fn lacks(service: &Service, engine: Engine) -> Vec<&'static str> {
    match engine {
        Engine::Auto | Engine::Docker | Engine::Embedded => Vec::new(),
        Engine::Swarm => {
            let resources = &service.launch.resources;
            let probed = matches!(service.health.probe, Some(Probe::Exec { .. }));
            let rows = [
                (probed, "no probe can run a command: engine = \"swarm\" runs none in containers"),
                (resources.disk.is_some(), "resources.disk cannot be kept to by engine = \"swarm\""),
                (
                    resources.scratch == Scratch::Memory,
                    "resources.scratch = \"memory\" is not there: only engine = \"embedded\" has it",
                ),
            ];
            rows.into_iter().filter(|(lacks, _)| *lacks).map(|(_, words)| words).collect()
        }
    }
}
