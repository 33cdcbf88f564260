//! Hints that work is there.

use std::sync::Arc;

use crate::agent::ExecutionMode;
use crate::id::TaskId;
use crate::session::SessionId;
use crate::task::{Priority, Task};

/// A hint that a task can be claimed. Lost hints cost time, never work: recovery finds what was not woken.
#[derive(Debug, Clone, PartialEq)]
pub struct Wake {
    /// The task.
    pub task: TaskId,
    /// Its mode: which workers may claim it.
    pub mode: ExecutionMode,
    /// Its session, for continuous agents: the session is claimed instead of the task.
    pub session: Option<SessionId>,
    /// Which of the waiting wakes goes first.
    pub priority: Priority,
    /// What the worker would read next, when the sender has it at hand.
    pub body: Option<Arc<Task>>,
}

impl Wake {
    /// The wake of a task whose body is at hand.
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

    /// The wake of a task that was queued again, by a store that did not read its body.
    #[must_use]
    pub fn again(task: TaskId, mode: ExecutionMode, session: Option<SessionId>) -> Self {
        Self { task, mode, session, priority: Priority::Normal, body: None }
    }
}
