//! Fields that are set, added to and removed, both ways.

use super::{ask, world};

#[tokio::test]
async fn fields_are_changed_both_ways() {
    let world = world(
        "request_headers = { set = { \"X-Env\" = \"prod\" }, add = { \"X-More\" = \"2\" }, remove = [\"X-Debug\", \"Cookie\"] }\n\
         response_headers = { set = { \"Strict-Transport-Security\" = \"max-age=600\" }, remove = [\"X-Kept\"] }",
    )
    .await;
    let mut session = world.http1().await;
    let sent = [("x-env", "dev"), ("x-more", "1"), ("x-debug", "1"), ("cookie", "a=b")];
    let answer = ask(&mut session, "/", &sent).await;
    let echo = answer.echo();
    assert_eq!((echo.all("x-env"), echo.all("x-more")), (vec!["prod"], vec!["1", "2"]));
    assert_eq!((echo.header("x-debug"), echo.header("cookie")), (None, None));
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=600"));
    assert_eq!(ask(&mut session, "/hop", &[]).await.header("x-kept"), None);
}

#[tokio::test]
async fn refusals_are_responses_too() {
    let world =
        world("body_limit = \"1KiB\"\nresponse_headers = { set = { \"X-Frame-Options\" = \"DENY\" } }").await;
    let request = e2e::world::request("POST", "api", "/", e2e::client::full("x".repeat(2000)));
    let answer = world.ask(request).await.expect("an answer");
    assert_eq!((answer.status, answer.header("x-frame-options")), (413, Some("DENY")));
}

#[tokio::test]
async fn in_clear_text_nothing_is_to_be_remembered() {
    let world = world("hsts = { max_age = \"1h\" }").await;
    let answer = ask(&mut world.http1().await, "/", &[]).await;
    assert_eq!((answer.status, answer.header("strict-transport-security")), (200, None));
}
