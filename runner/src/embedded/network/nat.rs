//! Lets replicas reach the world, and nobody but the gateway reach them: rules for the packet filter, in chains of the
//! instance's own. iptables goes first, because where Docker is, its policy drops what no rule of iptables accepts.
//! Absent: failure. Without the tools everything else works.

use std::{
    env, fs, io,
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt as _,
    process::Command,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::names::{Names, bridge, is_hex};

/// No tool needs longer, not even while it waits for another one's lock.
const DEADLINE: Duration = Duration::from_secs(10);
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
/// Where our chains are called from.
const HOOKS: [(&str, &str); 2] = [("nat", "POSTROUTING"), ("filter", "FORWARD")];
/// What is on another bridge is another's: a container of Docker's, or a replica of another instance. In the words of
/// iptables and of nft.
const OTHERS: [(&str, &str); 3] = [("tg-+", "tg-*"), ("br-+", "br-*"), ("docker0", "docker0")];
const CHAIN: &str = "TIDEGATE-";
const TABLE: &str = "tidegate_";

/// How often rules are made anew: restarting or reloading a firewall takes ours away with its own.
const RENEW: Duration = Duration::from_secs(60);

/// Sees to it that replicas reach the world; says so where they cannot. False if there is nothing to keep up.
pub(super) async fn open(names: &Names, allow_metadata: bool) -> bool {
    if tool("iptables").is_none() && tool("nft").is_none() {
        tracing::warn!("replicas cannot reach the internet: install iptables");
        return false;
    }
    let outcome = put(names, allow_metadata).await;
    if let Err(error) = &outcome {
        tracing::warn!(%error, "replicas cannot reach the internet");
    }
    outcome.is_ok()
}

/// Keeps up what `open` made until it is stopped.
pub(super) async fn keep(names: Names, allow_metadata: bool, stop: CancellationToken) {
    let mut worked = true;
    while stop.run_until_cancelled(sleep(RENEW)).await.is_some() {
        let outcome = put(&names, allow_metadata).await;
        if let (Err(error), true) = (&outcome, worked) {
            tracing::warn!(%error, "cannot renew the rules by which replicas reach the internet");
        }
        worked = outcome.is_ok();
    }
}

async fn put(names: &Names, allow_metadata: bool) -> io::Result<()> {
    forward()?;
    match tool("iptables") {
        Some(_) => with_iptables(names, allow_metadata).await,
        None => with_nft(names, allow_metadata).await,
    }
}

fn forward() -> io::Result<()> {
    if fs::read_to_string(FORWARDING)?.trim() == "0" {
        fs::write(FORWARDING, "1")?;
        tracing::info!("set net.ipv4.ip_forward to 1, so that replicas reach the internet");
    }
    Ok(())
}

async fn with_iptables(names: &Names, allow_metadata: bool) -> io::Result<()> {
    let script = iptables_script(names, allow_metadata);
    done(run("iptables-restore", &["-w", "5", "--noflush"], Some(&script)).await?)?;
    let chain = chain(&names.short);
    for (table, hook) in HOOKS {
        let there = run("iptables", &["-w", "5", "-t", table, "-C", hook, "-j", &chain], None).await?;
        if !there.status.success() {
            done(run("iptables", &["-w", "5", "-t", table, "-I", hook, "1", "-j", &chain], None).await?)?;
        }
    }
    Ok(())
}

async fn with_nft(names: &Names, allow_metadata: bool) -> io::Result<()> {
    done(run("nft", &["-f", "-"], Some(&nft_script(names, allow_metadata))).await?)
}

/// Removes an instance's rules; fine if there are none.
pub(super) async fn close(short: &str) -> io::Result<()> {
    let chain = chain(short);
    if tool("iptables").is_some() {
        for (table, hook) in HOOKS {
            let edit = async |arguments: &[&str]| {
                let arguments = [&["-w", "5", "-t", table], arguments].concat();
                run("iptables", &arguments, None).await.map(|output| output.status.success())
            };
            // More than once only if two gateways began at the same moment.
            while edit(&["-D", hook, "-j", &chain]).await? {}
            edit(&["-F", &chain]).await?;
            edit(&["-X", &chain]).await?;
        }
    }
    if tool("nft").is_some() {
        run("nft", &["delete", "table", "ip", &table(short)], None).await?;
    }
    Ok(())
}

/// The instances that have rules.
pub(super) async fn found() -> io::Result<Vec<String>> {
    let mut text = String::new();
    for (name, arguments) in [("iptables-save", &[][..]), ("nft", &["list", "tables"][..])] {
        if tool(name).is_some() {
            text.push_str(&String::from_utf8_lossy(&run(name, arguments, None).await?.stdout));
        }
    }
    let mut instances: Vec<_> = text.lines().filter_map(instance).map(str::to_owned).collect();
    instances.sort();
    instances.dedup();
    Ok(instances)
}

/// Whose chain or table a line of a listing declares.
fn instance(line: &str) -> Option<&str> {
    let name = line.strip_prefix(':').or_else(|| line.strip_prefix("table ip "))?.split(' ').next()?;
    let short = name.strip_prefix(CHAIN).or_else(|| name.strip_prefix(TABLE))?;
    is_hex(short, 8).then_some(short)
}

fn chain(short: &str) -> String {
    format!("{CHAIN}{short}")
}

fn table(short: &str) -> String {
    format!("{TABLE}{short}")
}

/// For `iptables-restore`: each chain is replaced in one step.
fn iptables_script(names: &Names, allow_metadata: bool) -> String {
    let (chain, bridge, subnet) = (chain(&names.short), bridge(&names.short), names.subnet);
    let mut rules = vec![
        format!("-o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        format!("-o {bridge} -j DROP"),
    ];
    if !allow_metadata {
        let refuse = "-j REJECT --reject-with icmp-admin-prohibited";
        rules.push(format!("-i {bridge} -d 169.254.0.0/16 {refuse}"));
    }
    rules.extend(OTHERS.map(|(other, _)| format!("-i {bridge} -o {other} -j DROP")));
    rules.push(format!("-i {bridge} -j ACCEPT"));
    let rules: String = rules.iter().map(|rule| format!("-A {chain} {rule}\n")).collect();
    format!(
        "*nat\n:{chain} - [0:0]\n-A {chain} -s {subnet} ! -o {bridge} -j MASQUERADE\nCOMMIT\n\
         *filter\n:{chain} - [0:0]\n{rules}COMMIT\n"
    )
}

/// For `nft`: the table is replaced in one step.
fn nft_script(names: &Names, allow_metadata: bool) -> String {
    let (table, bridge, subnet) = (table(&names.short), bridge(&names.short), names.subnet);
    let metadata =
        format!("iifname \"{bridge}\" ip daddr 169.254.0.0/16 reject with icmp type admin-prohibited");
    let metadata = if allow_metadata { "" } else { &metadata };
    let others = OTHERS.map(|(_, other)| format!("iifname \"{bridge}\" oifname \"{other}\" drop")).join("\n");
    format!(
        "table ip {table} {{}}\ndelete table ip {table}\ntable ip {table} {{\n\
         chain postrouting {{\ntype nat hook postrouting priority 100;\n\
         ip saddr {subnet} oifname != \"{bridge}\" masquerade\n}}\n\
         chain forward {{\ntype filter hook forward priority 0;\n\
         oifname \"{bridge}\" ct state established,related accept\n\
         oifname \"{bridge}\" drop\n{metadata}\n\
         {others}\n\
         iifname \"{bridge}\" accept\n}}\n}}\n"
    )
}

/// Where a tool is: services often run with a PATH that lacks the folders of system tools.
fn tool(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

async fn run(name: &str, arguments: &[&str], input: Option<&str>) -> io::Result<Output> {
    let program = tool(name).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no {name}")))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let work = async {
        let mut child = command.spawn()?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            stdin.write_all(input.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("{name} did not end within {DEADLINE:?}"));
    timeout(DEADLINE, work).await.map_err(|_| late())?
}

fn done(output: Output) -> io::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_told_from_others() {
        for (line, expected) in [
            (":TIDEGATE-0123abcd - [0:0]", Some("0123abcd")),
            ("table ip tidegate_0123abcd", Some("0123abcd")),
            ("-A FORWARD -j TIDEGATE-0123abcd", None),
            (":TIDEGATE-mine - [0:0]", None),
            (":DOCKER - [0:0]", None),
        ] {
            assert_eq!(instance(line), expected, "{line}");
        }
    }

    #[test]
    fn metadata_is_refused_unless_allowed() {
        let names = Names { short: "0123abcd".into(), subnet: "10.64.0.0/22".parse().expect("a subnet") };
        for allow in [false, true] {
            for script in [iptables_script(&names, allow), nft_script(&names, allow)] {
                assert_eq!(script.contains("169.254.0.0/16"), !allow, "{script}");
                assert!(script.contains("10.64.0.0/22") && script.contains("tg-0123abcd"), "{script}");
            }
        }
    }
}
