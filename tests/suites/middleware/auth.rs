//! Users with passwords, holders of tokens.

use e2e::world::World;

use super::{ask, sleeps, world};

/// The password is `s3cret`; one of each kind, of the least cost there is.
const USERS: &str = r#"basic_auth = { users = {
    alice = "$2y$04$abcdefghijklmnopqrstuuLZYjhNQAOdpbzt4WxWlUHjv1wsyH5DG",
    bob = "sha256:1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0",
} }
"#;

/// The token is `s3cret`.
const TOKENS: &str = r#"bearer_auth = { tokens = { ci = "sha256:1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0" } }
"#;

/// `alice:s3cret`, `bob:s3cret`, `alice:wrong` and `eve:s3cret`.
const ALICE: (&str, &str) = ("authorization", "Basic YWxpY2U6czNjcmV0");
const BOB: (&str, &str) = ("authorization", "Basic Ym9iOnMzY3JldA==");
const WRONG: (&str, &str) = ("authorization", "Basic YWxpY2U6d3Jvbmc=");
const EVE: (&str, &str) = ("authorization", "Basic ZXZlOnMzY3JldA==");
const TOKEN: (&str, &str) = ("authorization", "Bearer s3cret");

#[tokio::test]
async fn who_is_not_known_gets_401_wakes_nothing_and_keeps_the_connection() {
    let world = world(&format!("{USERS}{TOKENS}")).await;
    let mut session = world.http1().await;
    for fields in [
        &[][..],
        &[WRONG],
        &[EVE],
        &[("authorization", "Bearer wrong")],
        &[("authorization", "Digest alice")],
        &[ALICE, TOKEN],
        &[("x-forwarded-user", "alice")],
    ] {
        let answer = ask(&mut session, "/", fields).await;
        assert_eq!(answer.refusal(), (401, "unauthorized".into()), "{fields:?}");
        let challenges: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
        assert_eq!(challenges, ["Basic realm=\"api\", charset=\"UTF-8\"", "Bearer"]);
    }
    sleeps(&world, "api").await;
    for (who, name) in [(ALICE, "alice"), (ALICE, "alice"), (BOB, "bob"), (TOKEN, "ci")] {
        let echo = ask(&mut session, "/", &[who, ("x-forwarded-user", "root")]).await.echo();
        assert_eq!(echo.header("x-forwarded-user"), Some(name));
        assert_eq!(echo.header("authorization"), None, "credentials end here");
    }
}

#[tokio::test]
async fn credentials_are_passed_on_where_the_file_says_so() {
    let world = world(&format!("{}{TOKENS}", USERS.replace("} }", "}, forward = true }"))).await;
    let mut session = world.http1().await;
    let echo = ask(&mut session, "/", &[ALICE]).await.echo();
    assert_eq!(echo.header("authorization"), Some(ALICE.1));
    let echo = ask(&mut session, "/", &[TOKEN]).await.echo();
    assert_eq!(echo.header("authorization"), None, "tokens end here, whatever becomes of passwords");
}

#[tokio::test]
async fn a_stranger_cannot_name_a_user_to_a_service_without_auth() {
    let world = World::new("services.api.image = \"api:1\"").await;
    let mut session = world.http1().await;
    let echo =
        ask(&mut session, "/", &[("x-forwarded-user", "root"), ("x_forwarded_user", "root")]).await.echo();
    assert_eq!((echo.header("x-forwarded-user"), echo.header("x_forwarded_user")), (None, None));
    let echo = ask(&mut session, "/", &[ALICE]).await.echo();
    assert_eq!(echo.header("authorization"), Some(ALICE.1), "what is not ours is passed on");
}

#[tokio::test]
async fn many_at_once_with_slow_hashes_are_all_let_in() {
    let world = world(USERS).await;
    let connection = world.http2().await;
    let asks = (0..50).map(async |_| ask(&mut connection.share(), "/", &[ALICE]).await.status);
    let statuses = futures_util::future::join_all(asks).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
}

#[tokio::test]
async fn a_head_is_refused_without_a_body() {
    let world = world(USERS).await;
    let mut session = world.http1().await;
    let request = e2e::world::request("HEAD", "api", "/", e2e::client::empty());
    let answer = session.ask(request).await.expect("an answer");
    assert_eq!((answer.status, answer.body.len()), (401, 0));
    assert_eq!(ask(&mut session, "/", &[ALICE]).await.status, 200, "over the same connection");
}
