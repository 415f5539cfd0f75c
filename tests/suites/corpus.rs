//! The HTTP/1.1 corpus of `make conformance`, through a gateway in this process.

use e2e::{
    corpus::{GATEWAY, judge, load, origin::Origin, play::play},
    targets::Behaviour,
    world::Setup,
};

#[tokio::test]
async fn every_case_of_the_corpus_holds() {
    let origin = Origin::default();
    let setup = Setup::new(&format!("{GATEWAY}image = \"corpus:1\"\n"));
    let behaviour = origin.clone();
    setup.targets.behave("corpus:1", Behaviour::raw(move |stream| behaviour.clone().talk(stream)));
    let world = setup.start().await;
    let (cases, mut failed) = (load().expect("cases that can be read"), Vec::new());
    let wanted = std::env::var("CASE").unwrap_or_default();
    for case in cases.iter().filter(|case| format!("{}: {}", case.at, case.name).contains(&wanted)) {
        let differences = judge::differences(case, &play(case, world.address, &origin).await);
        if !differences.is_empty() {
            failed.push(judge::report(case, &differences));
        }
    }
    assert!(failed.is_empty(), "{} of {} cases\n{}", failed.len(), cases.len(), failed.join("\n"));
    assert!(cases.len() >= 150, "{} cases", cases.len());
    world.until_counts("api", 0, 0).await;
}
