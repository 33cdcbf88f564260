//! What becomes a dead letter, and what a letter becomes when it is replayed.
//!
//! A dead letter has the id of what was given up (a task dies once; a message that dies again takes its old place), so
//! that the store needs no random bits of its own.

use agentry_core::agent::AgentName;
use agentry_core::id::{DeadLetterId, TaskId};
use agentry_core::outbox::{OutboxBody, OutboxMessage};
use agentry_core::task::{ErrorCode, Outcome, Task, TaskError};
use agentry_core::time::Timestamp;
use serde_json::json;

use super::columns::Unreadable;
use crate::{Accepted, DeadLetter, DeadLetterOrigin, DeadLetterState, Refused, StoreError};

/// A task that was given up, with its input for replay.
pub(crate) fn of_task(task: Task, outcome: &Outcome, at: Timestamp) -> DeadLetter {
    let unknown =
        || TaskError::new(ErrorCode::Internal, format!("the task ended as {} without an error", outcome.status));
    DeadLetter {
        id: DeadLetterId::from_bytes(*task.id.as_bytes()),
        origin: DeadLetterOrigin::Task,
        task: task.id,
        agent: task.agent,
        reason: outcome.error.clone().unwrap_or_else(unknown),
        payload: task.input,
        created_at: at,
        state: DeadLetterState::Open,
    }
}

/// The task of a message that was given up.
pub(crate) fn task_of(message: &OutboxMessage) -> Result<TaskId, Unreadable> {
    message.task.ok_or_else(|| Unreadable("a message without a task is never given up".to_owned()))
}

/// A message that was given up. `agent` is that of its task, if there is one.
pub(crate) fn of_message(
    message: &OutboxMessage,
    agent: Option<AgentName>,
    reason: &str,
    at: Timestamp,
) -> Result<DeadLetter, Unreadable> {
    let task = task_of(message)?;
    let payload = match &message.body {
        OutboxBody::Event { event, .. } => serde_json::to_value(event)?,
        OutboxBody::Callback { url, payload } => json!({ "url": url, "payload": payload }),
        OutboxBody::Slack { message } => serde_json::to_value(message.lasting())?,
    };
    Ok(DeadLetter {
        id: DeadLetterId::from_bytes(*message.id.as_bytes()),
        origin: DeadLetterOrigin::Outbox,
        task,
        agent: agent.ok_or_else(|| Unreadable(format!("the outbox names task {task}, which is gone")))?,
        reason: TaskError::new(ErrorCode::Internal, reason),
        payload,
        created_at: at,
        state: DeadLetterState::Open,
    })
}

/// Refuses the replay of a task that was not accepted as a new one.
pub(crate) fn check_replay(id: DeadLetterId, accepted: Result<Accepted, Refused>) -> Result<(), StoreError> {
    match accepted {
        Ok(Accepted::New) => Ok(()),
        Ok(Accepted::Duplicate(of)) => Err(StoreError::Broken(format!("the replay of {id} is task {of} already"))),
        Err(Refused::Store(error)) => Err(error),
        Err(refused) => Err(StoreError::Broken(refused.to_string())),
    }
}

/// The refusal of a replay without the task that it needs.
pub(crate) fn needs_a_task(id: DeadLetterId) -> StoreError {
    StoreError::Broken(format!("dead letter {id} is a task: its replay needs a new one"))
}
