//! Follows what a name means: asks, waits as long as the answer is good for, asks again. Runs as a task for each name;
//! nothing of it is in a request's way. Absent: a cache, and what an answer is used for.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};

use crate::clock;

/// No answer is good for less, or for more.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// How soon a name is asked for again that nobody knows.
const AGAIN: Duration = Duration::from_secs(2);

/// Tells what a name means, now and whenever its answer's time is up; asks `servers`, or whom /etc/resolv.conf names.
pub(super) async fn follow<F: Future<Output = ()> + Send>(
    servers: Vec<SocketAddr>,
    name: String,
    tell: impl Fn(Result<Vec<IpAddr>, String>) -> F + Send,
) {
    loop {
        let (found, again) = match ask(&servers, &name).await {
            Ok((addresses, until)) => {
                let left = until.saturating_duration_since(clock::now());
                (Ok(addresses), left.clamp(SHORTEST, LONGEST))
            }
            Err(why) => (Err(why), AGAIN),
        };
        tell(found).await;
        tokio::time::sleep(again).await;
    }
}

/// A resolver of its own for each question: the files of the system are read as they are by then, and nothing is cached.
async fn ask(servers: &[SocketAddr], name: &str) -> Result<(Vec<IpAddr>, Instant), String> {
    let resolver = resolver(servers).map_err(|error| format!("no resolver: {error}"))?;
    let found = resolver.lookup_ip(name).await.map_err(|error| error.to_string())?;
    let addresses: Vec<IpAddr> = found.iter().collect();
    if addresses.is_empty() { Err("no addresses".into()) } else { Ok((addresses, found.valid_until())) }
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, hickory_resolver::net::NetError> {
    if servers.is_empty() {
        return TokioResolver::builder_tokio()?.build();
    }
    let server = |server: &SocketAddr| {
        let at = |mut connection: ConnectionConfig| {
            connection.port = server.port();
            connection
        };
        let connections = vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
        NameServerConfig::new(server.ip(), true, connections)
    };
    let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect());
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build()
}
