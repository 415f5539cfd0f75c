//! Tunnels: after a `101` both ends talk bytes. The lease is held until both directions have closed.

use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::body::Hold;

/// Carries bytes both ways until both ends have closed, or one breaks.
pub(crate) async fn tunnel(client: OnUpgrade, replica: OnUpgrade, hold: Arc<Hold>) {
    let (client, replica) = match tokio::try_join!(client, replica) {
        Ok(ends) => ends,
        Err(error) => return tracing::debug!(%error, "upgrade failed"),
    };
    let (mut client, mut replica) = (TokioIo::new(client), TokioIo::new(replica));
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut replica).await {
        tracing::debug!(%error, "tunnel broke");
    }
    drop(hold);
}
