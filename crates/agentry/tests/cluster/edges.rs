//! Links that fall silent for twenty seconds without a word to either end, and come back.
//!
//! Three links of three different processes are cut at once, then those of the API whose loss shows only by itself.

use std::time::Duration;

use agentry_testkit::FaultProxy;
use tokio::time::sleep;

use crate::deployment::Links;
use crate::process::until;
use crate::stage::{PATIENCE, Stage, now};

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
    let mut stage = Stage::open(&["api", "autonomous-1", "autonomous-2"]).await;
    stage.load().await;
    let workers: [Edge; 3] =
        [("autonomous-1", Server::Postgres), ("autonomous-2", Server::RabbitMq), ("api", Server::Redis)];
    let name = "worker-PostgreSQL, worker-RabbitMQ and API-Redis silent";
    cut(&mut stage, name, &workers).await;
    cut(&mut stage, "API-RabbitMQ silent", &[("api", Server::RabbitMq)]).await;
    cut(&mut stage, "API-PostgreSQL silent", &[("api", Server::Postgres)]).await;
    stage.judge().await;
}

fn link(stage: &Stage, (member, server): Edge) -> &FaultProxy {
    let Links { postgres, rabbitmq, redis } = &stage.deployment.links[member];
    match server {
        Server::Postgres => postgres,
        Server::RabbitMq => rabbitmq,
        Server::Redis => redis,
    }
}

/// Cuts links, sees that their ends notice, and heals them. The recovery time counts from the healing.
async fn cut(stage: &mut Stage, name: &str, edges: &[Edge]) {
    stage.fault(name);
    let mut workers = Vec::new();
    for (member, _) in edges.iter().filter(|(member, server)| *member != "api" && *server == Server::Postgres) {
        workers.push(stage.worker(member).await);
    }
    let held: Vec<u64> = edges.iter().map(|edge| link(stage, *edge).held()).collect();
    let (_, refused) = stage.troubles();
    edges.iter().for_each(|edge| link(stage, *edge).cut());
    let healing = sleep(SILENT);
    for edge in edges {
        noticed(stage, *edge, refused).await;
    }
    healing.await;
    for (edge, before) in edges.iter().zip(held) {
        assert!(link(stage, *edge).held() > before, "nobody used the link {edge:?} while it was cut");
    }
    for worker in workers {
        let sql = format!("SELECT count(*) FROM agentry.workers WHERE id = '{worker}' AND gone");
        assert_eq!(stage.servers.postgres.number(&sql).await, 1, "a worker that nobody hears counts as alive");
    }
    edges.iter().for_each(|edge| link(stage, *edge).heal());
    let at = now();
    for (member, server) in edges {
        stage.until_up(member, dependency(*server), true).await;
    }
    stage.rate_is_back(name, at).await;
}

fn dependency(server: Server) -> &'static str {
    match server {
        Server::Postgres => "store",
        Server::RabbitMq => "bus",
        Server::Redis => "cache",
    }
}

/// The process says so itself; callers of an API without its store are refused.
async fn noticed(stage: &Stage, (member, server): Edge, refused: u64) {
    stage.until_up(member, dependency(server), false).await;
    if (member, server) == ("api", Server::Postgres) {
        until("callers that are refused", PATIENCE, async || (stage.troubles().1 > refused).then_some(())).await;
    }
}
