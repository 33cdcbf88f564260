//! [`UsageStore`] on PostgreSQL: sums of ledger rows, by SQL, in whole nano-dollars.

use agentry_core::agent::AgentName;
use agentry_core::id::TaskId;
use agentry_core::money::{LedgerRow, NanoUsd};
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use super::PostgresStore;
use super::rows::SqlId;
use crate::sql::columns::Columns;
use crate::sql::decode::{ledger_row, usage_row};
use crate::{CallCursor, Page, StoreError, UsageGroup, UsageRow, UsageStore};

/// Sums over `[$1, $2)`. `sum` over `bigint` is a decimal; back in a `bigint` it fails rather than wraps.
fn usage_sql(group: UsageGroup) -> &'static str {
    macro_rules! sums {
        ($key:literal, $group:literal) => {
            sums!($key, $group, "key")
        };
        ($key:literal, $group:literal, $order:literal) => {
            concat!(
                "SELECT ",
                $key,
                " AS key, count(*), count(*) FILTER (WHERE status = 1), count(*) - count(cost), sum(input)::bigint,
                      sum(cached)::bigint, sum(output)::bigint, coalesce(sum(cost), 0)::bigint
                 FROM ledger WHERE at >= $1 AND at < $2 GROUP BY ",
                $group,
                " ORDER BY ",
                $order
            )
        };
    }
    match group {
        UsageGroup::Agent => sums!("agent", "agent"),
        UsageGroup::Model => sums!("provider || '/' || model", "provider, model"),
        UsageGroup::Day => sums!(
            "to_char(to_timestamp(at / 86400000000 * 86400) AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
            "at / 86400000000"
        ),
        UsageGroup::Task => sums!(
            "(SELECT CASE WHEN t.id IS NULL THEN '(forgotten)' ELSE t.id::text END
              FROM (VALUES (1)) one LEFT JOIN tasks t ON t.id = ledger.task)",
            "key",
            "8 DESC, key LIMIT 1000"
        ),
    }
}

/// Columns of [`ledger_row`].
macro_rules! columns {
    () => {
        "call, agent, provider, model, status, input, cached, output, reasoning, cost, at, duration_us, cache_write,
         cache_write_1h, provider_call"
    };
}

#[async_trait]
impl UsageStore for PostgresStore {
    async fn usage(&self, group: UsageGroup, from: Timestamp, to: Timestamp) -> Result<Vec<UsageRow>, StoreError> {
        self.db.rows(usage_sql(group), &[&from.0, &to.0], |row| usage_row(row, row.text(0)?)).await
    }

    async fn spent(&self, agent: &AgentName, from: Timestamp, to: Timestamp) -> Result<NanoUsd, StoreError> {
        let sql = "SELECT coalesce(sum(cost), 0)::bigint FROM ledger WHERE agent = $1 AND at >= $2 AND at < $3";
        self.db.only(sql, &[&agent.as_str(), &from.0, &to.0], |row| Ok(NanoUsd(row.number(0)?))).await
    }

    async fn calls(
        &self,
        from: Timestamp,
        to: Timestamp,
        after: Option<CallCursor>,
        limit: usize,
    ) -> Result<Page<LedgerRow>, StoreError> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            ", task FROM ledger
             WHERE agent >= $3 AND (agent, at, call) > ($3, $4, $5) AND at >= $1 AND at < $2
             ORDER BY agent, at, call LIMIT $6"
        );
        let (agent, at, call) =
            after.as_ref().map_or(("", 0, [0; 16]), |last| (last.agent.as_str(), last.at.0, *last.call.as_bytes()));
        self.db.page(sql, &[&from.0, &to.0, &agent, &at, &SqlId(call)], limit, |row| ledger_row(row.id(15)?, row)).await
    }

    async fn ledger(&self, task: TaskId) -> Result<Vec<LedgerRow>, StoreError> {
        let sql = concat!("SELECT ", columns!(), " FROM ledger WHERE task = $1 ORDER BY at, call");
        self.db.rows(sql, &[&SqlId(*task.as_bytes())], |row| ledger_row(task, row)).await
    }
}
