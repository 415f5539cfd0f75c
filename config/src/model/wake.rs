//! Who wakes a service that sleeps, and how often.

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;

use crate::{name::PathPrefix, units::Rate};

/// Who wakes a service that sleeps, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wake {
    /// What somebody sees who opens a page of it; `None`: the request is held like any other.
    pub waiting_page: Option<WaitingPage>,
    /// How many wakes one client may cause; `None`: any number.
    pub per_client: Option<Rate>,
    /// How many wakes all clients together may cause; `None`: any number.
    pub per_service: Option<Rate>,
    /// Who neither wakes it nor keeps it awake.
    pub ignore: Ignore,
}

impl Default for Wake {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            waiting_page: None,
            per_client: Some(Rate::new(10, minute).expect("in range")),
            per_service: Some(Rate::new(60, minute).expect("in range")),
            ignore: Ignore::default(),
        }
    }
}

/// What somebody sees who opens a page of a service that sleeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitingPage {
    /// Tidegate's.
    BuiltIn,
    /// The text of an HTML file.
    Own(Arc<str>),
}

/// Who neither wakes a service nor keeps it awake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignore {
    /// Who asks for these paths, or for one below them.
    pub paths: Vec<PathPrefix>,
    /// Whose `User-Agent` contains one of these, in lower case.
    pub user_agents: Vec<String>,
    /// Who comes from these networks.
    pub networks: Vec<IpNet>,
    /// Whether those of the built-in list are added to `user_agents`.
    pub monitors: bool,
}

impl Default for Ignore {
    fn default() -> Self {
        Self { paths: Vec::new(), user_agents: Vec::new(), networks: Vec::new(), monitors: true }
    }
}

impl Ignore {
    /// What is looked for in a `User-Agent`, in lower case.
    pub fn agents(&self) -> impl Iterator<Item = &str> {
        let built_in = if self.monitors { MONITORS } else { &[] };
        self.user_agents.iter().map(String::as_str).chain(built_in.iter().copied())
    }
}

/// What the programs call themselves that ask day and night and need no answer of the service's own: monitors, health
/// checks of load balancers, and bots that collect. Search engines are not among them: they would show `asleep` to people.
const MONITORS: &[&str] = &[
    // Monitors.
    "better uptime",
    "betteruptime",
    "blackbox exporter",
    "check_http",
    "checkly",
    "cronitor",
    "datadog/synthetics",
    "datadogsynthetics",
    "dynatracesynthetic",
    "freshping",
    "gatus/",
    "googlestackdrivermonitoring",
    "hetrixtools",
    "icinga",
    "jetmon",
    "montastic",
    "nagios",
    "newrelicsynthetics",
    "nodeping",
    "panopta",
    "pingdom",
    "site24x7",
    "statuscake",
    "updown.io",
    "uptime-kuma",
    "uptimia",
    "uptimerobot",
    "zabbix",
    // Health checks.
    "amazon-route53-health-check",
    "consul health check",
    "elb-healthchecker",
    "envoy/hc",
    "googlehc/",
    "kube-probe/",
    // Bots that collect.
    "ahrefsbot",
    "amazonbot",
    "barkrowler",
    "blexbot",
    "bytespider",
    "ccbot/",
    "censysinspect",
    "claudebot",
    "dataforseobot",
    "dotbot",
    "expanse, a palo alto networks company",
    "gptbot",
    "internetmeasurement",
    "masscan",
    "meta-externalagent",
    "mj12bot",
    "perplexitybot",
    "petalbot",
    "semrushbot",
    "serpstatbot",
    "zgrab",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_for_in_lower_case() {
        assert!(MONITORS.iter().all(|name| *name == name.to_ascii_lowercase()));
        let own = Ignore { user_agents: vec!["mine/".into()], ..Ignore::default() };
        assert_eq!(own.agents().count(), MONITORS.len() + 1);
        assert_eq!(Ignore { monitors: false, ..own }.agents().collect::<Vec<_>>(), ["mine/"]);
    }
}
