//! The scripted runner holds the contract, so that what is tested on it means something.
#![cfg(feature = "test-util")]

use std::{net::SocketAddr, sync::Arc};

use tidegate_config::spec::{Exit, Launch, StartSpec, Target};
use tidegate_runner::{Kind, Runner, contract, scripted::Scripted};

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
            killer.exit(&id, Exit { code: 137, out_of_memory: false, message: None });
            Box::pin(std::future::ready(()))
        }),
    };
    contract::check(Arc::new(scripted), world).await;
}

#[tokio::test]
async fn failures_come_as_scripted() {
    let scripted = runner();
    scripted.fail_lists(1);
    assert_eq!(scripted.list().await.expect_err("scripted").kind, Kind::Retryable);
    assert_eq!(scripted.list().await.expect("only once"), []);
}
