//! A write by the owner of a task with its JSON columns; serialised by the caller, not by whoever writes it.

use std::sync::Arc;

use agentry_core::task::{Outcome, TaskStatus};

use super::columns::{all_to_json, to_json};
use crate::{Advance, Step, StoreError};

/// A write with its JSON columns.
pub(crate) struct Write {
    pub(crate) advance: Arc<Advance>,
    pub(crate) outcome: Option<String>,
    pub(crate) summary: Option<String>,
    pub(crate) journal: Vec<String>,
    pub(crate) messages: Vec<String>,
    pub(crate) outbox: Vec<String>,
}

impl Write {
    /// Serialises the JSON columns.
    ///
    /// # Errors
    /// When a running task cannot end as the outcome says.
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

    /// About how many rows it writes.
    pub(crate) fn rows(&self) -> usize {
        2 + self.journal.len() + self.messages.len() + self.advance.ledger.len() + self.outbox.len()
    }
}
