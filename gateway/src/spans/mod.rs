//! Spans on their way to a collector (OTLP over HTTP, or HTTPS): a bounded queue, and a thread that sends what is in it, many at once.
//! Holds: a collector that is slow or gone keeps no request waiting; what does not fit or cannot be sent is dropped and
//! counted.

mod client;
pub mod context;
pub mod span;

use std::{collections::HashMap, thread, time::Duration};

use anyhow::Context as _;
use metrics::{Counter, counter};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanExporter as _},
};
use tidegate_config::model::Tracing;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use self::client::Client;
pub use self::context::Context;
use crate::telemetry;

/// Requests whose spans may wait to be sent.
const WAITING: usize = 2048;

/// Requests whose spans go together.
const TOGETHER: usize = 256;

/// How long they are gathered.
const GATHER: Duration = Duration::from_secs(1);

/// For one batch, from connect to answer.
const SEND: Duration = Duration::from_secs(10);

/// How long those that wait may take when the gateway ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where spans go.
#[derive(Debug)]
pub struct Spans {
    settings: Tracing,
    queue: mpsc::Sender<Vec<SpanData>>,
    dropped: Counter,
    ended: watch::Receiver<bool>,
}

impl Spans {
    /// Sends spans as the settings say.
    ///
    /// # Errors
    /// When a header's file or the authorities cannot be read, or there is no thread to be had.
    pub fn start(settings: Tracing) -> anyhow::Result<Self> {
        let mut headers = HashMap::new();
        for (name, file) in &settings.headers {
            let text = std::fs::read_to_string(file);
            let text = text.with_context(|| format!("gateway.tracing.headers.{name}: {}", file.display()))?;
            headers.insert(name.clone(), text.trim().to_owned());
        }
        let client = if settings.endpoint.starts_with("https://") {
            Client::secure(client::trusted(settings.ca.as_deref())?)
        } else {
            Client::plain()
        };
        let (queue, waiting) = mpsc::channel(WAITING);
        let (end, ended) = watch::channel(false);
        let (endpoint, dropped) = (settings.endpoint.clone(), counter!(telemetry::SPANS_DROPPED));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let of_thread = dropped.clone();
        thread::Builder::new().name("spans".into()).spawn(move || {
            runtime.block_on(async move {
                match exporter(endpoint, client.clone(), headers) {
                    Ok(exporter) => send(waiting, exporter, &client, &of_thread).await,
                    Err(error) => tracing::error!(%error, "spans cannot be sent"),
                }
            });
            end.send_replace(true);
        })?;
        Ok(Self { settings, queue, dropped, ended })
    }

    /// What the file says of them.
    #[must_use]
    pub fn settings(&self) -> &Tracing {
        &self.settings
    }

    /// Takes a request's spans. Never waits.
    pub fn take(&self, spans: Vec<SpanData>) {
        if let Err(refused) = self.queue.try_send(spans) {
            self.dropped.increment(refused.into_inner().len() as u64);
        }
    }

    /// No more come: what waits is sent, for a moment.
    pub async fn finish(&self) {
        drop(self.queue.try_send(Vec::new()));
        let mut ended = self.ended.clone();
        // An error means that the thread has gone.
        let _ = timeout(FAREWELL, ended.wait_for(|ended| *ended)).await;
    }
}

fn exporter(
    endpoint: String,
    client: Client,
    headers: HashMap<String, String>,
) -> anyhow::Result<SpanExporter> {
    let builder = SpanExporter::builder().with_http().with_endpoint(endpoint).with_timeout(SEND);
    let builder = builder.with_http_client(client);
    let mut exporter = builder.with_headers(headers).build()?;
    let told = [
        KeyValue::new("service.name", "tidegate"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ];
    exporter.set_resource(&Resource::builder_empty().with_attributes(told).build());
    Ok(exporter)
}

/// Sends what comes, batch after batch. An empty list is the last one.
async fn send(
    mut waiting: mpsc::Receiver<Vec<SpanData>>,
    exporter: SpanExporter,
    client: &Client,
    dropped: &Counter,
) {
    let (mut failing, mut over) = (false, false);
    while !over {
        let Some(first) = waiting.recv().await else { return };
        let mut taken = vec![first];
        // Cancel-safe: what is not taken stays queued.
        let gathered = async {
            while taken.len() < TOGETHER
                && taken.last().is_some_and(|last| !last.is_empty())
                && waiting.recv_many(&mut taken, TOGETHER).await > 0
            {}
        };
        let _ = timeout(GATHER, gathered).await;
        over = taken.iter().any(Vec::is_empty);
        let batch: Vec<SpanData> = taken.into_iter().flatten().collect();
        let count = batch.len() as u64;
        let sent = timeout(SEND, exporter.export(batch)).await;
        let failure = match sent {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(client.failure().unwrap_or_else(|| error.to_string())),
            Err(_) => Some(format!("no answer within {SEND:?}")),
        };
        if let Some(error) = &failure {
            dropped.increment(count);
            if !failing {
                tracing::warn!(%error, "spans cannot be sent; requests go on, their spans are lost");
            }
        }
        failing = failure.is_some();
    }
}
