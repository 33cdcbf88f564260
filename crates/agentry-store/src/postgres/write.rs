//! A write by an owner as columns: what it appends, as arrays for one statement.

use std::borrow::Cow;
use std::sync::Arc;

use agentry_core::id::TaskId;
use agentry_core::task::{Outcome, TaskStatus};
use agentry_core::time::Timestamp;

use super::failure::Failure;
use super::rows::{SqlId, signed, signed32, to_json};
use super::text;
use crate::{Advance, Step, StoreError};

/// A write with its JSON columns; serialised by the caller, not by the batch.
pub(super) struct Write {
    pub(super) advance: Arc<Advance>,
    pub(super) outcome: Option<String>,
    pub(super) summary: Option<String>,
    journal: Vec<String>,
    messages: Vec<String>,
    outbox: Vec<String>,
}

/// How a write is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The task goes on: in batches.
    Step,
    /// The task ends: in batches.
    End,
    /// The task and with it a turn of its session end: in batches.
    Turn,
    /// Anything else: a transaction of its own.
    Alone,
}

impl Write {
    /// Writes the JSON columns.
    ///
    /// # Errors
    /// When a running task cannot end as the outcome says.
    pub(super) fn new(advance: Arc<Advance>) -> Result<Self, StoreError> {
        if let Step::Finish { outcome: Outcome { status, .. }, .. } = &advance.step
            && (!status.is_terminal() || !TaskStatus::Running.may_become(*status))
        {
            return Err(StoreError::Broken(format!("a running task cannot end as {status}")));
        }
        Self::serialise(advance).map_err(|failure| failure.to_store_error())
    }

    fn serialise(advance: Arc<Advance>) -> Result<Self, Failure> {
        let outcome = match &advance.step {
            Step::Finish { outcome, .. } => Some(to_json(outcome)?),
            _ => None,
        };
        let session = advance.session.as_ref();
        Ok(Self {
            outcome,
            summary: session.and_then(|session| session.summary.as_ref()).map(to_json).transpose()?,
            journal: advance.journal.iter().map(|entry| to_json(&entry.body)).collect::<Result<_, _>>()?,
            messages: session.map_or(Ok(Vec::new()), |session| session.messages.iter().map(to_json).collect())?,
            outbox: advance.outbox.iter().map(to_json).collect::<Result<_, _>>()?,
            advance,
        })
    }

    /// How it is carried out.
    pub(super) fn shape(&self) -> Shape {
        let advance = &self.advance;
        match (&advance.step, &advance.session) {
            _ if !advance.clarifications.is_empty() => Shape::Alone,
            (Step::Continue, None) => Shape::Step,
            (Step::Finish { dead_letter: false, .. }, None) => Shape::End,
            (Step::Finish { dead_letter: false, .. }, Some(_)) => Shape::Turn,
            _ => Shape::Alone,
        }
    }

    /// About how many rows it writes.
    pub(super) fn rows(&self) -> usize {
        2 + self.journal.len() + self.messages.len() + self.advance.ledger.len() + self.outbox.len()
    }

    pub(super) fn task(&self) -> TaskId {
        self.advance.lease.task
    }

    pub(super) fn id(&self) -> SqlId {
        SqlId(*self.task().as_bytes())
    }

    /// The version of the agent as its column has it.
    pub(super) fn version(&self) -> Option<Cow<'_, str>> {
        self.advance.agent_version.as_deref().map(text::escape)
    }

    pub(super) fn at(&self) -> Timestamp {
        self.advance.at
    }

    pub(super) fn journal_bodies(&self) -> &[String] {
        &self.journal
    }
}

/// Entries for the journal.
#[derive(Default)]
pub(super) struct Journal<'a> {
    pub(super) task: Vec<SqlId>,
    pub(super) n: Vec<i32>,
    pub(super) attempt: Vec<i32>,
    pub(super) at: Vec<i64>,
    pub(super) scope: Vec<Cow<'a, str>>,
    pub(super) body: Vec<&'a str>,
}

/// Rows for the ledger.
#[derive(Default)]
pub(super) struct Ledger<'a> {
    pub(super) task: Vec<SqlId>,
    pub(super) call: Vec<SqlId>,
    pub(super) at: Vec<i64>,
    pub(super) input: Vec<i64>,
    pub(super) cached: Vec<i64>,
    pub(super) output: Vec<i64>,
    pub(super) reasoning: Vec<i64>,
    pub(super) cost: Vec<Option<i64>>,
    pub(super) duration_us: Vec<i64>,
    pub(super) status: Vec<i16>,
    pub(super) agent: Vec<&'a str>,
    pub(super) provider: Vec<&'a str>,
    pub(super) model: Vec<Cow<'a, str>>,
    pub(super) cache_write: Vec<i64>,
    pub(super) cache_write_1h: Vec<i64>,
    pub(super) provider_call: Vec<Option<Cow<'a, str>>>,
}

/// Messages for the outbox.
#[derive(Default)]
pub(super) struct Outbox<'a> {
    pub(super) id: Vec<SqlId>,
    pub(super) task: Vec<SqlId>,
    pub(super) ready_at: Vec<i64>,
    pub(super) message: Vec<&'a str>,
}

/// Messages for sessions.
#[derive(Default)]
pub(super) struct Messages<'a> {
    pub(super) task: Vec<SqlId>,
    pub(super) n: Vec<i64>,
    pub(super) body: Vec<&'a str>,
}

/// What writes append. Numbers `n` count within a write, from 1: the store knows what came before.
#[derive(Default)]
pub(super) struct Appended<'a> {
    pub(super) journal: Journal<'a>,
    pub(super) ledger: Ledger<'a>,
    pub(super) outbox: Outbox<'a>,
    pub(super) messages: Messages<'a>,
}

impl<'a> Appended<'a> {
    /// Of several writes.
    pub(super) fn of(writes: impl IntoIterator<Item = &'a Write>) -> Self {
        let mut all = Self::default();
        for write in writes {
            all.journal.add(write);
            all.ledger.add(write);
            all.outbox.add(write);
            all.messages.add(write);
        }
        all
    }
}

impl<'a> Journal<'a> {
    fn add(&mut self, write: &'a Write) {
        for (n, (entry, body)) in (1..).zip(write.advance.journal.iter().zip(&write.journal)) {
            self.task.push(write.id());
            self.n.push(n);
            self.attempt.push(signed32(entry.attempt));
            self.at.push(entry.at.0);
            self.scope.push(text::escape(entry.scope.as_str()));
            self.body.push(body);
        }
    }
}

impl<'a> Ledger<'a> {
    fn add(&mut self, write: &'a Write) {
        for row in &write.advance.ledger {
            self.task.push(write.id());
            self.call.push(SqlId(*row.call.as_bytes()));
            self.at.push(row.at.0);
            self.input.push(signed(row.usage.input_tokens));
            self.cached.push(signed(row.usage.cached_tokens));
            self.output.push(signed(row.usage.output_tokens));
            self.reasoning.push(signed(row.usage.reasoning_tokens));
            self.cost.push(row.cost.map(|cost| cost.0));
            self.duration_us.push(signed(row.duration_us));
            self.status.push(i16::from(row.status as u8));
            self.agent.push(row.agent.as_str());
            self.provider.push(row.provider.as_str());
            self.model.push(text::escape(&row.model));
            self.cache_write.push(signed(row.usage.cache_write_tokens));
            self.cache_write_1h.push(signed(row.usage.cache_write_1h_tokens));
            self.provider_call.push(row.provider_call.as_deref().map(text::escape));
        }
    }
}

impl<'a> Outbox<'a> {
    fn add(&mut self, write: &'a Write) {
        for (message, body) in write.advance.outbox.iter().zip(&write.outbox) {
            self.id.push(SqlId(*message.id.as_bytes()));
            self.task.push(write.id());
            self.ready_at.push(message.created_at.0);
            self.message.push(body);
        }
    }
}

impl<'a> Messages<'a> {
    fn add(&mut self, write: &'a Write) {
        for (n, body) in (1..).zip(&write.messages) {
            self.task.push(write.id());
            self.n.push(n);
            self.body.push(body);
        }
    }
}
