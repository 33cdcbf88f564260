//! Cancelling tasks.

use std::sync::Arc;

use agentry_bus::Signal;
use agentry_core::event::output_topic;
use agentry_core::id::TaskId;
use agentry_core::outbox::{EndEvent, OutboxMessage, messages_of_end};
use agentry_core::task::{ErrorCode, Outcome, Task, TaskError, TaskRecord, TaskStatus};
use agentry_core::time::Timestamp;
use agentry_core::wake::Wake;
use agentry_store::{CancelResult, StoreError};

use crate::Intake;

/// The result of a cancel request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelOutcome {
    /// The task was not running and has ended.
    Ended,
    /// The task is running; its owner has been notified.
    Requested,
    /// The task had ended before, with this status.
    AlreadyEnded(TaskStatus),
    /// The task does not exist.
    Unknown,
}

impl Intake {
    /// Cancels a task. One that is not running ends at once, with its callback and its event in the outbox.
    ///
    /// # Errors
    /// Fails when the store is unavailable.
    pub async fn cancel(&self, id: TaskId) -> Result<CancelOutcome, StoreError> {
        let Some(record) = self.store().task(id).await? else { return Ok(CancelOutcome::Unknown) };
        let now = self.now();
        let error = TaskError::new(ErrorCode::Cancelled, "cancelled before it ran to its end");
        let outcome = Outcome::from_error(error);
        let outbox = self.messages_of_end(&record.task, &outcome, now);
        let cancelled = self.store().cancel(id, now, outbox).await?;
        Ok(self.after(cancelled, record))
    }

    fn after(&self, cancelled: CancelResult, record: TaskRecord) -> CancelOutcome {
        let id = record.task.id;
        match cancelled {
            CancelResult::Ended => {
                self.bus().signal(Signal::Progress { task: id, status: TaskStatus::Cancelled });
                if record.task.session.is_some() {
                    // The next message of the session may continue.
                    self.bus().wake(vec![Wake { body: None, ..Wake::of(Arc::new(record.task)) }]);
                }
                CancelOutcome::Ended
            }
            CancelResult::Requested => {
                self.bus().signal(Signal::Cancel(id));
                CancelOutcome::Requested
            }
            CancelResult::AlreadyEnded(status) => CancelOutcome::AlreadyEnded(status),
            CancelResult::Unknown => CancelOutcome::Unknown,
        }
    }

    /// Returns the messages that announce the end of a task. The event is omitted if nobody listens.
    #[must_use]
    pub fn messages_of_end(&self, task: &Task, outcome: &Outcome, at: Timestamp) -> Vec<OutboxMessage> {
        let topic = output_topic(&task.agent);
        let is_heard = self.bus().is_heard_outside(&topic) || self.fleet().has_subscribers(&topic);
        let event = if is_heard { EndEvent::Published } else { EndEvent::Omitted };
        messages_of_end(task, outcome, at, event, || self.new_outbox_id())
    }
}
