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

/// Execution of a write.
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

/// Defines rows as arrays, one per column, and their parameters in the order of the columns.
macro_rules! arrays {
    ($(#[$doc:meta])* $name:ident { $($column:ident: $type:ty),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(super) struct $name<'a> {
            $(pub(super) $column: Vec<$type>),+
        }

        impl $name<'_> {
            pub(super) fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
                vec![$(&self.$column),+]
            }
        }
    };
}

arrays! {
    /// Entries for the journal.
    Journal { task: SqlId, n: i32, attempt: i32, at: i64, scope: Cow<'a, str>, body: &'a str }
}
arrays! {
    /// Rows for the ledger.
    Ledger {
        task: SqlId, call: SqlId, at: i64, input: i64, cached: i64, output: i64, reasoning: i64, cost: Option<i64>,
        duration_us: i64, status: i16, agent: &'a str, provider: &'a str, model: Cow<'a, str>, cache_write: i64,
        cache_write_1h: i64, provider_call: Option<Cow<'a, str>>,
    }
}
arrays! {
    /// Messages for the outbox.
    Outbox { id: SqlId, task: SqlId, ready_at: i64, message: &'a str }
}
arrays! {
    /// Messages for sessions.
    Messages { task: SqlId, n: i64, body: &'a str }
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
        writes.into_iter().for_each(|write| all.add(write));
        all
    }

    fn add(&mut self, write: &'a EncodedWrite) {
        let Self { journal, ledger, outbox, messages } = self;
        for (n, (entry, body)) in (1..).zip(write.advance.journal.iter().zip(&write.journal)) {
            journal.task.push(write.id());
            journal.n.push(n);
            journal.attempt.push(signed32(entry.attempt));
            journal.at.push(entry.at.0);
            journal.scope.push(text::escape(entry.scope.as_str()));
            journal.body.push(body);
        }
        for row in &write.advance.ledger {
            ledger.task.push(write.id());
            ledger.call.push(SqlId(*row.call.as_bytes()));
            ledger.at.push(row.at.0);
            ledger.input.push(signed(row.usage.input_tokens));
            ledger.cached.push(signed(row.usage.cached_tokens));
            ledger.output.push(signed(row.usage.output_tokens));
            ledger.reasoning.push(signed(row.usage.reasoning_tokens));
            ledger.cost.push(row.cost.map(|cost| cost.0));
            ledger.duration_us.push(signed(row.duration_us));
            ledger.status.push(i16::from(row.status as u8));
            ledger.agent.push(row.agent.as_str());
            ledger.provider.push(row.provider.as_str());
            ledger.model.push(text::escape(&row.model));
            ledger.cache_write.push(signed(row.usage.cache_write_tokens));
            ledger.cache_write_1h.push(signed(row.usage.cache_write_1h_tokens));
            ledger.provider_call.push(row.provider_call.as_deref().map(text::escape));
        }
        for (message, body) in write.advance.outbox.iter().zip(&write.outbox) {
            outbox.id.push(SqlId(*message.id.as_bytes()));
            outbox.task.push(write.id());
            outbox.ready_at.push(message.created_at.0);
            outbox.message.push(body);
        }
        for (n, body) in (1..).zip(&write.messages) {
            messages.task.push(write.id());
            messages.n.push(n);
            messages.body.push(body);
        }
    }
}
