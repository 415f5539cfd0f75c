//! Images that are not ours, made of Debian packages and run through Tidegate on each engine with no special case: what they
//! serve, what they print, how they end, down to zero and back.

use anyhow::{Context, ensure};
use e2e::{
    client::{Session, Wire, empty},
    debian::{Recipe, recipes},
    engine::{on_each, tidegate},
    eventually::eventually,
    outside,
    process::Gateway,
};

struct Row {
    recipe: Recipe,
    /// In the answer to `GET /`.
    serves: &'static str,
    /// In its log once it was asked.
    prints: &'static str,
}

const ROWS: &[Row] = &[
    Row { recipe: recipes::BUSYBOX, serves: "a page from busybox", prints: "response:200" },
    Row { recipe: recipes::NGINX, serves: "a page from nginx", prints: "GET /?seen=once HTTP/1.1" },
    Row { recipe: recipes::PYTHON, serves: "a page from python", prints: "GET /?seen=once HTTP/1.1" },
];

fn row(name: &str) -> anyhow::Result<&'static Row> {
    ROWS.iter().find(|row| row.recipe.name == name).context("a row")
}

async fn get(gateway: &Gateway, path: &str) -> anyhow::Result<(u16, String)> {
    let mut session = Session::http1(gateway.address()).await;
    let request = http::Request::get(path).header("host", "web.localhost").body(empty())?;
    let answer = session.ask(request).await?;
    Ok((answer.status, answer.text()))
}

async fn phases(gateway: &Gateway) -> anyhow::Result<Vec<(String, String)>> {
    let status = gateway.services().await?.into_iter().next().context("the service")?;
    Ok(status.replicas.into_iter().map(|replica| (replica.id, replica.phase)).collect())
}

/// Served, seen in the log, scaled to zero, and served again by another replica.
async fn serves(name: &str) -> anyhow::Result<()> {
    let row = row(name)?;
    let image = row.recipe.archive()?;
    let text = format!("[services.web]\nimage = \"docker-archive:{}\"\n", image.display());
    on_each(&text, async |gateway, _| {
        ensure!(phases(gateway).await?.is_empty(), "nothing runs yet");
        let mut before = Vec::new();
        for round in 1..=2 {
            let (status, body) = get(gateway, "/?seen=once").await?;
            ensure!(status == 200 && body.contains(row.serves), "round {round}: {status}: {body}");
            let now = phases(gateway).await?;
            ensure!(now.len() == 1 && now != before, "a replica of its own: {now:?}");
            before = now;
            eventually("its log tells of the request", async || {
                Ok(tidegate(gateway, &["logs", "web"])?.contains(row.prints))
            })
            .await?;
            gateway.sleep("web").await?;
            ensure!(phases(gateway).await?.is_empty(), "asleep");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn busybox_httpd() -> anyhow::Result<()> {
    serves("busybox").await
}

#[tokio::test]
async fn nginx() -> anyhow::Result<()> {
    serves("nginx").await
}

#[tokio::test]
async fn python_http_server() -> anyhow::Result<()> {
    serves("python").await
}

#[tokio::test]
async fn workers_of_nginx_are_not_root() -> anyhow::Result<()> {
    let image = recipes::NGINX.archive()?;
    let text = format!("[services.web]\nimage = \"docker-archive:{}\"\nscaling.min = 1\n", image.display());
    on_each(&text, async |gateway, _| {
        ensure!(get(gateway, "/").await?.0 == 200);
        let (replica, _) = phases(gateway).await?.into_iter().next().context("a replica")?;
        let master = outside::init(gateway, &replica).await?;
        let users = family(master)?;
        ensure!(users.contains(&0) && users.contains(&33), "users of its processes: {users:?}");
        Ok(())
    })
    .await
}

/// The users of a process and of all below it.
fn family(first: i32) -> anyhow::Result<Vec<u32>> {
    let (mut users, mut next) = (Vec::new(), vec![first]);
    while let Some(pid) = next.pop() {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let user = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        users.push(user.and_then(|rest| rest.split_whitespace().next()).context("a user")?.parse()?);
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        next.extend(children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
    }
    Ok(users)
}

/// Ready by its tcp probe; ends by itself when it is told to.
#[tokio::test]
async fn redis_starts_and_stops() -> anyhow::Result<()> {
    let image = recipes::REDIS.archive()?;
    let text = format!(
        "[services.redis]\nimage = \"docker-archive:{}\"\nsleep = {{ stopped = \"1h\" }}\n",
        image.display()
    );
    on_each(&text, async |gateway, _| {
        for _ in 0..2 {
            gateway.wake("redis").await?;
            let (replica, phase) = phases(gateway).await?.into_iter().next().context("a replica")?;
            ensure!(phase == "ready", "{phase}");
            gateway.sleep("redis").await?;
            ensure!(outside::exit_code(gateway, &replica).await? == 0, "it ended by itself");
            let log = tidegate(gateway, &["logs", "redis"])?;
            ensure!(log.contains("Ready to accept connections") && log.contains("bye bye"), "{log}");
        }
        Ok(())
    })
    .await
}

/// A connection wakes it, keeps it awake, and is carried in its own language.
#[tokio::test]
async fn redis_answers_connections() -> anyhow::Result<()> {
    let image = recipes::REDIS.archive()?;
    // An address of loopback that is this process's own, so that no other test listens there.
    let [.., high, low] = std::process::id().to_be_bytes();
    let address = std::net::SocketAddr::from(([127, 77, high, low.max(1)], 6379));
    let text = format!(
        "[services.redis]\nimage = \"docker-archive:{}\"\nprotocol = \"tcp\"\nlisten = \"{address}\"\n",
        image.display()
    );
    on_each(&text, async |gateway, _| {
        for _ in 0..2 {
            ensure!(phases(gateway).await?.is_empty(), "nothing runs yet");
            let mut wire = Wire::connect(address).await;
            wire.send("PING\r\nSET a 1\r\n").await;
            let answers = wire.exactly(12).await;
            ensure!(answers == "+PONG\r\n+OK\r\n", "{answers:?}");
            let status = gateway.services().await?.into_iter().next().context("the service")?;
            ensure!(status.in_flight == 1, "an open connection counts: {status:?}");
            wire.send("GET a\r\nQUIT\r\n").await;
            let answers = wire.rest().await;
            ensure!(answers == "$1\r\n1\r\n+OK\r\n", "{answers:?}");
            // Until then it is open, and what is open is not put to sleep.
            drop(wire);
            gateway.sleep("redis").await?;
        }
        Ok(())
    })
    .await
}
