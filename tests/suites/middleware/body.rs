//! How long bodies may be.

use e2e::{
    client::{full, streamed},
    world::{World, request},
};
use hyper::body::Frame;

use super::{sleeps, world};

#[tokio::test]
async fn a_body_that_says_it_is_too_long_gets_413_and_wakes_nothing() {
    let world = world("body_limit = \"1KiB\"").await;
    let answer = world.ask(request("POST", "api", "/", full("x".repeat(1025)))).await.expect("an answer");
    assert_eq!(answer.refusal(), (413, "body_too_large".into()));
    sleeps(&world, "api").await;
    let echo =
        world.ask(request("POST", "api", "/", full("x".repeat(1024)))).await.expect("an answer").echo();
    assert_eq!(echo.body.len(), 1024);
}

/// Sends a body in pieces that does not say how long it is.
async fn flowing(world: &World, http2: bool, method: &str, pieces: usize) -> (u16, String) {
    let (sender, body) = streamed();
    let mut session = if http2 { world.http2().await } else { world.http1().await };
    let send = async {
        for _ in 0..pieces {
            // The gateway may have had enough.
            if sender.send(Frame::data("x".repeat(256).into())).await.is_err() {
                break;
            }
        }
        drop(sender);
    };
    let (answer, ()) = tokio::join!(session.ask(request(method, "api", "/", body)), send);
    let answer = answer.expect("an answer");
    match answer.status {
        200 => (200, answer.echo().body.len().to_string()),
        _ => answer.refusal(),
    }
}

#[tokio::test]
async fn a_body_that_turns_out_too_long_gets_413_on_the_way() {
    let world = world("body_limit = \"1KiB\"").await;
    for http2 in [false, true] {
        for method in ["POST", "PUT"] {
            assert_eq!(flowing(&world, http2, method, 4).await, (200, "1024".into()), "{method}");
            assert_eq!(flowing(&world, http2, method, 12).await, (413, "body_too_large".into()), "{method}");
        }
    }
    assert_eq!(flowing(&world, true, "POST", 4).await.0, 200, "the service is as well as before");
    assert_eq!(world.metric("tidegate_retries_total", &["service=\"api\""]), 0.0);
}
