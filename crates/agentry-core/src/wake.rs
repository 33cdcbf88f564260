//! Wakes: hints that a task can be claimed.

use std::sync::Arc;

use crate::agent::ExecutionMode;
use crate::id::TaskId;
use crate::session::SessionId;
use crate::task::{Priority, Task};

/// A hint that a task can be claimed. Lost hints cost time, never work: recovery finds the tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct Wake {
    /// The task.
    pub task: TaskId,
    /// Execution mode.
    pub mode: ExecutionMode,
    /// Session, for continuous agents: the session is claimed instead of the task.
    pub session: Option<SessionId>,
    /// Rank among waiting wakes.
    pub priority: Priority,
    /// The task itself, if the sender has it at hand.
    pub body: Option<Arc<Task>>,
}

impl Wake {
    /// Returns the wake of a task, with its body.
    #[must_use]
    pub fn of(task: Arc<Task>) -> Self {
        Self {
            task: task.id,
            mode: task.mode,
            session: task.session.clone(),
            priority: task.priority,
            body: Some(task),
        }
    }

    /// Returns the wake of a task that a store requeued without reading its body.
    #[must_use]
    pub fn requeued(task: TaskId, mode: ExecutionMode, session: Option<SessionId>) -> Self {
        Self { task, mode, session, priority: Priority::Normal, body: None }
    }
}
