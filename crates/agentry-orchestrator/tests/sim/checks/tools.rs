//! Tool calls: an idempotency key names one call, an intent precedes each attempt, and models receive the real outcome.

use std::collections::{HashMap, HashSet};

use agentry_core::id::TaskId;
use agentry_core::journal::{JournalBody, JournalEntry};

use crate::records::Records;
use crate::stage::Stage;
use crate::tools::{Try, result_of};

/// Maximum number of attempts of one call, for each time that the task's attempt was resumed: the first, and five
/// retries of a tool with `on_unknown: retry`.
const TRIES_PER_CLAIM: usize = 6;

/// A call of a tool within one attempt of a task.
type CallOfAttempt<'a> = (TaskId, u32, &'a str, &'a str);

fn by_call(tries: &[Try]) -> HashMap<CallOfAttempt<'_>, Vec<&Try>> {
    let mut calls: HashMap<CallOfAttempt<'_>, Vec<&Try>> = HashMap::new();
    for one in tries {
        calls.entry((one.task, one.attempt, &one.tool, &one.arguments)).or_default().push(one);
    }
    calls
}

/// A receiver that acts once for each key must not confuse two calls.
pub fn keys_name_one_call(stage: &Stage) {
    let tries = stage.tools.tries();
    let mut calls: HashMap<&str, (TaskId, &str, &str)> = HashMap::new();
    for one in &tries {
        let call = (one.task, one.tool.as_str(), one.arguments.as_str());
        let known = *calls.entry(&one.key).or_insert(call);
        assert_eq!(known, call, "[tools] two calls share the idempotency key {}", one.key);
    }
}

pub fn calls_are_bounded_and_intended(stage: &Stage, records: &Records) {
    let tries = stage.tools.tries();
    for ((task, attempt, tool, arguments), tries) in by_call(&tries) {
        let entries = || records.journal(task).iter().filter(|entry| entry.attempt == attempt);
        let intents = entries().filter(|entry| is_intent(entry, tool, arguments)).count();
        assert!(
            tries.len() <= intents,
            "[tools] task {task}: {tool} with {arguments} was tried {} times after {intents} intents",
            tries.len()
        );
        // One more claim than the journal shows may have been lost with its answer.
        let claims = 2 + entries().filter(|entry| is_taken_up(entry)).count();
        assert!(
            tries.len() <= claims * TRIES_PER_CLAIM,
            "[tools] task {task}: {tool} with {arguments} was tried {} times in attempt {attempt}",
            tries.len()
        );
        let keys: HashSet<&str> = tries.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(keys.len(), 1, "[tools] task {task}: one call of attempt {attempt} has one key: {keys:?}");
    }
}

fn is_intent(entry: &JournalEntry, tool: &str, arguments: &str) -> bool {
    matches!(&entry.body, JournalBody::ToolStarted { call, .. } if call.name == tool && call.arguments == arguments)
}

fn is_taken_up(entry: &JournalEntry) -> bool {
    matches!(entry.body, JournalBody::Recovered { .. } | JournalBody::HandedBack { .. })
}

/// Checks the output that a model receives for a call: the receiver's answer, or an error if nothing was done.
pub fn models_are_told_the_truth(stage: &Stage, records: &Records) {
    let tries = stage.tools.tries();
    let calls = by_call(&tries);
    for record in &records.tasks {
        let journal = records.journal(record.task.id);
        for entry in journal {
            let JournalBody::ToolCompleted { turn, call_id, output, is_error, .. } = &entry.body else { continue };
            // The intent of this call: ids are unique within a turn of a scope.
            let intent = journal.iter().find_map(|other| match &other.body {
                JournalBody::ToolStarted { turn: of, call }
                    if of == turn
                        && call.id == *call_id
                        && other.attempt == entry.attempt
                        && other.scope == entry.scope =>
                {
                    Some(call)
                }
                _ => None,
            });
            let Some(call) = intent else { panic!("[tools] task {}: no intent before {entry:?}", record.task.id) };
            let key = (record.task.id, entry.attempt, call.name.as_str(), call.arguments.as_str());
            let done = calls.get(&key).is_some_and(|tries| tries.iter().any(|one| one.done));
            if *is_error {
                assert!(
                    !done,
                    "[tool outcome] task {}: the model is told `{output}`, though {} with {} was done",
                    record.task.id, call.name, call.arguments
                );
            } else {
                assert_eq!(*output, result_of(&call.name, &call.arguments), "[tool outcome] task {}", record.task.id);
                assert!(done, "[tool outcome] task {}: {output}, and nothing was", record.task.id);
            }
        }
    }
}
