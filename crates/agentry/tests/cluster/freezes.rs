//! PostgreSQL stands still for seconds under load, again and again: it costs time, and nobody is declared dead.
//!
//! `AGENTRY_TEST_FREEZES` lists other freezes, in milliseconds: `2600,2600,8000`.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::sleep;

use crate::invariants::Promised;
use crate::judge::read_ledger;
use crate::test_cluster::{PATIENCE, TestCluster};
use crate::wait::until;

/// Tasks that come per second; one in eight takes two seconds, so that about sixty run at any time.
const RATE: f64 = 250.0;
/// Freezes around three heartbeats of a second, in milliseconds.
const FREEZES: [u64; 5] = [2_600, 2_600, 2_600, 5_000, 5_000];
/// Time before the first freeze and between two: shorter than what judges of others wait after a stall.
const BETWEEN: Duration = Duration::from_millis(2_500);
/// Time after the last freeze, for what would be declared dead late.
const AFTER: Duration = Duration::from_secs(6);
/// An API and two workers.
const MEMBERS: [&str; 3] = ["api", "autonomous-1", "autonomous-2"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_database_restarts_no_task_and_pays_no_call_twice() {
    let mut cluster = TestCluster::with(&MEMBERS, &[]).await;
    cluster.load_singles(RATE);
    sleep(BETWEEN).await;
    for (n, freeze) in freezes().into_iter().enumerate() {
        cluster.fault(&format!("freeze {n} of {freeze} ms"));
        sleep(BETWEEN).await;
        let running = cluster.number("SELECT count(*) FROM agentry.open_tasks WHERE status = 1").await;
        assert!(running > 0, "the freeze met no task that ran");
        let frozen = cluster.servers.postgres.freeze().unwrap();
        sleep(Duration::from_millis(freeze)).await;
        drop(frozen);
    }
    sleep(AFTER).await;
    let (unanswered, refused) = cluster.troubles();
    let promised = cluster.end_load().await;
    cluster.measured(format!(
        "{unanswered} requests unanswered, {refused} refused, {} tasks accepted",
        promised.keys.len()
    ));
    everything_ended(&cluster, &promised).await;
    nobody_was_declared_dead(&mut cluster, &promised).await;
}

fn freezes() -> Vec<u64> {
    let Ok(listed) = std::env::var("AGENTRY_TEST_FREEZES") else { return FREEZES.to_vec() };
    listed.split(',').map(|one| one.trim().parse().expect("AGENTRY_TEST_FREEZES: milliseconds, by commas")).collect()
}

/// Every task that was accepted completes.
async fn everything_ended(cluster: &TestCluster, promised: &Promised) {
    let open = "SELECT o.id::text, o.status::text, o.owner::text, o.epoch::text FROM agentry.open_tasks o";
    let limit = tokio::time::Instant::now() + PATIENCE;
    loop {
        let left = cluster.rows(open).await;
        if left.is_empty() {
            break;
        }
        assert!(
            limit > tokio::time::Instant::now(),
            "{} tasks are stuck: {:?}",
            left.len(),
            &left[..left.len().min(10)]
        );
        sleep(Duration::from_millis(200)).await;
    }
    let ended = cluster.rows("SELECT id::text, status::text FROM agentry.ended_tasks").await;
    let ended: HashMap<&str, &str> = ended.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
    let completed = (agentry_core::task::TaskStatus::Completed as u8).to_string();
    let bad: Vec<_> =
        promised.keys.iter().filter(|(_, id)| ended.get(id.as_str()) != Some(&completed.as_str())).collect();
    assert!(bad.is_empty(), "{} tasks were lost or did not complete: {:?}", bad.len(), &bad[..bad.len().min(10)]);
    assert_eq!(ended.len(), promised.keys.len(), "one request became two tasks");
}

/// No task was taken from a worker, and the provider was asked once for each.
async fn nobody_was_declared_dead(cluster: &mut TestCluster, promised: &Promised) {
    let recovered =
        cluster.number("SELECT count(*) FROM agentry.journal WHERE body::json->>'kind' = 'recovered'").await;
    let rows = cluster.number("SELECT count(*) FROM agentry.ledger").await;
    let tasks = promised.keys.len();
    let asked = until("the simulator's ledger to have every answer", PATIENCE, async || {
        let asked = read_ledger(&cluster.deployment.ledger());
        (asked.len() >= tasks).then_some(asked)
    })
    .await;
    let (calls, answers) = (asked.len(), asked.values().map(|call| call.answered).sum::<u32>());
    cluster.measured(format!(
        "{tasks} tasks: {recovered} recovered, {calls} calls, {answers} answers, {rows} ledger rows"
    ));
    assert_eq!(recovered, 0, "tasks were taken from workers that lived");
    assert_eq!((calls, answers as usize, rows as usize), (tasks, tasks, tasks), "calls were paid twice");
}
