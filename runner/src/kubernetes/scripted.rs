//! An API for tests of this folder, which answers as it was told to.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use kube::{Client, client::Body};
use parking_lot::Mutex;
use tidegate_config::{
    model::{Host, Images},
    spec::{Digest, Launch, Revision, StartSpec, Target},
};

use super::{Options, inner::Inner};
use crate::InstanceId;

/// Whose pods these are.
pub(super) fn instance() -> InstanceId {
    InstanceId::from_bits(7)
}

/// A connection to an API that gives these answers, one after another, and then none; what it was asked, as
/// `METHOD /path body`.
pub(super) fn api(answers: Vec<(u16, String)>) -> (Arc<Inner>, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (noted, left) = (Arc::clone(&asked), Arc::new(Mutex::new(answers.into_iter())));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (noted, left) = (Arc::clone(&noted), Arc::clone(&left));
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            noted.lock().push(format!("{} {} {}", head.method, head.uri, String::from_utf8_lossy(&body)));
            // Others may act between a question and its answer.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let answer = left.lock().next();
            let Some((status, text)) = answer else { return std::future::pending().await };
            let answer = Response::builder().status(status).body(Full::new(Bytes::from(text)));
            Ok::<_, std::convert::Infallible>(answer.expect("a status"))
        }
    });
    let options = Options::of(&Host::local(), &Images::default(), instance());
    (Inner::new(Client::new(service, "apps"), "apps".into(), options), asked)
}

/// A replica that is to run, of an image that nodes have.
pub(super) fn spec() -> StartSpec {
    StartSpec {
        id: "api-3-17".parse().expect("valid"),
        revision: Revision("r1".into()),
        launch: Launch::of("api:1"),
        digest: Digest("named:api:1".into()),
        port: 80,
        target: Target::Host("local".parse().expect("valid")),
    }
}
