//! Links that fall silent for twenty seconds without a word to either end, and come back.
//!
//! Three links of three different processes are cut at once, then those of the API whose loss shows only by itself.

use std::time::Duration;

use agentry_lab::{FaultProxy, Shape};
use tokio::time::sleep;

use crate::deployment::Proxies;
use crate::test_cluster::{PATIENCE, TestCluster, now};
use crate::wait::until;

/// How long a link is silent.
const SILENT: Duration = Duration::from_secs(20);

/// The server at the far end of a link.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Server {
    Postgres,
    RabbitMq,
    Redis,
}

type Edge = (&'static str, Server);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_links_cost_time_only() {
    let mut cluster = TestCluster::open(&["api", "autonomous-1", "autonomous-2"]).await;
    cluster.load().await;
    let workers: [Edge; 3] =
        [("autonomous-1", Server::Postgres), ("autonomous-2", Server::RabbitMq), ("api", Server::Redis)];
    let name = "worker-PostgreSQL, worker-RabbitMQ and API-Redis silent";
    cut(&mut cluster, name, &workers).await;
    cut(&mut cluster, "API-RabbitMQ silent", &[("api", Server::RabbitMq)]).await;
    cut(&mut cluster, "API-PostgreSQL silent", &[("api", Server::Postgres)]).await;
    cluster.judge().await;
}

fn proxy(cluster: &TestCluster, (member, server): Edge) -> &FaultProxy {
    let Proxies { postgres, rabbitmq, redis } = &cluster.deployment.proxies[member];
    match server {
        Server::Postgres => postgres,
        Server::RabbitMq => rabbitmq,
        Server::Redis => redis,
    }
}

/// Cuts links, sees that their ends notice, and heals them. The recovery time counts from the healing.
async fn cut(cluster: &mut TestCluster, name: &str, edges: &[Edge]) {
    cluster.fault(name);
    let mut workers = Vec::new();
    for (member, _) in edges.iter().filter(|(member, server)| *member != "api" && *server == Server::Postgres) {
        workers.push(cluster.worker(member).await);
    }
    let held: Vec<u64> = edges.iter().map(|edge| proxy(cluster, *edge).counters().held).collect();
    let (_, refused) = cluster.troubles();
    edges.iter().for_each(|edge| proxy(cluster, *edge).shape_both(Shape::black_hole()));
    let healing = sleep(SILENT);
    for edge in edges {
        noticed(cluster, *edge, refused).await;
    }
    healing.await;
    for (edge, before) in edges.iter().zip(held) {
        assert!(proxy(cluster, *edge).counters().held > before, "nobody used the link {edge:?} while it was cut");
    }
    for worker in workers {
        let sql = format!("SELECT count(*) FROM agentry.workers WHERE id = '{worker}' AND gone");
        assert_eq!(cluster.number(&sql).await, 1, "a worker that nobody hears counts as alive");
    }
    edges.iter().for_each(|edge| proxy(cluster, *edge).heal());
    let at = now();
    for (member, server) in edges {
        cluster.until_up(member, dependency(*server), true).await;
    }
    cluster.rate_is_back(name, at).await;
}

fn dependency(server: Server) -> &'static str {
    match server {
        Server::Postgres => "store",
        Server::RabbitMq => "bus",
        Server::Redis => "cache",
    }
}

/// The process says so itself; callers of an API without its store are refused.
async fn noticed(cluster: &TestCluster, (member, server): Edge, refused: u64) {
    cluster.until_up(member, dependency(server), false).await;
    if (member, server) == ("api", Server::Postgres) {
        until("callers that are refused", PATIENCE, async || (cluster.troubles().1 > refused).then_some(())).await;
    }
}
