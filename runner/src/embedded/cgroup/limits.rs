//! What a replica may use at most, as the files of its control group have it. Pure.

use tidegate_config::spec::{Profile, Resources};

/// The strict profile's limit of processes and threads.
const STRICT_PIDS: u32 = 256;
/// Over which time a share of cores is counted, in microseconds.
const PERIOD: u64 = 100_000;

/// What a replica may use at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits {
    memory: u64,
    quota: Option<u64>,
    pids: u32,
}

impl Limits {
    /// By a service's settings and its profile.
    pub(crate) fn of(resources: &Resources, profile: Profile) -> Self {
        let pids = match profile {
            Profile::Default => resources.pids,
            Profile::Strict => resources.pids.min(STRICT_PIDS),
        };
        Self { memory: resources.memory.0, quota: resources.cpu.map(quota), pids }
    }

    /// Controller, file and value, in the order of writing. Memory and swap together are as much as memory alone.
    pub(super) fn settings(&self, v2: bool) -> Vec<(&'static str, &'static str, String)> {
        let memory = self.memory.to_string();
        let mut settings = if v2 {
            vec![("memory", "memory.max", memory), ("memory", "memory.swap.max", "0".to_owned())]
        } else {
            vec![
                ("memory", "memory.limit_in_bytes", memory.clone()),
                ("memory", "memory.memsw.limit_in_bytes", memory),
            ]
        };
        match self.quota {
            Some(quota) if v2 => settings.push(("cpu", "cpu.max", format!("{quota} {PERIOD}"))),
            Some(quota) => {
                settings.push(("cpu", "cpu.cfs_period_us", PERIOD.to_string()));
                settings.push(("cpu", "cpu.cfs_quota_us", quota.to_string()));
            }
            None => {}
        }
        settings.push(("pids", "pids.max", self.pids.to_string()));
        settings
    }
}

/// Whether a file is there only if the kernel counts swap.
pub(super) fn about_swap(file: &str) -> bool {
    matches!(file, "memory.swap.max" | "memory.memsw.limit_in_bytes")
}

/// The kernel takes no less than a millisecond.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "cores of a machine times 1e5 fit"
)]
fn quota(cores: f64) -> u64 {
    ((cores * PERIOD as f64).round() as u64).max(1000)
}

#[cfg(test)]
mod tests {
    use tidegate_config::{spec::Launch, units::Bytes};

    use super::*;

    fn check(profile: Profile, cpu: Option<f64>, pids: u32, v2: bool, expected: &[(&str, &str)]) {
        let mut resources = Launch::of("api:1").resources;
        (resources.memory, resources.cpu, resources.pids) = (Bytes(4096), cpu, pids);
        let settings = Limits::of(&resources, profile).settings(v2);
        let settings: Vec<_> = settings.iter().map(|(_, name, value)| (*name, value.as_str())).collect();
        assert_eq!(settings, expected);
    }

    #[test]
    fn limits_are_files() {
        let (memory, swap) = (("memory.limit_in_bytes", "4096"), ("memory.memsw.limit_in_bytes", "4096"));
        check(Profile::Default, None, 1024, false, &[memory, swap, ("pids.max", "1024")]);
        let cpu = [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "50000")];
        check(Profile::Strict, Some(0.5), 1024, false, &[memory, swap, cpu[0], cpu[1], ("pids.max", "256")]);
        let memory = [("memory.max", "4096"), ("memory.swap.max", "0")];
        check(
            Profile::Strict,
            Some(1.5),
            9,
            true,
            &[memory[0], memory[1], ("cpu.max", "150000 100000"), ("pids.max", "9")],
        );
        check(
            Profile::Default,
            Some(0.001),
            9,
            true,
            &[memory[0], memory[1], ("cpu.max", "1000 100000"), ("pids.max", "9")],
        );
    }
}
