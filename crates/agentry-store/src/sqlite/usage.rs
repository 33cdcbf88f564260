//! [`UsageStore`] on SQLite: sums of ledger rows, by SQL.

use agentry_core::agent::{AgentName, ProviderKind};
use agentry_core::chat::Usage;
use agentry_core::id::{CallId, TaskId};
use agentry_core::money::{CallStatus, LedgerRow, NanoUsd};
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use rusqlite::{Connection, Row};

use super::failure::Failure;
use super::rows::{collect, page_len, signed};
use super::{SqliteStore, agents};
use crate::port::FORGOTTEN;
use crate::{CallCursor, Page, StoreError, UsageGroup, UsageRow, UsageStore};

/// Sums the ledger of every agent over `[?1, ?2)`: the index by agent and time serves all three groups.
fn query(group: UsageGroup) -> String {
    let key = match group {
        UsageGroup::Agent => "a.name",
        UsageGroup::Model => "p.name || '/' || m.name",
        UsageGroup::Day => "strftime('%Y-%m-%d', l.at / 1000000, 'unixepoch')",
        UsageGroup::Task => "coalesce((SELECT t.id FROM tasks t WHERE t.seq = l.task), x'')",
    };
    let order = if group == UsageGroup::Task { "8 DESC, key LIMIT 1000" } else { "key" };
    format!(
        "SELECT {key} AS key, count(*), sum(l.status = 1), count(*) - count(l.cost), sum(l.input), sum(l.cached),
             sum(l.output), coalesce(sum(l.cost), 0)
         FROM names a CROSS JOIN ledger l ON l.agent = a.id AND l.at >= ?1 AND l.at < ?2
             JOIN names p ON p.id = l.provider JOIN names m ON m.id = l.model
         GROUP BY key ORDER BY {order}"
    )
}

fn usage(conn: &Connection, group: UsageGroup, from: Timestamp, to: Timestamp) -> Result<Vec<UsageRow>, Failure> {
    collect(&mut *conn.prepare_cached(&query(group))?, (from.0, to.0), |row| {
        Ok(UsageRow {
            key: match group {
                UsageGroup::Task => task_key(row.get(0)?),
                _ => row.get(0)?,
            },
            calls: row.get(1)?,
            failed_calls: row.get(2)?,
            unpriced_calls: row.get(3)?,
            input_tokens: row.get(4)?,
            cached_tokens: row.get(5)?,
            output_tokens: row.get(6)?,
            cost_nanos: NanoUsd(row.get(7)?),
        })
    })
}

/// The id of a task; those that are forgotten are one row.
fn task_key(id: Vec<u8>) -> String {
    <[u8; 16]>::try_from(id).map_or_else(|_| FORGOTTEN.to_owned(), |id| TaskId::from_bytes(id).to_string())
}

/// Columns of [`ledger_row`].
const COLUMNS: &str =
    "l.call, a.name, p.name, m.name, l.status, l.input, l.cached, l.output, l.reasoning, l.cost, l.at,
    l.duration_us, l.cache_write, l.cache_write_1h, l.provider_call";

fn calls(
    conn: &Connection,
    (from, to): (Timestamp, Timestamp),
    after: Option<&CallCursor>,
    limit: usize,
) -> Result<Page<LedgerRow>, Failure> {
    let limit = page_len(limit);
    let mut statement = conn.prepare_cached(&format!(
        "SELECT {COLUMNS}, coalesce((SELECT t.id FROM tasks t WHERE t.seq = l.task), l.call)
         FROM names a CROSS JOIN ledger l ON l.agent = a.id AND l.at >= ?1 AND l.at < ?2
             JOIN names p ON p.id = l.provider JOIN names m ON m.id = l.model
         WHERE a.name >= ?3 AND (a.name, l.at, l.call) > (?3, ?4, ?5) ORDER BY a.name, l.at, l.call LIMIT ?6"
    ))?;
    let (agent, at, call) =
        after.map_or(("", 0, [0; 16]), |last| (last.agent.as_str(), last.at.0, *last.call.as_bytes()));
    let mut items = collect(&mut statement, (from.0, to.0, agent, at, call, signed(limit as u64 + 1)), |row| {
        ledger_row(TaskId::from_bytes(row.get(15)?), row)
    })?;
    let more = items.len() > limit;
    items.truncate(limit);
    Ok(Page { items, more })
}

fn ledger_row(task: TaskId, row: &Row<'_>) -> Result<LedgerRow, Failure> {
    let provider: String = row.get(2)?;
    let known = ProviderKind::ALL.into_iter().find(|kind| kind.as_str() == provider);
    Ok(LedgerRow {
        call: CallId::from_bytes(row.get(0)?),
        task,
        agent: agents::name_at(row, 1)?,
        provider: known.ok_or_else(|| Failure::Data(format!("there is no provider `{provider}`")))?,
        model: row.get(3)?,
        status: if row.get::<_, u8>(4)? == CallStatus::Completed as u8 {
            CallStatus::Completed
        } else {
            CallStatus::Failed
        },
        usage: Usage {
            input_tokens: row.get(5)?,
            cached_tokens: row.get(6)?,
            output_tokens: row.get(7)?,
            reasoning_tokens: row.get(8)?,
            cache_write_tokens: row.get(12)?,
            cache_write_1h_tokens: row.get(13)?,
        },
        provider_call: row.get::<_, Option<String>>(14)?.map(Into::into),
        cost: row.get::<_, Option<i64>>(9)?.map(NanoUsd),
        at: Timestamp(row.get(10)?),
        duration_us: row.get(11)?,
    })
}

#[async_trait]
impl UsageStore for SqliteStore {
    async fn usage(&self, group: UsageGroup, from: Timestamp, to: Timestamp) -> Result<Vec<UsageRow>, StoreError> {
        self.read(move |conn| usage(conn, group, from, to)).await
    }

    async fn spent(&self, agent: &AgentName, from: Timestamp, to: Timestamp) -> Result<NanoUsd, StoreError> {
        let agent = agent.clone();
        self.read(move |conn| {
            let sum = conn
                .prepare_cached(
                    "SELECT coalesce(sum(cost), 0) FROM ledger
                     WHERE agent = (SELECT id FROM names WHERE name = ?1) AND at >= ?2 AND at < ?3",
                )?
                .query_row((agent.as_str(), from.0, to.0), |row| row.get(0))?;
            Ok(NanoUsd(sum))
        })
        .await
    }

    async fn calls(
        &self,
        from: Timestamp,
        to: Timestamp,
        after: Option<CallCursor>,
        limit: usize,
    ) -> Result<Page<LedgerRow>, StoreError> {
        self.read(move |conn| calls(conn, (from, to), after.as_ref(), limit)).await
    }

    async fn ledger(&self, task: TaskId) -> Result<Vec<LedgerRow>, StoreError> {
        self.read(move |conn| {
            let mut statement = conn.prepare_cached(&format!(
                "SELECT {COLUMNS}
                 FROM ledger l JOIN names a ON a.id = l.agent JOIN names p ON p.id = l.provider
                     JOIN names m ON m.id = l.model
                 WHERE l.task = (SELECT seq FROM tasks WHERE id = ?1) ORDER BY l.at, l.call",
            ))?;
            collect(&mut statement, [task.as_bytes()], |row| ledger_row(task, row))
        })
        .await
    }
}
