//! Where the engine keeps what it has, and for whom it works.

use std::{ffi::OsString, path::PathBuf};

use ipnet::Ipv4Net;
use tidegate_config::{model::Images, name::HostName};

use crate::InstanceId;

/// Where the engine keeps what it has, and for whom it works.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the file calls the host.
    pub host: HostName,
    /// Whose replicas these are.
    pub instance: InstanceId,
    /// The engine's own folder: images, replicas, volumes. On a disk; not shared with another instance.
    pub folder: PathBuf,
    /// The subnet of the replicas' network; `None`: a free private one.
    pub subnet: Option<Ipv4Net>,
    /// Whether replicas may reach 169.254.0.0/16, where clouds keep the machine's credentials.
    pub allow_metadata: bool,
    /// Where images come from and how long they are kept.
    pub images: Images,
    /// What starts a shim: a program, and the arguments before the shim's own.
    pub shim: ShimProgram,
}

/// The program that calls [`shim::main`](super::shim::main).
#[derive(Debug, Clone)]
pub struct ShimProgram {
    /// Its path.
    pub path: PathBuf,
    /// Arguments before the shim's own.
    pub args: Vec<OsString>,
}
