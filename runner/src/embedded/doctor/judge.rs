//! What a look at the machine means: for each thing that the engine needs or likes to have, whether it is there, and what
//! to do if not. Pure.

use serde::Serialize;

use super::machine::{Cgroups, Machine};

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is there.
    Ok,
    /// Something works less well, or not at all, without it.
    Warn,
    /// The engine cannot do without it.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it stands.
    pub verdict: Verdict,
    /// The thing.
    pub what: &'static str,
    /// What was found.
    pub found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// What the engine does as root, with the bit of each.
const CAPABILITIES: [(u32, &str); 14] = [
    (0, "CHOWN"),
    (1, "DAC_OVERRIDE"),
    (3, "FOWNER"),
    (4, "FSETID"),
    (5, "KILL"),
    (6, "SETGID"),
    (7, "SETUID"),
    (8, "SETPCAP"),
    (10, "NET_BIND_SERVICE"),
    (12, "NET_ADMIN"),
    (18, "SYS_CHROOT"),
    (21, "SYS_ADMIN"),
    (27, "MKNOD"),
    (31, "SETFCAP"),
];
const NAMESPACES: [&str; 5] = ["ipc", "mnt", "net", "pid", "uts"];
/// Processes by descriptor, which tells them from later ones of the same number.
const LEAST_KERNEL: (u32, u32) = (5, 3);
const LEAST_FREE: u64 = 1 << 30;
const LEAST_FILES: u64 = 4096;

/// Every thing, in the order in which they matter.
pub(super) fn judge(machine: &Machine) -> Vec<Finding> {
    let mut all = vec![kernel(machine), user(machine), namespaces(machine), seccomp(machine)];
    all.extend(cgroups(&machine.cgroups));
    all.extend(overlay(machine));
    all.extend(network(machine));
    all.extend([disk(machine), files(machine)]);
    all.extend(free(machine));
    let fit = all.iter().all(|finding| finding.verdict != Verdict::Fail);
    all.extend([user_namespaces(machine), docker(machine), auto(machine, fit)]);
    all
}

fn finding(verdict: Verdict, what: &'static str, found: impl Into<String>, advice: &str) -> Finding {
    let advice = (!advice.is_empty()).then(|| advice.to_owned());
    Finding { verdict, what, found: found.into(), advice }
}

fn kernel(machine: &Machine) -> Finding {
    let mut numbers =
        machine.kernel.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let found = format!("Linux {}", machine.kernel);
    if version < LEAST_KERNEL {
        let (major, minor) = LEAST_KERNEL;
        let found = format!("{found}: no process descriptors (pidfd)");
        return finding(Verdict::Fail, "kernel", found, &format!("a kernel of {major}.{minor} or later"));
    }
    finding(Verdict::Ok, "kernel", found, "")
}

fn user(machine: &Machine) -> Finding {
    if machine.user != 0 {
        let found = format!("user {}, not root; what needs root was not tried", machine.user);
        let advice =
            "the embedded engine does not run rootless: start Tidegate as root, or use engine = \"docker\"";
        return finding(Verdict::Fail, "root", found, advice);
    }
    let missing: Vec<_> = CAPABILITIES
        .iter()
        .filter(|(bit, _)| machine.capabilities & (1 << bit) == 0)
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() {
        return finding(Verdict::Ok, "root", "root, with all capabilities that are needed", "");
    }
    let found = format!("root without the capabilities {}", missing.join(", "));
    let advice = "give them: CapabilityBoundingSet= of the systemd unit, or --privileged of the container that this is";
    finding(Verdict::Fail, "root", found, advice)
}

fn namespaces(machine: &Machine) -> Finding {
    let missing: Vec<_> = NAMESPACES.into_iter().filter(|name| !machine.namespaces.contains(*name)).collect();
    if missing.is_empty() {
        return finding(Verdict::Ok, "namespaces", NAMESPACES.join(", "), "");
    }
    let found = format!("the kernel has none of the kinds {}", missing.join(", "));
    finding(Verdict::Fail, "namespaces", found, "a kernel with CONFIG_NAMESPACES and its kinds")
}

fn seccomp(machine: &Machine) -> Finding {
    match machine.seccomp {
        true => finding(Verdict::Ok, "seccomp", "system calls can be filtered", ""),
        false => finding(
            Verdict::Fail,
            "seccomp",
            "system calls cannot be filtered",
            "a kernel with CONFIG_SECCOMP_FILTER",
        ),
    }
}

fn cgroups(cgroups: &Cgroups) -> Vec<Finding> {
    const MOUNT: &str = "mount them below /sys/fs/cgroup (systemd does; in a container: --privileged)";
    if cgroups.version == 0 {
        return vec![finding(Verdict::Fail, "control groups", "none are mounted", MOUNT)];
    }
    let has = |name: &&str| cgroups.controllers.contains(*name);
    let lacks = |names: &[&'static str]| names.iter().copied().filter(|name| !has(name)).collect::<Vec<_>>();
    let (needed, useful) = (lacks(&["memory", "pids", "freezer"]), lacks(&["cpu"]));
    let version = format!("v{}", cgroups.version);
    let mut all = Vec::new();
    if !needed.is_empty() {
        let found = format!("{version}, without {}", needed.join(", "));
        let advice = "enable them: cgroup_enable=memory on the kernel's command line, or Delegate=yes in the systemd unit";
        all.push(finding(Verdict::Fail, "control groups", found, advice));
    }
    if !useful.is_empty() {
        let found = format!("{version}, without cpu: resources.cpu cannot be enforced");
        all.push(finding(
            Verdict::Warn,
            "control groups",
            found,
            "a kernel with CONFIG_CFS_BANDWIDTH, and the controller enabled",
        ));
    }
    if let Some(Err(error)) = &cgroups.writable {
        let advice = "they must be writable: ReadWritePaths and Delegate=yes in the systemd unit, --privileged of a container";
        all.push(finding(Verdict::Fail, "control groups", error.clone(), advice));
    }
    if all.is_empty() {
        let names: Vec<_> = cgroups.controllers.iter().map(String::as_str).collect();
        all.push(finding(Verdict::Ok, "control groups", format!("{version}: {}", names.join(", ")), ""));
    }
    all
}

fn overlay(machine: &Machine) -> Option<Finding> {
    const COPIED: &str = "root file systems will be copied, which is slow and takes more disk; load the module: modprobe overlay";
    const MOVE: &str = "keep the state directory on ext4 or xfs (--state): root file systems will be copied, or use scratch = \"memory\"";
    Some(match machine.overlay.as_ref()? {
        (Err(error), _) => finding(Verdict::Warn, "overlayfs", format!("cannot be mounted: {error}"), COPIED),
        (Ok(()), Some(Err(error))) => finding(
            Verdict::Warn,
            "overlayfs",
            format!("cannot be mounted in the state directory: {error}"),
            MOVE,
        ),
        (Ok(()), Some(Ok(())) | None) => finding(Verdict::Ok, "overlayfs", "can be mounted", ""),
    })
}

fn network(machine: &Machine) -> Vec<Finding> {
    let mut all = Vec::new();
    match &machine.network {
        None => {}
        Some(Ok(())) => {
            all.push(finding(Verdict::Ok, "network", "bridges and virtual cards (veth) can be made", ""))
        }
        Some(Err(error)) => {
            let advice = "load the modules: modprobe -a bridge veth";
            all.push(finding(
                Verdict::Fail,
                "network",
                format!("bridges and veth cannot be made: {error}"),
                advice,
            ));
        }
    }
    match &machine.filter {
        None => {}
        Some(Ok(program)) => all.push(finding(Verdict::Ok, "packet filter", format!("{program} works"), "")),
        Some(Err(error)) => {
            let advice = "install nftables or iptables: without, replicas reach the gateway and nothing else";
            all.push(finding(Verdict::Warn, "packet filter", error.clone(), advice));
        }
    }
    all
}

fn disk(machine: &Machine) -> Finding {
    if machine.disk_lacks.is_empty() {
        return finding(Verdict::Ok, "disk limits", "mkfs.ext4 and loop devices are there", "");
    }
    let found = format!("no {}", machine.disk_lacks.join(", no "));
    finding(Verdict::Warn, "disk limits", found, "needed for resources.disk with scratch = \"disk\" only")
}

fn files(machine: &Machine) -> Finding {
    let (soft, hard) = machine.open_files;
    let found = format!("{soft} (at most {hard})");
    if hard < LEAST_FILES {
        return finding(
            Verdict::Warn,
            "open files",
            found,
            "raise the limit: LimitNOFILE=65536, or ulimit -n",
        );
    }
    finding(Verdict::Ok, "open files", found, "")
}

fn free(machine: &Machine) -> Option<Finding> {
    let (folder, free) = machine.free.as_ref()?;
    let tenths = free / ((1 << 30) / 10);
    let found = format!("{}.{} GiB free in {}", tenths / 10, tenths % 10, folder.display());
    Some(if *free < LEAST_FREE {
        let advice = "make room (`tidegate images prune`), or keep the state elsewhere (--state)";
        finding(Verdict::Warn, "disk space", found, advice)
    } else {
        finding(Verdict::Ok, "disk space", found, "")
    })
}

fn user_namespaces(machine: &Machine) -> Finding {
    let found = if machine.namespaces.contains("user") { "there" } else { "not in this kernel" };
    finding(Verdict::Ok, "user namespaces", format!("{found}; the engine does not use them"), "")
}

fn docker(machine: &Machine) -> Finding {
    let (socket, answers) = &machine.docker;
    let found = if *answers { "answers" } else { "does not answer" };
    finding(
        Verdict::Ok,
        "Docker",
        format!("{found} on {}; the embedded engine needs none", socket.display()),
        "",
    )
}

fn auto(machine: &Machine, fit: bool) -> Finding {
    if !machine.chosen.is_empty() {
        let chosen: Vec<_> =
            machine.chosen.iter().map(|(host, engine)| format!("{engine} on {host}")).collect();
        return finding(
            Verdict::Ok,
            "engine",
            format!("chosen by an earlier start: {}", chosen.join(", ")),
            "",
        );
    }
    let engine = match (machine.docker.1, fit) {
        (true, _) => "Docker",
        (false, true) => "the embedded one",
        (false, false) => "neither: no Docker answers, and the embedded one lacks what fails above",
    };
    finding(Verdict::Ok, "engine", format!("none chosen yet; engine = \"auto\" would take {engine}"), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Machine {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Machine {
            kernel: "6.1.0-13-amd64".into(),
            user: 0,
            capabilities: u64::MAX,
            namespaces: names(&["ipc", "mnt", "net", "pid", "uts", "user"]),
            cgroups: Cgroups {
                version: 2,
                controllers: names(&["cpu", "freezer", "memory", "pids"]),
                writable: Some(Ok(())),
            },
            seccomp: true,
            overlay: Some((Ok(()), Some(Ok(())))),
            network: Some(Ok(())),
            filter: Some(Ok("nft")),
            disk_lacks: Vec::new(),
            free: Some(("/var/lib".into(), 8 << 30)),
            open_files: (1024, 65_536),
            docker: ("/var/run/docker.sock".into(), false),
            chosen: std::collections::BTreeMap::new(),
        }
    }

    /// What is not fine after this change, and what is said of it.
    fn odd(change: impl FnOnce(&mut Machine)) -> Vec<(Verdict, &'static str, String)> {
        let mut machine = good();
        change(&mut machine);
        let all = judge(&machine).into_iter().filter(|finding| finding.verdict > Verdict::Ok);
        all.map(|finding| {
            let advice = finding.advice.expect("whatever is odd comes with advice");
            (finding.verdict, finding.what, format!("{}; {advice}", finding.found))
        })
        .collect()
    }

    type Row = (fn(&mut Machine), Verdict, &'static str, &'static str);

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        use Verdict::{Fail, Warn};
        assert_eq!(odd(|_| ()), []);
        let rows: [Row; 17] = [
            (|m| m.kernel = "4.19.0".into(), Fail, "kernel", "pidfd"),
            (|m| m.user = 1000, Fail, "root", "does not run rootless"),
            (|m| m.capabilities &= !(1 << 21 | 1 << 12), Fail, "root", "NET_ADMIN, SYS_ADMIN"),
            (
                |m| {
                    m.namespaces.remove("net");
                },
                Fail,
                "namespaces",
                "net",
            ),
            (|m| m.seccomp = false, Fail, "seccomp", "CONFIG_SECCOMP_FILTER"),
            (|m| m.cgroups.version = 0, Fail, "control groups", "none are mounted"),
            (
                |m| {
                    m.cgroups.controllers.remove("memory");
                },
                Fail,
                "control groups",
                "cgroup_enable=memory",
            ),
            (
                |m| {
                    m.cgroups.controllers.remove("cpu");
                },
                Warn,
                "control groups",
                "resources.cpu",
            ),
            (|m| m.cgroups.writable = Some(Err("EROFS".into())), Fail, "control groups", "EROFS"),
            (|m| m.overlay = Some((Err("ENODEV".into()), None)), Warn, "overlayfs", "copied"),
            (
                |m| m.overlay = Some((Ok(()), Some(Err("EINVAL".into())))),
                Warn,
                "overlayfs",
                "state directory",
            ),
            (|m| m.network = Some(Err("EOPNOTSUPP".into())), Fail, "network", "modprobe"),
            (|m| m.filter = Some(Err("nft is not installed".into())), Warn, "packet filter", "install"),
            (|m| m.disk_lacks = vec!["mkfs.ext4"], Warn, "disk limits", "no mkfs.ext4"),
            (|m| m.free = Some(("/x".into(), 1 << 29)), Warn, "disk space", "0.5 GiB free in /x"),
            (|m| m.open_files = (256, 1024), Warn, "open files", "256 (at most 1024)"),
            (|m| m.kernel = String::new(), Fail, "kernel", "5.3"),
        ];
        for (change, verdict, what, words) in rows {
            let found = odd(change);
            assert_eq!(found.len(), 1, "{what}: {found:?}");
            assert_eq!((found[0].0, found[0].1), (verdict, what));
            assert!(found[0].2.contains(words), "{found:?}");
        }
    }

    #[test]
    fn what_auto_takes_is_said() {
        for (docker, fit, chosen, words) in [
            (true, true, None, "would take Docker"),
            (true, false, None, "would take Docker"),
            (false, true, None, "would take the embedded one"),
            (false, false, None, "would take neither"),
            (true, true, Some("embedded"), "embedded on local"),
        ] {
            let mut machine = good();
            machine.docker.1 = docker;
            machine.chosen.extend(chosen.map(|engine| ("local".to_owned(), engine.to_owned())));
            let said = auto(&machine, fit);
            assert!(said.found.contains(words), "{said:?}");
        }
    }
}
