//! Pending writes of a run: journal entries, ledger rows and questions that the store has not confirmed yet.
//!
//! A run's future may be dropped at any await: its task is cancelled, its time is up, a step of its plan takes too
//! long. Its rows must not be lost with it. They stay here until the store has confirmed them: a write whose future is
//! dropped returns its rows, and they leave with the run's next write, at the latest the one that ends the run. The
//! store may have executed the dropped write nevertheless; ledger rows, questions and messages are deduplicated by
//! their ids, and an entry that is in the journal twice is replayed once.

use std::sync::{Arc, Mutex};

use agentry_core::agent::AgentSpec;
use agentry_core::clarification::Clarification;
use agentry_core::journal::JournalEntry;
use agentry_core::money::LedgerRow;
use agentry_core::outbox::OutboxMessage;
use agentry_core::time::Timestamp;
use agentry_store::{Advance, AdvanceResult, Lease, Step};

use crate::context::{Context, lock};
use crate::run::Stop;
use crate::write::persist;

/// The journal of a run, and its pending writes.
pub(crate) struct Journal {
    lease: Lease,
    version: Box<str>,
    unwritten: Mutex<Unwritten>,
}

#[derive(Default)]
struct Unwritten {
    version_written: bool,
    entries: Vec<JournalEntry>,
    ledger: Vec<LedgerRow>,
    clarifications: Vec<Clarification>,
    outbox: Vec<OutboxMessage>,
}

impl Journal {
    /// Returns the journal of a run under this lease, on this version of an agent.
    pub fn new(lease: Lease, spec: &AgentSpec) -> Self {
        Self { lease, version: spec.version.clone(), unwritten: Mutex::default() }
    }

    /// Adds entries and ledger rows to the next write.
    pub fn add(&self, entries: impl IntoIterator<Item = JournalEntry>, ledger: Vec<LedgerRow>) {
        let mut unwritten = lock(&self.unwritten);
        unwritten.entries.extend(entries);
        unwritten.ledger.extend(ledger);
    }

    /// Adds questions, and the messages that ask them, to the next write.
    pub fn ask(&self, clarifications: Vec<Clarification>, outbox: Vec<OutboxMessage>) {
        let mut unwritten = lock(&self.unwritten);
        unwritten.clarifications.extend(clarifications);
        unwritten.outbox.extend(outbox);
    }

    /// Returns a write with all pending rows. Questions that were never asked are dropped at the end of the task or its
    /// attempt: nobody waits for the answer.
    pub fn take(&self, at: Timestamp, step: Step) -> Advance {
        let mut unwritten = lock(&self.unwritten);
        let Unwritten { entries, ledger, clarifications, outbox, .. } = &mut *unwritten;
        let mut advance = Advance::new(self.lease, at, step);
        advance.journal = std::mem::take(entries);
        advance.ledger = std::mem::take(ledger);
        advance.clarifications = std::mem::take(clarifications);
        advance.outbox = std::mem::take(outbox);
        if matches!(advance.step, Step::Finish { .. } | Step::Retry { .. }) {
            advance.clarifications.clear();
            advance.outbox.clear();
        }
        if !unwritten.version_written {
            unwritten.version_written = true;
            advance.agent_version = Some(self.version.clone());
        }
        advance
    }

    /// Writes all pending rows while the task continues. Durable when it returns; if the future is dropped before, the
    /// rows stay pending.
    pub async fn flush(&self, ctx: &Context) -> Result<AdvanceResult, Stop> {
        let write = Unconfirmed { journal: self, advance: Some(Arc::new(self.take(ctx.now(), Step::Continue))) };
        write.persist(ctx).await
    }

    fn give_back(&self, advance: Advance) {
        let mut unwritten = lock(&self.unwritten);
        unwritten.entries.splice(0..0, advance.journal);
        unwritten.ledger.splice(0..0, advance.ledger);
        unwritten.clarifications.splice(0..0, advance.clarifications);
        unwritten.outbox.splice(0..0, advance.outbox);
        unwritten.version_written &= advance.agent_version.is_none();
    }
}

/// An unconfirmed write; when dropped, it returns its rows to the journal.
struct Unconfirmed<'j> {
    journal: &'j Journal,
    advance: Option<Arc<Advance>>,
}

impl Unconfirmed<'_> {
    async fn persist(mut self, ctx: &Context) -> Result<AdvanceResult, Stop> {
        let Some(advance) = self.advance.clone() else { return Ok(AdvanceResult::default()) };
        let end = persist(ctx, advance).await;
        let advance = self.advance.take();
        if let (Err(Stop::Broken(_)), Some(advance)) = (&end, advance) {
            // The write contains something that can never be written. The ledger rows of paid calls are kept for the
            // next one.
            let ledger = Arc::unwrap_or_clone(advance).ledger;
            self.journal.add([], ledger);
        }
        end
    }
}

impl Drop for Unconfirmed<'_> {
    fn drop(&mut self) {
        if let Some(advance) = self.advance.take() {
            self.journal.give_back(Arc::unwrap_or_clone(advance));
        }
    }
}

#[cfg(test)]
mod tests {
    use agentry_core::id::{ClarificationId, TaskId, WorkerId};
    use agentry_core::journal::{JournalBody, Scope};
    use agentry_core::task::Outcome;

    use super::*;

    fn journal() -> Journal {
        let lease = Lease { task: TaskId::from_parts(1, 1), epoch: 1, worker: WorkerId::from_parts(1, 2) };
        Journal { lease, version: "v1".into(), unwritten: Mutex::default() }
    }

    fn entry(seq: u32) -> JournalEntry {
        let body = JournalBody::HandedBack { worker: WorkerId::from_parts(1, 2) };
        JournalEntry { seq, attempt: 1, scope: Scope::MAIN, at: Timestamp(0), body }
    }

    fn numbers(advance: &Advance) -> Vec<u32> {
        advance.journal.iter().map(|entry| entry.seq).collect()
    }

    #[test]
    fn a_dropped_write_gives_its_rows_to_the_next_one() {
        let journal = journal();
        journal.add([entry(1)], Vec::new());
        let dropped = journal.take(Timestamp(0), Step::Continue);
        assert_eq!((numbers(&dropped), dropped.agent_version.as_deref()), (vec![1], Some("v1")));
        journal.add([entry(2)], Vec::new());
        drop(Unconfirmed { journal: &journal, advance: Some(Arc::new(dropped)) });
        let next = journal.take(Timestamp(0), Step::Continue);
        assert_eq!((numbers(&next), next.agent_version.as_deref()), (vec![1, 2], Some("v1")), "in their order");
        let rest = journal.take(Timestamp(0), Step::Continue);
        assert!(rest.journal.is_empty() && rest.agent_version.is_none(), "what was taken is not written again");
    }

    #[test]
    fn a_question_that_was_never_asked_ends_with_its_task() {
        let question = Clarification {
            id: ClarificationId::from_parts(1, 1),
            task: TaskId::from_parts(1, 1),
            agent: agentry_core::agent::AgentName::new("a").unwrap(),
            scope: "main".to_owned(),
            question: "?".to_owned(),
            options: Vec::new(),
            asked_at: Timestamp(0),
            expires_at: Timestamp(1),
            default: None,
            reply_to: None,
            resolution: None,
        };
        let journal = journal();
        journal.ask(vec![question.clone()], Vec::new());
        assert_eq!(journal.take(Timestamp(0), Step::Release).clarifications.len(), 1);
        journal.ask(vec![question], Vec::new());
        let outcome = Outcome::completed(serde_json::Value::Null);
        let end = journal.take(Timestamp(0), Step::Finish { outcome, dead_letter: false });
        assert!(end.clarifications.is_empty());
    }
}
