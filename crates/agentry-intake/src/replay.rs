//! Replays of dead letters.

use std::sync::Arc;

use agentry_core::agent::ExecutionMode;
use agentry_core::task::{Submission, Task, TaskSource};
use agentry_store::{DeadLetter, DeadLetterOrigin, StoreError};

use crate::{Intake, UnavailableAgent};

/// The result of a replay.
#[derive(Debug, Clone, PartialEq)]
pub enum Replayed {
    /// A new task.
    Task(Arc<Task>),
    /// The message, which is in the outbox again.
    Message,
}

/// The reason why a dead letter was not replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The task's agent accepts no tasks.
    #[error(transparent)]
    Agent(#[from] UnavailableAgent),
    /// The dead letter is not open.
    #[error("the dead letter is not open any more")]
    NotOpen,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Intake {
    /// Replays an open dead letter. A task is accepted anew with the (edited) input and with session, priority,
    /// timeout, budget, callback, trace and reply address of the old one; a message returns to the outbox.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub async fn replay(&self, letter: DeadLetter) -> Result<Replayed, ReplayError> {
        let id = letter.id;
        let task = match letter.origin {
            DeadLetterOrigin::Outbox => None,
            DeadLetterOrigin::Task => Some(Arc::new(self.task_again(letter).await?)),
        };
        self.deployment().settle().await?;
        if !self.store().replay_dead_letter(id, task.clone(), self.now()).await? {
            return Err(ReplayError::NotOpen);
        }
        let Some(task) = task else {
            self.bus().signal(agentry_bus::Signal::Outbox);
            return Ok(Replayed::Message);
        };
        self.wake([Arc::clone(&task)]);
        Ok(Replayed::Task(task))
    }

    async fn task_again(&self, letter: DeadLetter) -> Result<Task, ReplayError> {
        let old = self.store().task(letter.task).await?.map(|record| record.task);
        let fleet = self.fleet();
        let spec = self.deployment().live(&fleet, letter.agent.as_str())?;
        let trace = old.as_ref().map_or_else(|| self.new_trace(), Task::trace);
        let mut submission = Submission::new(letter.payload, TaskSource::Replay { of: letter.task }, trace);
        if let Some(old) = old {
            // An agent that is no longer continuous keeps no session.
            let session = old.session.as_ref().filter(|_| spec.mode == ExecutionMode::Continuous);
            submission.session = session.map(|session| session.key().to_owned());
            submission.timeout = old.timeout();
            submission.priority = old.priority;
            submission.callback_url = old.callback_url;
            submission.reply_to = old.reply_to;
            submission.budget = old.budget;
        }
        Ok(Task::new(spec, submission, self.new_task_id(), self.now()))
    }
}
