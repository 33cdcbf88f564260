//! The last scene: kill -9 of the server in the middle of accepted tasks, a restart, and the accounts.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::deployment::DemoDeployment;
use super::scenes::is_over;
use super::{entries, until, with_journal};
use crate::client::Client;
use crate::failure::Failure;
use crate::render::at;

/// Tasks that are accepted before the kill.
const TASKS: usize = 14;
/// Each takes the simulator this much longer than the one before, so that the kill meets all stages.
const STAGGER_MS: usize = 60;

/// What came of the crash.
pub struct Crash {
    /// Tasks that were accepted.
    pub accepted: usize,
    /// Those that had ended before the kill.
    pub ended_before: usize,
    /// Those that ended exactly once.
    pub ended_once: usize,
    /// Completed calls that were made again.
    pub bought_twice: usize,
    /// From the kill to the end of the last task.
    pub recovery: Duration,
}

/// Kills the server while tasks run, restarts it, waits for all tasks, and compares journals with the simulator's
/// ledger.
pub async fn kill_and_recover(deployment: &mut DemoDeployment, client: &Client) -> Result<Crash, Failure> {
    let tasks: Vec<Value> = (0..TASKS)
        .map(|n| json!({"agent": "triage", "input": format!("case {n} [[sleep:{}]]", n * STAGGER_MS)}))
        .collect();
    let batch = client.post(&["v1", "tasks", "batch"], &[], &json!({"tasks": tasks})).await?;
    let ids = accepted_ids(&batch)?;
    let early = ids.first().cloned().unwrap_or_default();
    // In the middle: some have ended, most run.
    let path = ["v1", "tasks", early.as_str()];
    until(|| client.get(&path, &[]), |task| is_over(&task).then_some(())).await?;
    let ended_before = count_over(client, &ids).await?;
    let killed = Instant::now();
    let client = deployment.kill_and_restart().await?;
    for id in &ids {
        let path = ["v1", "tasks", id.as_str()];
        until(|| client.get(&path, &[]), |task| is_over(&task).then_some(())).await?;
    }
    let recovery = killed.elapsed();
    let mut journals = Vec::new();
    for id in &ids {
        journals.push(with_journal(&client, id).await?);
    }
    let ledger = simulator_ledger(deployment).await?;
    let ended_once = journals.iter().filter(|task| task["status"] == "completed").count();
    let bought_twice = journals.iter().map(|task| repeated_calls(task, &ledger)).sum();
    let crash = Crash { accepted: ids.len(), ended_before, ended_once, bought_twice, recovery };
    if crash.ended_once != crash.accepted || crash.bought_twice > 0 {
        let Crash { accepted, ended_once, bought_twice, .. } = crash;
        let message =
            format!("after kill -9: {ended_once} of {accepted} tasks completed, {bought_twice} calls bought twice");
        return Err(Failure::new(message));
    }
    Ok(crash)
}

fn accepted_ids(batch: &Value) -> Result<Vec<String>, Failure> {
    let rows = batch["tasks"].as_array().into_iter().flatten();
    let ids: Vec<String> = rows.filter_map(|row| row["id"].as_str()).map(str::to_owned).collect();
    if ids.len() == TASKS {
        Ok(ids)
    } else {
        Err(Failure::new(format!("{} of {TASKS} tasks were accepted", ids.len())))
    }
}

async fn count_over(client: &Client, ids: &[String]) -> Result<usize, Failure> {
    let mut over = 0;
    for id in ids {
        over += usize::from(is_over(&client.get(&["v1", "tasks", id], &[]).await?));
    }
    Ok(over)
}

/// How often the simulator answered each request id whole.
async fn simulator_ledger(deployment: &DemoDeployment) -> Result<HashMap<String, usize>, Failure> {
    let text = deployment.provider()?.text(&["sim", "ledger"]).await?;
    let mut answered = HashMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line)
            .map_err(|error| Failure::new(format!("the simulator's ledger is not JSON lines: {error}")))?;
        if line["end"] == "completed" {
            *answered.entry(at(&line, "/request_id")).or_insert(0) += 1;
        }
    }
    Ok(answered)
}

/// Calls of a task that were completed, by its journal, and yet made again: the same turn completed twice within an
/// attempt, or a request id that the simulator did not answer exactly once.
fn repeated_calls(task: &Value, ledger: &HashMap<String, usize>) -> usize {
    let mut turns = HashSet::new();
    let repeated = |entry: &&Value| {
        let turn = (at(entry, "/attempt"), at(entry, "/scope"), at(entry, "/body/turn"));
        let answered = ledger.get(&at(entry, "/body/call")).copied().unwrap_or(0);
        !turns.insert(turn) || answered != 1
    };
    entries(task, "model_completed").filter(repeated).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(call: &str, turn: u32) -> Value {
        json!({"attempt": 1, "scope": "main", "body": {"kind": "model_completed", "call": call, "turn": turn}})
    }

    #[test]
    fn a_turn_completed_twice_or_answered_twice_is_found() {
        let ledger = HashMap::from([("a".to_owned(), 1), ("b".to_owned(), 1), ("c".to_owned(), 2)]);
        let count = |journal: Value| repeated_calls(&json!({"journal": journal}), &ledger);
        assert_eq!(count(json!([completed("a", 0), completed("b", 1)])), 0);
        assert_eq!(count(json!([completed("a", 0), completed("b", 0)])), 1, "the same turn");
        assert_eq!(count(json!([completed("c", 0)])), 1, "sent twice");
        assert_eq!(count(json!([completed("d", 0)])), 1, "the witness does not know it");
    }

    #[test]
    fn every_task_of_the_batch_must_be_accepted() {
        assert!(accepted_ids(&json!({"tasks": [{"id": "x"}, {"error": {}}]})).is_err());
    }
}
