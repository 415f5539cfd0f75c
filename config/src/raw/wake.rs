//! Who wakes a service that sleeps.

use crate::{
    decode::{
        At,
        leaf::{Often, OnOrFile, Text},
        section,
    },
    model,
};

section! {
    /// Who wakes a service that sleeps, and how often.
    Wake, d = model::Wake::default() => {
        /// Whether somebody who opens a page of the service in a browser while it sleeps sees a page that follows the start and
        /// goes on by itself; or an HTML file, relative to this file's folder, to be shown instead of the built-in page. Other
        /// requests are held.
        waiting_page: OnOrFile = d.waiting_page.is_some(),
        /// How many wakes one client may cause, as in `"10/m"` (also `s` and `h`); `"off"` for any number. Only what starts
        /// a replica counts, not each request. Beyond it: 429 `rate_limited`.
        per_client: Often = d.per_client.map(|rate| rate.to_string()),
        /// How many wakes all clients together may cause; `"off"` for any number. Beyond it: 503 `too_many_wakes`.
        per_service: Often = d.per_service.map(|rate| rate.to_string()),
        /// Who neither wakes the service nor keeps it awake.
        ignore: Ignore,
    }
}

section! {
    /// Who neither wakes the service nor keeps it awake. While it sleeps they get `200` and the word `asleep`, or 503 and the
    /// reason if its last start failed; while it is awake they are answered by it.
    Ignore, d = model::Ignore::default() => {
        /// Who asks for these paths, or for one below them, as the service sees them.
        paths: Vec<At<Text>> = Vec::<String>::new(),
        /// Whose `User-Agent` contains one of these; case does not matter.
        user_agents: Vec<At<Text>> = d.user_agents,
        /// Who comes from these addresses or networks.
        networks: Vec<At<Text>> = d.networks,
        /// Whether the usual monitors, health checks and collecting bots are known by their `User-Agent`. Search engines
        /// are not among them.
        monitors: bool = d.monitors,
    }
}
