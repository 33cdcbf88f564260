//! Tasks that a scenario sends outside a load, in batches.

use agentry_lab::LabError;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::run::RunError;
use crate::sut::{Api, Deployment};

/// Tasks of a batch.
const BATCH: usize = 1_000;

/// Submits tasks as (agent, input), side by side in batches; their ids. All must be accepted.
pub(super) async fn submit(api: &Api, tasks: Vec<(String, String)>) -> Result<Vec<String>, RunError> {
    let batches = tasks.chunks(BATCH).map(async |tasks| {
        let tasks: Vec<Value> = tasks.iter().map(|(agent, input)| json!({"agent": agent, "input": input})).collect();
        api.post("/v1/tasks/batch", &json!({"tasks": tasks})).await
    });
    let mut ids = Vec::new();
    for answer in join_all(batches).await {
        let (status, body) = answer?;
        if body["refused"].as_u64() != Some(0) {
            let body = body.to_string().chars().take(300).collect();
            return Err(LabError::Answer { request: "POST /v1/tasks/batch".into(), status, body }.into());
        }
        let rows = body["tasks"].as_array().into_iter().flatten();
        ids.extend(rows.filter_map(|row| Some(row["id"].as_str()?.to_owned())));
    }
    Ok(ids)
}

/// Submits so many tasks of one agent, each with its number behind what is asked.
pub(super) async fn submit_many(api: &Api, agent: &str, count: usize, ask: &str) -> Result<Vec<String>, RunError> {
    submit(api, (0..count).map(|number| (agent.to_owned(), format!("{ask} {number}"))).collect()).await
}

/// The calls that the simulator wrote into its own ledger.
pub(super) fn simulated_calls(deployment: &Deployment) -> Result<Vec<Value>, RunError> {
    let path = deployment.llm_ledger();
    let text = std::fs::read_to_string(&path).map_err(|error| RunError::File { path, error })?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Ids beyond the first of each.
pub(super) fn repeated<'a>(ids: impl Iterator<Item = &'a str>) -> u64 {
    let mut times = std::collections::BTreeMap::<&str, u64>::new();
    for id in ids {
        *times.entry(id).or_default() += 1;
    }
    times.values().map(|count| count - 1).sum()
}

/// Calls that the simulator answered whole, and one's id.
pub(super) fn is_whole(call: &Value) -> bool {
    call["end"] == "completed"
}

/// The id under which the platform made a call.
pub(super) fn id_of(call: &Value) -> &str {
    call["request_id"].as_str().unwrap_or_default()
}
