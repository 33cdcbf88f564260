//! Tasks at the door of a SQL store.

use std::sync::Arc;

use agentry_core::task::Task;

use crate::StoreError;

/// A task with its body as it is kept; serialised by the caller, not by whoever writes the batch.
pub(crate) struct Arrival {
    pub(crate) task: Arc<Task>,
    pub(crate) body: String,
}

impl Arrival {
    /// Writes the body.
    pub(crate) fn new(task: Arc<Task>) -> Result<Self, StoreError> {
        let body = serde_json::to_string(&*task)
            .map_err(|error| StoreError::Broken(format!("a task cannot be written as JSON: {error}")))?;
        Ok(Self { task, body })
    }

    /// Writes the bodies of several.
    pub(crate) fn all(tasks: Vec<Arc<Task>>) -> Result<Vec<Self>, StoreError> {
        tasks.into_iter().map(Self::new).collect()
    }
}
