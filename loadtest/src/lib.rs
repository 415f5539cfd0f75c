//! Open-loop load over HTTP: requests go out when the plan says, whether or not earlier ones were answered, and each
//! latency counts from the instant planned for it, so that a stall is felt by every request that it delayed.
//!
//! [`plan`] says when, [`target`] where to, [`send`] does it, [`record`] counts, [`pace`] tells whether the generator
//! itself was fast enough, [`report`] and [`threshold`] say what came of it. A black box: nothing of Tidegate's is used.

use std::time::Duration;

mod connection;
mod metronome;
pub mod pace;
pub mod plan;
pub mod record;
pub mod report;
pub mod send;
pub mod target;
pub mod threshold;

use anyhow::Context;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

pub use record::Errors;
pub use report::Report;
pub use send::Snapshot;
pub use threshold::{Outcome, Threshold};

use crate::plan::Plan;

/// What to send and where. How fast is the [`Plan`]'s business.
#[derive(Debug, Clone)]
pub struct Options {
    /// An `http://` URL. `localhost` and names under it lead to this machine without DNS.
    pub url: String,
    /// Connections at most; as few as needed are opened.
    pub connections: usize,
    /// From the moment a request has a connection (or starts to open one) to the end of its answer.
    pub timeout: Duration,
    /// The method of every request.
    pub method: Method,
    /// Header fields to add.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body of every request.
    pub body: Vec<u8>,
    /// The host to ask for instead of the URL's.
    pub host: Option<String>,
    /// HTTP/2 with prior knowledge, one request at a time per connection.
    pub h2c: bool,
}

impl Options {
    /// 64 connections, a timeout of 30 s, `GET` without a body.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            connections: 64,
            timeout: Duration::from_secs(30),
            method: Method::GET,
            headers: Vec::new(),
            body: Vec::new(),
            host: None,
            h2c: false,
        }
    }
}

/// Sends a plan. `progress` is called about four times a second and once at the end.
pub async fn run(
    options: Options,
    plan: Plan,
    progress: impl FnMut(Snapshot) + Send,
) -> anyhow::Result<Report> {
    anyhow::ensure!(options.connections > 0, "connections: 0; at least one is needed");
    anyhow::ensure!(!options.timeout.is_zero(), "timeout: 0; a request needs some time");
    let target = target::Target::resolve(&options.url, options.host.as_deref()).await?;
    let mut headers = HeaderMap::new();
    headers.extend(options.headers.into_iter().map(|(name, value)| (Some(name), value)));
    let request = target.request(options.method, headers, options.body.into(), options.h2c);
    let sending = send::Sending {
        target,
        request,
        h2c: options.h2c,
        timeout: options.timeout,
        connections: options.connections,
    };
    let tally = Box::pin(send::send(sending, &plan, progress)).await.context("start the pacing thread")?;
    Ok(Report::new(options.url, &plan, tally))
}
