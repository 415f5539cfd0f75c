//! Where spans go.

use super::SecretFile;
use crate::{
    decode::{At, Named, leaf::Text, section},
    model,
};

section! {
    /// Traces: `traceparent` is checked, begun where it is missing, and passed on; spans go to a collector over OTLP/HTTP. Off
    /// unless this table is there.
    Tracing, d = model::Tracing::default(); bare = true => {
        /// The collector: `http://` or, over TLS, `https://`, with its path.
        endpoint: Text = d.endpoint,
        /// With `https://`: a file of the authorities that its certificate may be from. Default: those that this machine trusts.
        ca: Text,
        /// The share of the traces that begin here that is recorded, 0 to 1. A caller that records its trace is followed.
        sample: f64 = d.sample,
        /// Fields that the collector wants, whose values are read from files, as in `{ authorization = "token.txt" }`,
        /// relative to this file's folder.
        headers: Named<At<SecretFile>> = serde_json::Map::new(),
    }
}
