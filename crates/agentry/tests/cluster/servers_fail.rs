//! Servers that are stopped, killed, wiped, frozen and emptied under load.

use std::time::Duration;

use tokio::time::sleep;

use crate::process::until;
use crate::stage::{PATIENCE, Stage, now};

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
    let mut stage = Stage::open(&[]).await;
    stage.load().await;
    rabbitmq(&mut stage, "RabbitMQ stopped and started", "TERM", false).await;
    rabbitmq(&mut stage, "RabbitMQ killed and started", "KILL", false).await;
    rabbitmq(&mut stage, "RabbitMQ killed, its disk wiped, and started", "KILL", true).await;
    postgres(&mut stage, "PostgreSQL restarted fast", "INT").await;
    postgres(&mut stage, "PostgreSQL restarted immediately", "QUIT").await;
    connections_terminated(&mut stage).await;
    redis_killed(&mut stage).await;
    redis_flushed(&mut stage).await;
    redis_frozen(&mut stage).await;
    stage.judge().await;
}

/// The recovery time counts from the moment at which the server answers again.
async fn rabbitmq(stage: &mut Stage, name: &str, signal: &str, wipe: bool) {
    stage.fault(name);
    let mut before = Vec::new();
    for member in ["api", "autonomous-1", "scheduler"] {
        before.push((member, stage.until_metric(member, RECONNECTS, |_| true).await));
    }
    stage.servers.rabbitmq.stop(signal).await;
    stage.until_up("api", "bus", false).await;
    stage.until_up("autonomous-1", "bus", false).await;
    // Work goes on meanwhile: the store is looked into every second.
    let without = now();
    let ended = format!("SELECT count(*) FROM agentry.ended_tasks WHERE finished_at > {without}");
    until("tasks that end without RabbitMQ", PATIENCE, async || {
        (stage.servers.postgres.number(&ended).await >= 20).then_some(())
    })
    .await;
    if wipe {
        stage.servers.rabbitmq.wipe();
    }
    stage.servers.rabbitmq.start_again().await;
    let at = now();
    for (member, count) in before {
        stage.until_metric(member, RECONNECTS, |now| now > count).await;
        stage.until_up(member, "bus", true).await;
    }
    stage.measured(format!("{name}: all connected again {:.1} s after it answered", seconds_since(at)));
    stage.rate_is_back(name, at).await;
}

fn seconds_since(at: i64) -> f64 {
    Duration::from_micros((now() - at).unsigned_abs()).as_secs_f64()
}

async fn postgres(stage: &mut Stage, name: &str, signal: &str) {
    stage.fault(name);
    let sql = "SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint";
    let before = stage.servers.postgres.number(sql).await;
    assert!(connections(stage).await >= PROCESSES, "the deployment is not connected");
    stage.servers.postgres.restart(signal).await;
    let at = now();
    assert!(stage.servers.postgres.number(sql).await > before, "it was not restarted");
    stage.rate_is_back(name, at).await;
}

async fn connections(stage: &Stage) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'agentry'";
    stage.servers.postgres.number(sql).await
}

async fn connections_terminated(stage: &mut Stage) {
    let name = "all PostgreSQL connections terminated";
    stage.fault(name);
    let sql = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE application_name = 'agentry'";
    let ended = stage.servers.postgres.number(sql).await;
    let at = now();
    assert!(ended >= 2 * PROCESSES, "only {ended} connections were terminated");
    stage.rate_is_back(&format!("{name} ({ended})"), at).await;
}

async fn redis_killed(stage: &mut Stage) {
    stage.fault("Redis killed");
    let bypasses = stage.until_metric("api", BYPASSES, |_| true).await;
    stage.servers.redis.process.kill();
    stage.until_up("api", "cache", false).await;
    stage.until_metric("api", BYPASSES, |now| now > bypasses).await;
    sleep(WITHOUT_REDIS).await;
    stage.servers.redis.start_again().await;
    let at = now();
    stage.until_up("api", "cache", true).await;
    stage.rate_is_back("Redis killed and started", at).await;
}

async fn redis_flushed(stage: &mut Stage) {
    stage.fault("Redis flushed");
    until("entries in Redis", PATIENCE, async || {
        let answer = stage.servers.redis.ask("DBSIZE").await?;
        answer.strip_prefix(':')?.parse::<u64>().ok().filter(|entries| *entries > 10)
    })
    .await;
    let misses = stage.until_metric("api", MISSES, |_| true).await;
    assert_eq!(stage.servers.redis.ask("FLUSHALL").await.as_deref(), Some("+OK"));
    let at = now();
    stage.until_metric("api", MISSES, |now| now > misses).await;
    stage.rate_is_back("Redis flushed", at).await;
}

async fn redis_frozen(stage: &mut Stage) {
    stage.fault("Redis frozen");
    let errors = stage.until_metric("api", ERRORS, |_| true).await;
    stage.servers.redis.process.signal("STOP");
    stage.until_metric("api", ERRORS, |now| now > errors).await;
    sleep(WITHOUT_REDIS).await;
    stage.servers.redis.process.signal("CONT");
    let at = now();
    stage.until_up("api", "cache", true).await;
    stage.rate_is_back("Redis frozen", at).await;
}
