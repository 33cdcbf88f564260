//! Creation and replay of dead letters.
//!
//! A dead letter has the id of its origin (a task dies once; a message that dies again replaces its dead letter), so
//! that the store needs no random bits.

use agentry_core::agent::AgentName;
use agentry_core::id::{DeadLetterId, TaskId};
use agentry_core::outbox::{OutboxBody, OutboxMessage};
use agentry_core::task::{ErrorCode, Outcome, Task, TaskError};
use agentry_core::time::Timestamp;
use serde_json::json;

use super::columns::Unreadable;
use crate::{AcceptError, Acceptance, DeadLetter, DeadLetterOrigin, DeadLetterState, StoreError};

/// Returns the dead letter of a task that was given up, with its input for replay.
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

/// Returns the task of a message that was given up.
pub(crate) fn task_of(message: &OutboxMessage) -> Result<TaskId, Unreadable> {
    message.task.ok_or_else(|| Unreadable("a message without a task is never given up".to_owned()))
}

/// Returns the dead letter of a message that was given up. `agent` is that of its task, if there is one.
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

/// Fails unless the task of a replay was accepted as a new one.
pub(crate) fn check_replay(id: DeadLetterId, accepted: Result<Acceptance, AcceptError>) -> Result<(), StoreError> {
    match accepted {
        Ok(Acceptance::New) => Ok(()),
        Ok(Acceptance::Duplicate(of)) => Err(StoreError::Broken(format!("the replay of {id} is task {of} already"))),
        Err(AcceptError::Store(error)) => Err(error),
        Err(refused) => Err(StoreError::Broken(refused.to_string())),
    }
}

/// Returns the error of a replay without the task that it needs.
pub(crate) fn needs_a_task(id: DeadLetterId) -> StoreError {
    StoreError::Broken(format!("dead letter {id} is a task: its replay needs a new one"))
}
