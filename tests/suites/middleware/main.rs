//! What routes switch on, over real sockets: a file for each kind. Nothing that is refused may wake a service.

mod access;
mod auth;
mod body;
mod compress;
mod cors;
mod fields;
mod mirror;
mod paths;
mod reload;
mod target;
mod timeout;

use e2e::{
    client::{Answer, Body, Session},
    world::{World, get},
};
use http::{HeaderName, HeaderValue, Request};

/// A world with one service, `api`, and what its middleware is.
async fn world(middleware: &str) -> World {
    World::new(&format!("[services.api]\nimage = \"api:1\"\n[services.api.middleware]\n{middleware}")).await
}

/// A GET with these fields.
fn with(service: &str, path: &str, fields: &[(&'static str, &str)]) -> Request<Body> {
    let mut request = get(service, path);
    for (name, value) in fields {
        let value = HeaderValue::from_str(value).expect("a value");
        request.headers_mut().append(HeaderName::from_static(name), value);
    }
    request
}

async fn ask(session: &mut Session, path: &str, fields: &[(&'static str, &str)]) -> Answer {
    session.ask(with("api", path, fields)).await.expect("an answer")
}

/// Nothing has woken the service.
async fn sleeps(world: &World, service: &str) {
    assert_eq!(world.status(service).await.replicas.len(), 0, "{service} was woken");
}
