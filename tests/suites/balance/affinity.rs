//! Requests that belong together, while replicas come and go.

use std::collections::{BTreeMap, BTreeSet};

use e2e::{
    client::Answer,
    world::{World, get},
};
use http::Request;

fn api(min: u32, by: &str) -> String {
    format!(
        r#"
        [services.api]
        image = "app:1"
        scaling = {{ min = {min}, max = 6 }}
        balance = {{ affinity = {{ {by} }}, slow_start = "0s" }}
        "#
    )
}

const COOKIE: &str = "cookie = \"tg_session\"";
const HEADER: &str = "header = \"X-User\"";

/// The cookie that an answer sets, and what stands after it.
fn set(answer: &Answer) -> Option<(String, String)> {
    let (cookie, attributes) = answer.header("set-cookie")?.split_once("; ")?;
    Some((cookie.to_owned(), attributes.to_owned()))
}

async fn ask(world: &World, name: &str, value: &str) -> Answer {
    let (mut head, body) = get("api", "/").into_parts();
    head.headers.insert(http::HeaderName::try_from(name).expect("a name"), value.parse().expect("a value"));
    let answer = world.ask(Request::from_parts(head, body)).await.expect("an answer");
    assert_eq!(answer.status, 200);
    answer
}

/// New sessions: each cookie, and the replica that it came from.
async fn sessions(world: &World, count: usize) -> Vec<(String, String)> {
    let mut sessions = Vec::new();
    for _ in 0..count {
        let answer = world.get("api", "/").await;
        let (cookie, attributes) = set(&answer).expect("a cookie for a new session");
        assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax");
        sessions.push((cookie, answer.echo().replica));
    }
    sessions
}

/// How many sessions are where they were; those that are not must have been told so.
async fn stay(world: &World, sessions: &[(String, String)]) -> usize {
    let mut same = 0;
    for (cookie, home) in sessions {
        let answer = ask(world, "cookie", &format!("app=1; {cookie}")).await;
        let moved = set(&answer);
        let replica = answer.echo().replica;
        assert_eq!(
            replica == *home,
            moved.is_none(),
            "{cookie} was with {home} and is with {replica}: {moved:?}"
        );
        same += usize::from(replica == *home);
    }
    same
}

#[tokio::test]
async fn sessions_survive_scaling_up_down_and_another_gateway() {
    let world = e2e::world::Setup::new(&api(2, COOKIE)).with_file().start().await;
    world.until_ready("api", 2).await;
    let mut all = sessions(&world, 20).await;
    let homes: BTreeSet<_> = all.iter().map(|(_, home)| home.clone()).collect();
    assert_eq!(homes.len(), 2, "{homes:?}");
    assert_eq!(stay(&world, &all).await, 20);
    world.write(&api(4, COOKIE));
    world.until_ready("api", 4).await;
    assert_eq!(stay(&world, &all).await, 20, "who comes moves nobody");
    all.extend(sessions(&world, 20).await);
    let gone = world.until_ready("api", 4).await.pop().expect("four");
    let on_it = all.iter().filter(|(_, home)| *home == gone.to_string()).count();
    world.exit(&gone, 1, false);
    world
        .until("api", |status| {
            status.replicas.iter().all(|replica| replica.id != gone.to_string() && replica.phase == "ready")
        })
        .await;
    assert_eq!(stay(&world, &all).await, all.len() - on_it, "only its own move");
    let kept: Vec<_> = all.into_iter().filter(|(_, home)| *home != gone.to_string()).collect();
    let world = world.crash_and_start().await;
    world.until_ready("api", 4).await;
    assert_eq!(stay(&world, &kept).await, kept.len(), "another gateway knows them");
}

#[tokio::test]
async fn a_header_decides_for_itself() {
    let world = World::new(&api(3, HEADER)).await;
    world.until_ready("api", 3).await;
    let mut homes = BTreeMap::new();
    for user in (0..30).map(|n| format!("user-{n}")).cycle().take(90) {
        let answer = ask(&world, "x-user", &user).await;
        assert_eq!(answer.header("set-cookie"), None);
        let home = answer.echo().replica;
        assert_eq!(*homes.entry(user).or_insert_with(|| home.clone()), home);
    }
    assert_eq!(homes.values().collect::<BTreeSet<_>>().len(), 3, "{homes:?}");
}

#[tokio::test]
async fn a_favourite_that_is_busy_is_not_waited_for() {
    let one = api(2, COOKIE).replace("max = 6", "max = 6, concurrency = 1");
    let world = World::new(&one).await;
    world.until_ready("api", 2).await;
    let (cookie, home) = sessions(&world, 1).await.remove(0);
    let mut busy = get("api", "/hold");
    busy.headers_mut().insert("cookie", cookie.parse().expect("a value"));
    let busy = world.ask(busy);
    let other = async {
        world.until_counts("api", 0, 1).await;
        let answer = ask(&world, "cookie", &cookie).await;
        world.targets.release();
        answer
    };
    let (busy, other) = tokio::join!(busy, other);
    assert_eq!(busy.expect("an answer").status, 200);
    assert_ne!(other.echo().replica, home);
    assert_eq!(set(&other), None, "it is at home there still");
    assert_eq!(ask(&world, "cookie", &cookie).await.echo().replica, home);
}
