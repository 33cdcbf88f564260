//! [`UsageStore`] on SQLite: sums of ledger rows, by SQL.

use agentry_core::agent::AgentName;
use agentry_core::id::TaskId;
use agentry_core::money::{LedgerRow, NanoUsd};
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use super::SqliteStore;
use super::rows::value;
use crate::port::FORGOTTEN;
use crate::sql::columns::Columns;
use crate::sql::decode::{ledger_row, usage_row};
use crate::sql::limits::one_more;
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

/// Returns the id of a task; deleted tasks share one row.
fn task_key(id: Vec<u8>) -> String {
    <[u8; 16]>::try_from(id).map_or_else(|_| FORGOTTEN.to_owned(), |id| TaskId::from_bytes(id).to_string())
}

/// Columns of [`ledger_row`].
const COLUMNS: &str =
    "l.call, a.name, p.name, m.name, l.status, l.input, l.cached, l.output, l.reasoning, l.cost, l.at,
    l.duration_us, l.cache_write, l.cache_write_1h, l.provider_call";

#[async_trait]
impl UsageStore for SqliteStore {
    async fn usage(&self, group: UsageGroup, from: Timestamp, to: Timestamp) -> Result<Vec<UsageRow>, StoreError> {
        self.rows(query(group), (from.0, to.0), move |row| {
            let key = if group == UsageGroup::Task { task_key(row.get(0)?) } else { row.text(0)? };
            usage_row(row, key)
        })
        .await
    }

    async fn spent(&self, agent: &AgentName, from: Timestamp, to: Timestamp) -> Result<NanoUsd, StoreError> {
        let agent = agent.clone();
        self.read(move |conn| {
            let sql = "SELECT coalesce(sum(cost), 0) FROM ledger
                       WHERE agent = (SELECT id FROM names WHERE name = ?1) AND at >= ?2 AND at < ?3";
            Ok(NanoUsd(value(conn, sql, (agent.as_str(), from.0, to.0))?))
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
        let sql = format!(
            "SELECT {COLUMNS}, coalesce((SELECT t.id FROM tasks t WHERE t.seq = l.task), l.call)
             FROM names a CROSS JOIN ledger l ON l.agent = a.id AND l.at >= ?1 AND l.at < ?2
                 JOIN names p ON p.id = l.provider JOIN names m ON m.id = l.model
             WHERE a.name >= ?3 AND (a.name, l.at, l.call) > (?3, ?4, ?5) ORDER BY a.name, l.at, l.call LIMIT ?6"
        );
        let (agent, at, call) = after
            .map_or((String::new(), 0, [0; 16]), |last| (last.agent.to_string(), last.at.0, *last.call.as_bytes()));
        let params = (from.0, to.0, agent, at, call, one_more(limit));
        Ok(Page::cut(self.rows(sql, params, |row| ledger_row(row.id(15)?, row)).await?, limit))
    }

    async fn ledger(&self, task: TaskId) -> Result<Vec<LedgerRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS}
             FROM ledger l JOIN names a ON a.id = l.agent JOIN names p ON p.id = l.provider
                 JOIN names m ON m.id = l.model
             WHERE l.task = (SELECT seq FROM tasks WHERE id = ?1) ORDER BY l.at, l.call",
        );
        self.rows(sql, [*task.as_bytes()], move |row| ledger_row(task, row)).await
    }
}
