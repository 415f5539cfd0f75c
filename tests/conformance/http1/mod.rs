//! The HTTP/1.1 corpus against a gateway's process; the cases are in `cases`.

use anyhow::{Context, anyhow};
use e2e::{
    corpus::{GATEWAY, judge, load, origin::Origin, play::play},
    process::Gateway,
};
use tokio::task::JoinSet;

use crate::{Tally, file};

/// Plays every case.
pub(crate) async fn run() -> anyhow::Result<Tally> {
    let cases = load().map_err(|why| anyhow!(why))?;
    let origin = Origin::default();
    let (address, listening) = origin.listen().await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(listening);
    let file = file(GATEWAY, address)?;
    let gateway = Gateway::start(file.path()).await.context("the gateway")?;
    let mut tally = Tally::default();
    for case in &cases {
        let differences = judge::differences(case, &play(case, gateway.address(), &origin).await);
        tally.cases += 1;
        if !differences.is_empty() {
            tally.failed += 1;
            println!("{}", judge::report(case, &differences));
        }
    }
    gateway.stop().await?;
    Ok(tally)
}
