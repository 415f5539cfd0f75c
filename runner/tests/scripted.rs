//! The scripted runner holds the contract, so that what is tested on it means something.
#![cfg(feature = "test-util")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::StreamExt;

use tidegate_config::spec::{Digest, Exit, Launch, Revision, StartSpec, Target};
use tidegate_runner::{Event, Kind, Reached, Runner, contract, scripted::Scripted};

fn runner() -> Scripted {
    Scripted::new(|spec: &StartSpec| SocketAddr::from(([127, 0, 0, 1], spec.port)))
}

#[tokio::test]
async fn it_holds_the_contract() {
    let scripted = runner();
    let (again, killer) = (scripted.clone(), scripted.clone());
    let world = contract::World {
        launch: Launch::of("any:1"),
        target: Target::Host("local".parse().expect("valid")),
        again: Box::new(move || {
            let again: Arc<dyn Runner> = Arc::new(again.clone());
            Box::pin(std::future::ready(again))
        }),
        kill: Box::new(move |id| {
            killer.exit(&id, Exit { code: 137, out_of_memory: false, disrupted: false, message: None });
            Box::pin(std::future::ready(()))
        }),
    };
    contract::check(Arc::new(scripted), world).await;
}

#[tokio::test]
async fn failures_come_as_scripted() {
    let scripted = runner();
    scripted.fail_lists(1);
    assert_eq!(scripted.list().await.expect_err("scripted").kind, Kind::Silent);
    assert_eq!(scripted.list().await.expect("only once"), []);
}

fn spec() -> StartSpec {
    StartSpec {
        id: "api-1-1".parse().expect("valid"),
        revision: Revision("r1".into()),
        launch: Launch::of("any:1"),
        digest: Digest("sha256:ab".into()),
        port: 8080,
        target: Target::Host("local".parse().expect("valid")),
    }
}

#[tokio::test]
async fn an_engine_that_is_down_refuses_everything_and_its_replicas_stay() {
    let scripted = runner();
    scripted.start(&spec()).await.expect("it starts");
    let mut events = scripted.events();
    scripted.down(true);
    for failed in [
        scripted.ping().await,
        scripted.list().await.map(drop),
        scripted.start(&spec()).await,
        scripted.freeze(&spec().id).await,
        scripted.stop(&spec().id, Duration::ZERO, true).await,
        scripted.restart(&spec().id).await,
        scripted.remove(&spec().id).await,
        scripted.inventory().await.map(drop),
    ] {
        assert_eq!(failed.expect_err("it is down").kind, Kind::Silent);
    }
    scripted.down(false);
    assert_eq!(events.next().await, Some(Event::Resync), "who was away asks for a list");
    assert_eq!(scripted.list().await.expect("it lists").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_hung_engine_end_at_their_deadline_or_go_on() {
    let scripted = runner();
    scripted.hang(true);
    let started = tokio::time::Instant::now();
    assert_eq!(scripted.ping().await.expect_err("it hangs").kind, Kind::Silent);
    assert_eq!(started.elapsed(), Duration::from_secs(1));
    let (first, again) = (spec(), scripted.clone());
    let (started, ()) = tokio::join!(scripted.start(&first), async {
        tokio::task::yield_now().await;
        again.hang(false);
    });
    started.expect("it goes on");
    assert_eq!(scripted.list().await.expect("it lists").len(), 1);
}

#[tokio::test]
async fn it_says_what_it_is_told_to_say() {
    let scripted = runner();
    assert_eq!(scripted.reach(), Reached::Address);
    scripted.reached_by(Reached::Published);
    assert_eq!(scripted.reach(), Reached::Published);
    let resolver = Some([10, 64, 0, 1].into());
    scripted.resolve_at(resolver);
    assert_eq!(scripted.resolver(), resolver);
}
