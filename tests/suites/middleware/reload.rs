//! What a changed file changes: from the next request on, without a restart, and no more than it says.

use e2e::{eventually::found, world::Setup};

use super::ask;

fn text(middleware: &str) -> String {
    format!("[services.api]\nimage = \"api:1\"\n[services.api.middleware]\n{middleware}")
}

#[tokio::test]
async fn middleware_changes_without_a_restart_and_limits_go_on_counting() {
    let limit = "rate_limit = { rate = \"3/h\" }\n";
    let world = Setup::new(&text(limit)).with_file().start().await;
    let mut session = world.http1().await;
    let before = ask(&mut session, "/", &[]).await.echo();
    world.write(&text(&format!("{limit}response_headers = {{ set = {{ \"X-New\" = \"1\" }} }}")));
    // Refused ones are marked too, so that looking does not use up the limit first.
    let after = found("the new field", async || {
        let answer = ask(&mut session, "/", &[]).await;
        if answer.header("x-new").is_some() { Ok(answer) } else { Err(format!("{answer:?}")) }
    })
    .await;
    if after.status == 200 {
        assert_eq!(after.echo().replica, before.replica, "nothing was restarted");
    }
    while ask(&mut session, "/", &[]).await.status == 200 {}
    assert_eq!(world.targets.seen().len(), 3, "what was counted stays counted");
}
