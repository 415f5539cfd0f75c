//! Images that are late or not to be had.

use e2e::{
    eventually::{found, soon},
    world::{Setup, name},
};
use tidegate_runner::Kind;

fn setup(hold: &str, missing: Option<Kind>) -> Setup {
    let setup =
        Setup::new(&format!("services.api = {{ image = \"api:1\", scaling = {{ hold = \"{hold}\" }} }}"));
    if let Some(kind) = missing {
        setup.runner.image("api:1", Err((kind, "no such image".into())));
    }
    setup
}

fn there(runner: &tidegate_runner::scripted::Scripted) {
    let digest = tidegate_config::spec::Digest("sha256:0123".into());
    let prepared = tidegate_runner::Prepared { digest, exposed: vec![3000], healthcheck: None };
    runner.image("api:1", Ok(prepared));
}

#[tokio::test]
async fn an_image_that_does_not_exist_is_reported_and_refused() {
    for (kind, after) in [(Kind::Permanent, None), (Kind::Retryable, Some(1..=5))] {
        let world = setup("60s", Some(kind)).start().await;
        let refused = world.get("api", "/").await;
        assert_eq!(refused.refusal(), (503, "start_failed".into()), "{kind:?}");
        let seconds: Option<u64> = refused.header("retry-after").and_then(|value| value.parse().ok());
        assert_eq!(seconds.is_some(), after.is_some(), "{kind:?}");
        assert!(seconds.is_none_or(|s| after.is_some_and(|range| range.contains(&s))), "{seconds:?}");
        let status = world.status("api").await;
        assert_eq!((status.state.as_str(), world.runner.starts()), ("failing", 0));
        assert!(status.reason.contains("no such image"), "{status:?}");
        let words = world.control().wake(name("api")).await.expect("a control loop").expect_err("no image");
        assert!(words.contains("no such image"), "{words}");
    }
}

#[tokio::test]
async fn an_image_that_comes_later_is_found() {
    let world = setup("60s", Some(Kind::Retryable)).start().await;
    assert_eq!(world.get("api", "/").await.status, 503);
    there(&world.runner);
    // By itself, after a pause.
    found("an answer", async || match world.get("api", "/").await {
        answer if answer.status == 200 => Ok(()),
        answer => Err(answer.text()),
    })
    .await;
    assert_eq!(world.runner.specs()[0].port, 3000, "the only port that the image exposes");
}

#[tokio::test]
async fn somebody_who_asks_by_hand_has_it_looked_for_again() {
    let world = setup("60s", Some(Kind::Permanent)).start().await;
    there(&world.runner);
    assert_eq!(world.get("api", "/").await.status, 503, "nobody has looked again");
    world.wake("api").await;
    assert_eq!(world.get("api", "/").await.status, 200);
}

#[tokio::test]
async fn requests_wait_for_a_download_within_the_hold_deadline() {
    let setup = setup("60s", None).unsettled();
    setup.runner.hold_downloads(true);
    let world = setup.start().await;
    let comes = async {
        world.until("api", |status| status.queued == 1 && status.state == "pulling").await;
        world.runner.hold_downloads(false);
    };
    let (answer, ()) = soon("an answer", async { tokio::join!(world.get("api", "/"), comes) }).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_download_that_takes_longer_is_said_to_be_the_reason() {
    let setup = setup("100ms", None).unsettled();
    setup.runner.hold_downloads(true);
    let world = setup.start().await;
    let refused = world.get("api", "/").await;
    assert_eq!(refused.refusal(), (503, "pulling".into()));
    assert_eq!(refused.header("retry-after"), Some("5"));
}
