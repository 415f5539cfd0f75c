//! Says how long certificates are still good: as a metric, and in the log when one is not any more.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use metrics::gauge;
use tokio_util::sync::CancellationToken;

use super::{Certificate, Tls};
use crate::{clock, telemetry};

/// How often it is said.
const EVERY: Duration = Duration::from_secs(30);

/// Tells until `stop`.
pub async fn tell(tls: Arc<Tls>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    let mut told = BTreeSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        for certificate in tls.active().certificates() {
            measure(certificate);
            if let Some(stale) =
                certificate.stale(clock::wall()).filter(|_| told.insert(certificate.label.clone()))
            {
                tracing::error!("{stale}; clients refuse it, and it is served all the same");
            }
        }
    }
}

fn measure(certificate: &Certificate) {
    let now = clock::wall();
    let left = certificate.not_after.duration_since(now).map(|left| left.as_secs_f64());
    let left = left.unwrap_or_else(|past| -past.duration().as_secs_f64());
    gauge!(telemetry::CERTIFICATE_SECONDS, "certificate" => certificate.label.clone()).set(left);
}
