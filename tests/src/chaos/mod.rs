//! What `make chaos` and `make bench-churn` are made of: engines in network namespaces, real gateway processes, load,
//! faults, and the search for containers that nobody knows of. Everything that it makes has a name or a path of its own
//! ([`ROOT`], `tgchaos*`), and `scripts/chaos --clean` removes all of it, whatever became of the process that made it.

pub mod burst;
pub mod certs;
pub mod gateway;
pub mod host;
pub mod leaks;
pub mod load;
pub mod run;
pub mod stub;
pub mod verdict;

/// Where everything of a run is kept: engines' data, certificates, states, logs.
pub const ROOT: &str = "/var/tmp/tidegate-chaos";

/// The image of the services.
pub const IMAGE: &str = "tidegate-echo:chaos";
