//! Asking a task to stop.

use std::sync::Arc;

use agentry_bus::Signal;
use agentry_core::event::output_topic;
use agentry_core::id::TaskId;
use agentry_core::outbox::messages_of_end;
use agentry_core::task::{ErrorCode, Outcome, TaskError, TaskRecord, TaskStatus};
use agentry_core::wake::Wake;
use agentry_store::{Cancelled, StoreError};

use crate::Intake;

/// What became of a request to cancel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelOutcome {
    /// It was not running and has ended now.
    Ended,
    /// It runs; its owner has been asked to stop.
    Requested,
    /// It had ended before, like this.
    AlreadyEnded(TaskStatus),
    /// There is no such task.
    Unknown,
}

impl Intake {
    /// Asks to cancel a task. One that nobody runs ends at once, with its callback and its event in the outbox.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn cancel(&self, id: TaskId) -> Result<CancelOutcome, StoreError> {
        let Some(record) = self.store().task(id).await? else { return Ok(CancelOutcome::Unknown) };
        let now = self.now();
        let error = TaskError::new(ErrorCode::Cancelled, "cancelled before it ran to its end");
        let outcome = Outcome::from_error(error);
        let publish = self.is_heard(&output_topic(&record.task.agent));
        let outbox = messages_of_end(&record.task, &outcome, now, publish, || self.new_outbox_id());
        let cancelled = self.store().cancel(id, now, outbox).await?;
        Ok(self.after(cancelled, record))
    }

    fn after(&self, cancelled: Cancelled, record: TaskRecord) -> CancelOutcome {
        let id = record.task.id;
        match cancelled {
            Cancelled::Ended => {
                self.bus().signal(Signal::Progress { task: id, status: TaskStatus::Cancelled });
                if record.task.session.is_some() {
                    // The next message of the conversation may go on.
                    self.bus().wake(vec![Wake { body: None, ..Wake::of(Arc::new(record.task)) }]);
                }
                CancelOutcome::Ended
            }
            Cancelled::Requested => {
                self.bus().signal(Signal::Cancel(id));
                CancelOutcome::Requested
            }
            Cancelled::AlreadyEnded(status) => CancelOutcome::AlreadyEnded(status),
            Cancelled::Unknown => CancelOutcome::Unknown,
        }
    }

    /// Whether an event on this topic has anyone to go to.
    #[must_use]
    pub fn is_heard(&self, topic: &str) -> bool {
        self.bus().is_heard_outside(topic) || self.fleet().has_subscribers(topic)
    }
}
