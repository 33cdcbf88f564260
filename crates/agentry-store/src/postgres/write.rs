//! A write by an owner as columns: the appended rows as arrays for one statement.

use std::borrow::Cow;

use agentry_core::id::TaskId;
use agentry_core::time::Timestamp;
use tokio_postgres::types::ToSql;

use super::rows::{SqlId, signed32};
use super::text;
use crate::Step;
use crate::sql::encode::EncodedWrite;
use crate::sql::limits::signed;

/// How a write is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The task continues: in batches.
    Step,
    /// The task ends: in batches.
    End,
    /// The task and with it a turn of its session end: in batches.
    Turn,
    /// Anything else: a transaction of its own.
    Alone,
}

impl EncodedWrite {
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

    pub(super) fn task(&self) -> TaskId {
        self.advance.lease.task
    }

    pub(super) fn id(&self) -> SqlId {
        SqlId(*self.task().as_bytes())
    }

    /// Returns the agent version as stored.
    pub(super) fn version(&self) -> Option<Cow<'_, str>> {
        self.advance.agent_version.as_deref().map(text::escape)
    }

    pub(super) fn at(&self) -> Timestamp {
        self.advance.at
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

/// Rows that writes append. Numbers `n` count within a write, from 1: the store knows the numbers before.
#[derive(Default)]
pub(super) struct AppendedRows<'a> {
    pub(super) journal: Journal<'a>,
    pub(super) ledger: Ledger<'a>,
    pub(super) outbox: Outbox<'a>,
    pub(super) messages: Messages<'a>,
}

impl<'a> AppendedRows<'a> {
    /// Collects the rows of several writes.
    pub(super) fn of(writes: impl IntoIterator<Item = &'a EncodedWrite>) -> Self {
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
    pub(super) fn params(&self) -> [&(dyn ToSql + Sync); 6] {
        [&self.task, &self.n, &self.attempt, &self.at, &self.scope, &self.body]
    }

    fn add(&mut self, write: &'a EncodedWrite) {
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
    #[rustfmt::skip]
    pub(super) fn params(&self) -> [&(dyn ToSql + Sync); 16] {
        [
            &self.task, &self.call, &self.at, &self.input, &self.cached, &self.output, &self.reasoning, &self.cost,
            &self.duration_us, &self.status, &self.agent, &self.provider, &self.model, &self.cache_write,
            &self.cache_write_1h, &self.provider_call,
        ]
    }

    fn add(&mut self, write: &'a EncodedWrite) {
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
    pub(super) fn params(&self) -> [&(dyn ToSql + Sync); 4] {
        [&self.id, &self.task, &self.ready_at, &self.message]
    }

    fn add(&mut self, write: &'a EncodedWrite) {
        for (message, body) in write.advance.outbox.iter().zip(&write.outbox) {
            self.id.push(SqlId(*message.id.as_bytes()));
            self.task.push(write.id());
            self.ready_at.push(message.created_at.0);
            self.message.push(body);
        }
    }
}

impl<'a> Messages<'a> {
    fn add(&mut self, write: &'a EncodedWrite) {
        for (n, body) in (1..).zip(&write.messages) {
            self.task.push(write.id());
            self.n.push(n);
            self.body.push(body);
        }
    }
}
