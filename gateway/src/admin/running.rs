//! What the gateway runs with, told key by key: what a file is compared with before it is applied.

use std::sync::Arc;

use tidegate_config::{Description, describe, describe_gateway, describe_service, model::Model};

use crate::{fleet::Fleet, request::Door};

/// Where the settings in use are.
#[derive(Debug, Clone)]
pub struct Running {
    /// The file as it was when the gateway started: what only a start takes up is from there.
    pub started: Arc<Model>,
    /// The services, each with its settings of now.
    pub fleet: Arc<Fleet>,
    /// The gateway's settings of now.
    pub door: Arc<Door>,
}

impl Running {
    /// Everything, without values of environment variables.
    #[must_use]
    pub fn describe(&self) -> Description {
        let (gateway, _) = describe_gateway(&self.door.settings.load());
        let services = self.fleet.all().into_iter();
        let services =
            services.map(|service| (service.name.to_string(), describe_service(&service.settings())));
        Description { gateway, services: services.collect(), ..describe(&self.started) }
    }
}
