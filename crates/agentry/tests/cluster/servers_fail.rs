//! Servers that are stopped, killed, wiped, frozen and emptied under load.

use std::time::Duration;

use agentry_lab::Signal;
use tokio::time::sleep;

use crate::test_cluster::{PATIENCE, TestCluster, now};
use crate::wait::until;

/// How long Redis is away or frozen.
const WITHOUT_REDIS: Duration = Duration::from_secs(4);
/// Processes of the deployment.
const PROCESSES: i64 = 6;

const RECONNECTS: &str = "agentry_bus_reconnects_total";
const ERRORS: &str = "agentry_cache_errors_total";
const BYPASSES: &str = "agentry_cache_bypasses_total";
const MISSES: &str = "agentry_cache_misses_total";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_fail_cost_time_only() {
    let mut cluster = TestCluster::open(&[]).await;
    cluster.load().await;
    rabbitmq(&mut cluster, "RabbitMQ stopped and started", Signal::TERM, Disk::Kept).await;
    rabbitmq(&mut cluster, "RabbitMQ killed and started", Signal::KILL, Disk::Kept).await;
    rabbitmq(&mut cluster, "RabbitMQ killed, its disk wiped, and started", Signal::KILL, Disk::Wiped).await;
    postgres(&mut cluster, "PostgreSQL restarted fast", Signal::INT).await;
    postgres(&mut cluster, "PostgreSQL restarted immediately", Signal::QUIT).await;
    connections_terminated(&mut cluster).await;
    redis_killed(&mut cluster).await;
    redis_flushed(&mut cluster).await;
    redis_frozen(&mut cluster).await;
    cluster.judge().await;
}

/// What becomes of a server's data while it is down.
#[derive(PartialEq)]
enum Disk {
    Kept,
    Wiped,
}

/// The recovery time counts from the moment at which the server answers again.
async fn rabbitmq(cluster: &mut TestCluster, name: &str, signal: Signal, disk: Disk) {
    cluster.fault(name);
    let mut before = Vec::new();
    for member in ["api", "autonomous-1", "scheduler"] {
        before.push((member, cluster.until_metric(member, RECONNECTS, |_| true).await));
    }
    cluster.servers.rabbitmq.stop(signal).await.unwrap();
    cluster.until_up("api", "bus", false).await;
    cluster.until_up("autonomous-1", "bus", false).await;
    // Work goes on meanwhile: the store is looked into every second.
    let without = now();
    let ended = format!("SELECT count(*) FROM agentry.ended_tasks WHERE finished_at > {without}");
    until("tasks that end without RabbitMQ", PATIENCE, async || (cluster.number(&ended).await >= 20).then_some(()))
        .await;
    if disk == Disk::Wiped {
        cluster.servers.rabbitmq.wipe().unwrap();
    }
    cluster.servers.rabbitmq.start_again().await.unwrap();
    let at = now();
    for (member, count) in before {
        cluster.until_metric(member, RECONNECTS, |now| now > count).await;
        cluster.until_up(member, "bus", true).await;
    }
    cluster.measured(format!("{name}: all connected again {:.1} s after it answered", seconds_since(at)));
    cluster.rate_is_back(name, at).await;
}

fn seconds_since(at: i64) -> f64 {
    Duration::from_micros((now() - at).unsigned_abs()).as_secs_f64()
}

async fn postgres(cluster: &mut TestCluster, name: &str, signal: Signal) {
    cluster.fault(name);
    let sql = "SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint";
    let before = cluster.number(sql).await;
    assert!(connections(cluster).await >= PROCESSES, "the deployment is not connected");
    cluster.servers.postgres.stop(signal).await.unwrap();
    cluster.servers.postgres.start_again().await.unwrap();
    let at = now();
    assert!(cluster.number(sql).await > before, "it was not restarted");
    cluster.rate_is_back(name, at).await;
}

async fn connections(cluster: &TestCluster) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'agentry'";
    cluster.number(sql).await
}

async fn connections_terminated(cluster: &mut TestCluster) {
    let name = "all PostgreSQL connections terminated";
    cluster.fault(name);
    let sql = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE application_name = 'agentry'";
    let ended = cluster.number(sql).await;
    let at = now();
    assert!(ended >= 2 * PROCESSES, "only {ended} connections were terminated");
    cluster.rate_is_back(&format!("{name} ({ended})"), at).await;
}

async fn redis_killed(cluster: &mut TestCluster) {
    cluster.fault("Redis killed");
    let bypasses = cluster.until_metric("api", BYPASSES, |_| true).await;
    cluster.servers.redis.process.kill();
    cluster.until_up("api", "cache", false).await;
    cluster.until_metric("api", BYPASSES, |now| now > bypasses).await;
    sleep(WITHOUT_REDIS).await;
    cluster.servers.redis.start_again().await.unwrap();
    let at = now();
    cluster.until_up("api", "cache", true).await;
    cluster.rate_is_back("Redis killed and started", at).await;
}

async fn redis_flushed(cluster: &mut TestCluster) {
    cluster.fault("Redis flushed");
    until("entries in Redis", PATIENCE, async || {
        let answer = cluster.servers.redis.ask("DBSIZE").await?;
        answer.strip_prefix(':')?.parse::<u64>().ok().filter(|entries| *entries > 10)
    })
    .await;
    let misses = cluster.until_metric("api", MISSES, |_| true).await;
    assert_eq!(cluster.servers.redis.ask("FLUSHALL").await.as_deref(), Some("+OK"));
    let at = now();
    cluster.until_metric("api", MISSES, |now| now > misses).await;
    cluster.rate_is_back("Redis flushed", at).await;
}

async fn redis_frozen(cluster: &mut TestCluster) {
    cluster.fault("Redis frozen");
    let errors = cluster.until_metric("api", ERRORS, |_| true).await;
    cluster.servers.redis.process.signal(Signal::STOP).unwrap();
    cluster.until_metric("api", ERRORS, |now| now > errors).await;
    sleep(WITHOUT_REDIS).await;
    cluster.servers.redis.process.signal(Signal::CONT).unwrap();
    let at = now();
    cluster.until_up("api", "cache", true).await;
    cluster.rate_is_back("Redis frozen", at).await;
}
