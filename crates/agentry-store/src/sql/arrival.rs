//! Submissions with their JSON columns: serialised by the caller, not by whoever writes the batch.

use std::sync::Arc;

use agentry_core::outbox::OutboxMessage;
use agentry_core::task::Task;
use agentry_core::time::Timestamp;

use super::columns::{Unreadable, to_json};
use crate::{Accepted, Firing, IncomingEvent, Refused, StoreError};

/// A task with its body as it is kept.
pub(crate) struct Arrival {
    pub(crate) task: Arc<Task>,
    pub(crate) body: String,
}

impl Arrival {
    /// Serialises the body.
    pub(crate) fn new(task: Arc<Task>) -> Result<Self, Unreadable> {
        Ok(Self { body: to_json(&*task)?, task })
    }

    /// Serialises the bodies of several.
    pub(crate) fn all(tasks: Vec<Arc<Task>>) -> Result<Vec<Self>, Unreadable> {
        tasks.into_iter().map(Self::new).collect()
    }
}

/// An event with the tasks it starts.
pub(crate) struct Incoming {
    /// Source and id, as their columns have them.
    pub(crate) key: (String, String),
    pub(crate) at: Timestamp,
    pub(crate) body: String,
    pub(crate) tasks: Vec<Arrival>,
    pub(crate) outbox: Option<OutboxMessage>,
    pub(crate) fleet_revision: u64,
}

impl Incoming {
    /// Serialises an event; `column` makes text what its column holds.
    pub(crate) fn new(incoming: IncomingEvent, column: impl Fn(&str) -> String) -> Result<Self, StoreError> {
        let IncomingEvent { event, tasks, outbox, fleet_revision } = incoming;
        // An event may carry a time long ago; it is forgotten by when it came, so that it stays deduplicated.
        let came = tasks.iter().map(|task| task.created_at).max().map_or(event.time, |at| at.max(event.time));
        Ok(Self {
            key: (column(&event.source), column(&event.id)),
            at: came,
            body: to_json(&event)?,
            tasks: Arrival::all(tasks)?,
            outbox,
            fleet_revision,
        })
    }
}

/// A firing with its task's body.
pub(crate) struct Shot {
    /// The schedule's name as its column has it.
    pub(crate) schedule: String,
    pub(crate) slot: Timestamp,
    pub(crate) max_open: u32,
    pub(crate) buffer: bool,
    pub(crate) backfill: bool,
    pub(crate) task: Option<Arrival>,
}

impl Shot {
    /// Serialises firings; `column` makes text what its column holds.
    pub(crate) fn all(firings: Vec<Firing>, column: impl Fn(&str) -> String) -> Result<Vec<Self>, StoreError> {
        let shot = |Firing { schedule, slot, task, max_open, buffer, backfill }| {
            let task = task.map(Arrival::new).transpose()?;
            Ok(Self { schedule: column(&schedule), slot, max_open, buffer, backfill, task })
        };
        firings.into_iter().map(shot).collect()
    }

    /// Returns whether the overlap policy looks at its task later.
    pub(crate) fn is_watched(&self) -> bool {
        self.max_open < u32::MAX
    }

    /// The task that fired for its key before, if one did.
    pub(crate) fn fired_before(&self, accepted: Result<Accepted, Refused>) -> Result<Accepted, Unreadable> {
        accepted.map_err(|refused| Unreadable(format!("slot {} of {}: {refused}", self.slot, self.schedule)))
    }
}
