//! What pages of other origins may do.

use e2e::{
    client::{Answer, empty},
    world::{World, request},
};
use http::{HeaderName, HeaderValue};

use super::{ask, sleeps, world};

const CORS: &str = "cors = { origins = [\"https://app.example.org\"], methods = [\"GET\", \"PUT\"], \
                    headers = [\"X-Token\"], expose = [\"X-Kept\"], credentials = true }\n\
                    bearer_auth = { tokens = { ci = \"sha256:1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0\" } }";

async fn options(world: &World, fields: &[(&'static str, &'static str)]) -> Answer {
    let mut asked = request("OPTIONS", "api", "/", empty());
    for (name, value) in fields {
        asked.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    world.ask(asked).await.expect("an answer")
}

#[tokio::test]
async fn preflights_are_answered_and_wake_nothing() {
    let world = world(CORS).await;
    let asked = [("origin", "https://app.example.org"), ("access-control-request-method", "PUT")];
    let answer = options(&world, &asked).await;
    assert_eq!((answer.status, answer.body.len()), (204, 0), "before any auth: browsers send none");
    for (name, want) in [
        ("access-control-allow-origin", "https://app.example.org"),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "x-token"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "600"),
    ] {
        assert_eq!(answer.header(name), Some(want), "{name}");
    }
    let refused = options(&world, &[("origin", "https://evil.org"), asked[1]]).await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (204, None));
    assert_eq!(
        options(&world, &asked[..1]).await.status,
        401,
        "an OPTIONS that is no preflight is a request"
    );
    sleeps(&world, "api").await;
}

#[tokio::test]
async fn responses_and_refusals_say_who_may_read_them() {
    let world = world(CORS).await;
    let mut session = world.http1().await;
    let (origin, token) = (("origin", "https://app.example.org"), ("authorization", "Bearer s3cret"));
    let answer = ask(&mut session, "/hop", &[origin, token]).await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, Some("https://app.example.org"))
    );
    assert_eq!(answer.header("access-control-expose-headers"), Some("x-kept"));
    let refused = ask(&mut session, "/", &[origin]).await;
    assert_eq!(
        (refused.status, refused.header("access-control-allow-origin")),
        (401, Some("https://app.example.org"))
    );
    let strange = ask(&mut session, "/", &[("origin", "https://app.example.org.evil.org"), token]).await;
    assert_eq!((strange.status, strange.header("access-control-allow-origin")), (200, None));
    assert_eq!(strange.header("vary"), Some("Origin"));
}
