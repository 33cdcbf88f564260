//! Writes with their JSON columns: serialised by the caller, not by the batch writer.

use std::sync::Arc;

use agentry_core::outbox::OutboxMessage;
use agentry_core::task::{Outcome, Task, TaskStatus};
use agentry_core::time::Timestamp;

use super::columns::{Unreadable, all_to_json, to_json};
use crate::{AcceptError, Acceptance, Advance, Firing, IncomingEvent, Step, StoreError};

/// A task with its encoded body.
pub(crate) struct EncodedTask {
    pub(crate) task: Arc<Task>,
    pub(crate) body: String,
}

impl EncodedTask {
    /// Encodes the body.
    pub(crate) fn new(task: Arc<Task>) -> Result<Self, Unreadable> {
        Ok(Self { body: to_json(&*task)?, task })
    }

    pub(crate) fn all(tasks: Vec<Arc<Task>>) -> Result<Vec<Self>, Unreadable> {
        tasks.into_iter().map(Self::new).collect()
    }
}

/// An event with the tasks that it starts.
pub(crate) struct EncodedEvent {
    /// Source and id as stored.
    pub(crate) key: (String, String),
    pub(crate) at: Timestamp,
    pub(crate) body: String,
    pub(crate) tasks: Vec<EncodedTask>,
    pub(crate) outbox: Option<OutboxMessage>,
    pub(crate) fleet_revision: u64,
}

impl EncodedEvent {
    /// Encodes an event; `column` converts text to the form of its column.
    pub(crate) fn new(incoming: IncomingEvent, column: impl Fn(&str) -> String) -> Result<Self, StoreError> {
        let IncomingEvent { event, tasks, outbox, fleet_revision } = incoming;
        // An event may have an old timestamp; it is deleted by its arrival, so that it stays deduplicated.
        let came = tasks.iter().map(|task| task.created_at).max().map_or(event.time, |at| at.max(event.time));
        Ok(Self {
            key: (column(&event.source), column(&event.id)),
            at: came,
            body: to_json(&event)?,
            tasks: EncodedTask::all(tasks)?,
            outbox,
            fleet_revision,
        })
    }
}

/// A firing with its encoded task.
pub(crate) struct EncodedFiring {
    /// Name of the schedule as stored.
    pub(crate) schedule: String,
    pub(crate) slot: Timestamp,
    pub(crate) max_open: u32,
    pub(crate) buffer: bool,
    pub(crate) backfill: bool,
    pub(crate) task: Option<EncodedTask>,
}

impl EncodedFiring {
    /// Encodes firings; `column` converts text to the form of its column.
    pub(crate) fn all(firings: Vec<Firing>, column: impl Fn(&str) -> String) -> Result<Vec<Self>, StoreError> {
        let firing = |Firing { schedule, slot, task, max_open, buffer, backfill }| {
            let task = task.map(EncodedTask::new).transpose()?;
            Ok(Self { schedule: column(&schedule), slot, max_open, buffer, backfill, task })
        };
        firings.into_iter().map(firing).collect()
    }

    /// Returns whether its task counts for the overlap policy later.
    pub(crate) fn is_watched(&self) -> bool {
        self.max_open < u32::MAX
    }

    /// Converts a refusal of its task, which is a defect, into an error with the slot.
    pub(crate) fn fired_before(&self, accepted: Result<Acceptance, AcceptError>) -> Result<Acceptance, Unreadable> {
        accepted.map_err(|refused| Unreadable(format!("slot {} of {}: {refused}", self.slot, self.schedule)))
    }
}

/// A write by the owner of a task.
pub(crate) struct EncodedWrite {
    pub(crate) advance: Arc<Advance>,
    pub(crate) outcome: Option<String>,
    pub(crate) summary: Option<String>,
    pub(crate) journal: Vec<String>,
    pub(crate) messages: Vec<String>,
    pub(crate) outbox: Vec<String>,
}

impl EncodedWrite {
    /// Encodes the JSON columns.
    ///
    /// # Errors
    /// A running task cannot end with this outcome.
    pub(crate) fn new(advance: Arc<Advance>) -> Result<Self, StoreError> {
        if let Step::Finish { outcome: Outcome { status, .. }, .. } = &advance.step
            && (!status.is_terminal() || !TaskStatus::Running.may_become(*status))
        {
            return Err(StoreError::Broken(format!("a running task cannot end as {status}")));
        }
        let outcome = match &advance.step {
            Step::Finish { outcome, .. } => Some(to_json(outcome)?),
            _ => None,
        };
        let session = advance.session.as_ref();
        Ok(Self {
            outcome,
            summary: session.and_then(|session| session.summary.as_ref()).map(to_json).transpose()?,
            journal: all_to_json(advance.journal.iter().map(|entry| &entry.body))?,
            messages: all_to_json(session.iter().flat_map(|session| &session.messages))?,
            outbox: all_to_json(&advance.outbox)?,
            advance,
        })
    }

    /// Returns the approximate number of rows that it writes.
    pub(crate) fn rows(&self) -> usize {
        2 + self.journal.len() + self.messages.len() + self.advance.ledger.len() + self.outbox.len()
    }
}
