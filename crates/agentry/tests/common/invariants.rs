//! Invariants after faults, shared by the tests of both engines: no accepted task is lost, no task ends twice, no answer of
//! a model is bought twice, and conversations stay in order.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

/// Requests acknowledged with 2xx: tasks by idempotency key, and each conversation as tasks and inputs in order.
#[derive(Default)]
pub struct Promised {
    pub keys: BTreeMap<String, String>,
    pub turns: BTreeMap<String, Vec<(String, String)>>,
}

/// Returns the journal entries of a kind.
pub fn entries<'t>(task: &'t Value, kind: &'t str) -> impl Iterator<Item = &'t Value> {
    task["journal"].as_array().unwrap().iter().filter(move |entry| entry["body"]["kind"] == kind)
}

/// Asserts that every acknowledged task exists once, and that there are no other tasks of the API.
pub fn one_task_for_each_key(promised: &Promised, tasks: &[Value]) {
    let ids: HashSet<&str> = tasks.iter().map(|task| task["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), tasks.len(), "a task is listed twice");
    let lost: Vec<_> = promised.keys.iter().filter(|(_, id)| !ids.contains(id.as_str())).collect();
    assert!(lost.is_empty(), "accepted and gone, or not ended: {lost:?}");
    let asked: Vec<&Value> = tasks.iter().filter(|task| task["source"]["kind"] == "api").collect();
    let inputs: HashSet<&str> = asked.iter().map(|task| task["input"].as_str().unwrap()).collect();
    assert_eq!(inputs.len(), asked.len(), "one request became two tasks");
    assert_eq!(promised.keys.len(), asked.len(), "tasks that nobody was told of");
}

/// Asserts that the entries of a journal are numbered without gaps.
pub fn journal_is_gapless(task: &Value) {
    let numbers = task["journal"].as_array().unwrap().iter().map(|entry| entry["seq"].as_u64().unwrap());
    assert!(numbers.eq(1..=task["journal"].as_array().unwrap().len() as u64), "gaps in the journal: {task}");
}

/// Returns the started and the completed calls of all journals. Asserts that no answered turn was repeated, and that
/// each call has a row in the usage ledger.
pub fn calls(journals: &[Value]) -> (HashSet<String>, HashSet<String>) {
    let call = |entry: &Value| entry["body"]["call"].as_str().unwrap().to_owned();
    let turn = |entry: &Value| format!("{} {} {}", entry["attempt"], entry["scope"], entry["body"]["turn"]);
    let (mut known, mut completed) = (HashSet::new(), HashSet::new());
    for task in journals {
        let started: HashSet<String> = entries(task, "model_started").map(call).collect();
        assert_eq!(task["spent"]["llm_calls"], started.len(), "the usage ledger has a row for each call: {task}");
        known.extend(started);
        let mut done = HashSet::new();
        for entry in task["journal"].as_array().unwrap() {
            match entry["body"]["kind"].as_str() {
                Some("model_completed") => {
                    assert!(done.insert(turn(entry)), "a turn was answered twice: {task}");
                    assert!(completed.insert(call(entry)), "a call counts twice: {task}");
                }
                Some("model_started") => {
                    assert!(!done.contains(&turn(entry)), "an answered turn was asked again: {task}");
                }
                _ => {}
            }
        }
    }
    (known, completed)
}

/// Asserts that a session has each input once and in order, with its answer.
pub fn conversation_is_whole(session: &str, messages: &[Value], expected: &[&str]) {
    let numbers = messages.iter().map(|message| message["number"].as_u64().unwrap());
    assert!(numbers.eq(1..=messages.len() as u64), "gaps in session {session}");
    let of_users = messages.iter().filter(|message| message["message"]["role"] == "user");
    let said: Vec<&str> = of_users.map(|message| message["message"]["content"].as_str().unwrap()).collect();
    assert_eq!(said, expected, "session {session} is out of order");
    let roles: Vec<&str> = messages.iter().map(|message| message["message"]["role"].as_str().unwrap()).collect();
    assert!(roles.chunks(2).all(|pair| pair == ["user", "assistant"]), "session {session}: {roles:?}");
}
