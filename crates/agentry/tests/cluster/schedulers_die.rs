//! Three schedulers, one of which is always being killed: every slot has one task, none is early.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::judge::{all_tasks, micros};
use crate::test_cluster::{PATIENCE, TestCluster, now};
use crate::wait::until;

const SCHEDULERS: [&str; 3] = ["scheduler-1", "scheduler-2", "scheduler-3"];
/// Schedules of a second each, besides that of a file.
const SCHEDULES: usize = 20;
/// How often a scheduler is killed.
const KILLS: i64 = 6;
const SECOND: i64 = 1_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_slot_is_lost_or_doubled_while_schedulers_die() {
    let mut cluster =
        TestCluster::with(&["api", "autonomous-1", SCHEDULERS[0], SCHEDULERS[1], SCHEDULERS[2]], &[]).await;
    for number in 0..SCHEDULES {
        let every_second = json!({
            "name": format!("every-{number}"), "agent": "clerk", "interval_seconds": 1, "input": "tick",
            "overlap": "allow_all", "catchup_window_seconds": 3600,
        });
        let url = format!("{}/v1/schedules", cluster.api());
        let made = cluster.http.post(url).json(&every_second).send().await.unwrap();
        assert_eq!(made.status(), 201);
    }
    let from = now();
    for kill in 0..KILLS {
        let victim = SCHEDULERS[kill as usize % SCHEDULERS.len()];
        // Around the moment in which all decide: shortly before, at, and after a whole second.
        let phase = (kill % 3 - 1) * 5_000;
        let wait = (SECOND + phase - now() % SECOND).rem_euclid(SECOND);
        sleep(Duration::from_micros(wait.unsigned_abs())).await;
        let at = now();
        cluster.deployment.process(victim).kill();
        cluster.start(&[victim]).await;
        slots_go_on(&cluster, at + SECOND).await;
    }
    let to = now();
    slots_go_on(&cluster, to + SECOND).await;
    judge(&cluster, from, to).await;
}

/// Waits until every schedule has decided a slot after a moment.
async fn slots_go_on(cluster: &TestCluster, moment: i64) {
    let sql = format!("SELECT count(DISTINCT schedule) FROM agentry.slots WHERE slot > {moment}");
    until("slots of every schedule", PATIENCE, async || {
        (cluster.number(&sql).await == SCHEDULES as i64 + 1).then_some(())
    })
    .await;
}

/// Every second of the window has, for every schedule, one row and one task, and neither is from before its time.
async fn judge(cluster: &TestCluster, from: i64, to: i64) {
    let expected: Vec<i64> = (from / SECOND + 1..=to / SECOND).map(|second| second * SECOND).collect();
    let sql = format!(
        "SELECT schedule, slot, state, task::text, decided_at - slot FROM agentry.slots
         WHERE slot > {from} AND slot <= {to} ORDER BY schedule, slot"
    );
    let mut rows: HashMap<String, Vec<(i64, String)>> = HashMap::new();
    for row in cluster.rows(&sql).await {
        let late: i64 = row[4].parse().unwrap();
        assert!(row[2] == "0" && late >= 0, "not fired, or early: {row:?}");
        rows.entry(row[0].clone()).or_default().push((row[1].parse().unwrap(), row[3].clone()));
    }
    assert_eq!(rows.len(), SCHEDULES + 1);
    let mut tasks: HashMap<(String, i64), Vec<Value>> = HashMap::new();
    for task in all_tasks(cluster).await {
        let Some(schedule) = task["source"]["schedule"].as_str() else { continue };
        tasks.entry((schedule.to_owned(), micros(&task["source"]["slot"]))).or_default().push(task);
    }
    for (schedule, slots) in &rows {
        let decided: Vec<i64> = slots.iter().map(|(slot, _)| *slot).collect();
        assert_eq!(decided, expected, "{schedule}: slots were missed");
        for (slot, task) in slots {
            let of_slot = &tasks[&(schedule.clone(), *slot)];
            let ids: Vec<&str> = of_slot.iter().map(|task| task["id"].as_str().unwrap()).collect();
            assert_eq!(ids, [task], "{schedule} at {slot}: tasks of one slot");
            let begun = [&of_slot[0]["created_at"], &of_slot[0]["started_at"]];
            let early = begun.iter().any(|moment| moment.is_string() && micros(moment) < *slot);
            assert!(!early, "{schedule}: a task from before its slot: {}", of_slot[0]);
        }
    }
}
