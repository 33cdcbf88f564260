//! The last scene: kill -9 of the server while tasks run, a restart, and the comparison of journals and ledger.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use agentry_api::{BatchReply, BatchRequest, BatchRow, Client, TaskDetail, TaskRequest};
use agentry_core::id::TaskId;
use agentry_core::journal::{JournalBody, JournalEntry};
use agentry_core::task::TaskStatus;
use reqwest::Method;
use serde_json::Value;

use super::deployment::DemoDeployment;
use super::until_ended;
use crate::failure::Failure;
use crate::render::at;

/// Tasks that are accepted before the kill.
const TASKS: usize = 14;
/// Additional delay of the simulator for each further task, so that the kill meets all stages.
const STAGGER_MS: usize = 60;

/// The result of the crash.
pub struct CrashSummary {
    /// Accepted tasks.
    pub accepted: usize,
    /// Tasks that had ended before the kill.
    pub ended_before: usize,
    /// Tasks that ended exactly once.
    pub ended_once: usize,
    /// Completed calls that were repeated.
    pub bought_twice: usize,
    /// Time from the kill to the end of the last task.
    pub recovery: Duration,
}

/// Kills the server while tasks run, restarts it, waits for all tasks, and compares journals with the simulator's
/// ledger.
pub async fn kill_and_recover(deployment: &mut DemoDeployment, client: &Client) -> Result<CrashSummary, Failure> {
    let task = |n| TaskRequest::new("triage", format!("case {n} [[sleep:{}]]", n * STAGGER_MS));
    let batch = client.submit_batch(&BatchRequest { tasks: (0..TASKS).map(task).collect() }).await?;
    let ids = accepted_ids(&batch)?;
    // Now some tasks have ended, and most run.
    until_ended(client, ids[0]).await?;
    let mut ended_before = 0;
    for id in &ids {
        ended_before += usize::from(client.task(id).await?.task.status.is_terminal());
    }
    let killed = Instant::now();
    let client = deployment.kill_and_restart().await?;
    for id in &ids {
        until_ended(&client, *id).await?;
    }
    let recovery = killed.elapsed();
    let ledger = simulator_ledger(&deployment.provider()?).await?;
    let (accepted, mut ended_once, mut bought_twice) = (ids.len(), 0, 0);
    for id in ids {
        let TaskDetail { task, journal } = client.task_with_journal(id).await?;
        ended_once += usize::from(task.status == TaskStatus::Completed);
        bought_twice += repeated_calls(&journal.unwrap_or_default(), &ledger);
    }
    if ended_once != accepted || bought_twice > 0 {
        let message =
            format!("after kill -9: {ended_once} of {accepted} tasks completed, {bought_twice} calls bought twice");
        return Err(Failure::new(message));
    }
    Ok(CrashSummary { accepted, ended_before, ended_once, bought_twice, recovery })
}

fn accepted_ids(batch: &BatchReply<'_>) -> Result<Vec<TaskId>, Failure> {
    let id = |row: &BatchRow<'_>| match row {
        BatchRow::Accepted { id, .. } => Some(*id),
        BatchRow::Refused { .. } => None,
    };
    let ids: Vec<TaskId> = batch.tasks.iter().filter_map(id).collect();
    if ids.len() == TASKS {
        Ok(ids)
    } else {
        Err(Failure::new(format!("{} of {TASKS} tasks were accepted", ids.len())))
    }
}

/// Returns the number of complete answers of the simulator by request id.
async fn simulator_ledger(simulator: &Client) -> Result<HashMap<String, usize>, Failure> {
    let lines = simulator.call::<()>(Method::GET, &["sim", "ledger"]).bytes().await?;
    let mut answered = HashMap::new();
    for line in serde_json::Deserializer::from_slice(&lines).into_iter::<Value>() {
        let line = line.map_err(|error| Failure::new(format!("the simulator's ledger is not JSON lines: {error}")))?;
        if line["end"] == "completed" {
            *answered.entry(at(&line, "/request_id")).or_insert(0) += 1;
        }
    }
    Ok(answered)
}

/// Returns the number of completed calls that were repeated: the same turn completed twice within an attempt, or a
/// request id that the simulator did not answer exactly once.
fn repeated_calls(journal: &[JournalEntry], ledger: &HashMap<String, usize>) -> usize {
    let (mut turns, mut repeated) = (HashSet::new(), 0);
    for entry in journal {
        if let JournalBody::ModelCompleted { call, turn, .. } = &entry.body {
            let is_new_turn = turns.insert((entry.attempt, &entry.scope, *turn));
            repeated += usize::from(!is_new_turn || ledger.get(&call.to_string()) != Some(&1));
        }
    }
    repeated
}

#[cfg(test)]
mod tests {
    use agentry_core::id::CallId;
    use serde_json::json;

    use super::*;

    fn completed(call: CallId, turn: u32) -> JournalEntry {
        let reply =
            json!({"content": "", "stop": "end", "usage": {"input_tokens": 1, "output_tokens": 1}, "model": "m"});
        let body = json!({"kind": "model_completed", "call": call, "turn": turn, "provider": "openai", "reply": reply,
            "cost": null, "duration_us": 1});
        let entry = json!({"seq": 1, "attempt": 1, "scope": "main", "at": "2026-11-23T09:00:00Z", "body": body});
        serde_json::from_value(entry).unwrap()
    }

    #[test]
    fn a_turn_completed_twice_or_answered_twice_is_found() {
        let [a, b, c, d] = [(); 4].map(|()| CallId::generate());
        let ledger = [(a, 1), (b, 1), (c, 2)].map(|(call, count)| (call.to_string(), count)).into();
        let count = |journal: &[JournalEntry]| repeated_calls(journal, &ledger);
        assert_eq!(count(&[completed(a, 0), completed(b, 1)]), 0);
        assert_eq!(count(&[completed(a, 0), completed(b, 0)]), 1, "the same turn");
        assert_eq!(count(&[completed(c, 0)]), 1, "sent twice");
        assert_eq!(count(&[completed(d, 0)]), 1, "not in the simulator's ledger");
    }

    #[test]
    fn every_task_of_the_batch_must_be_accepted() {
        let reply = json!({"accepted": 1, "refused": 1, "tasks": [{"id": TaskId::generate()}, {"error": {}}]});
        assert!(accepted_ids(&serde_json::from_value(reply).unwrap()).is_err());
    }
}
