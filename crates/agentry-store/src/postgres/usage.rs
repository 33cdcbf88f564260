//! [`UsageStore`] on PostgreSQL: sums of ledger rows, by SQL, in whole nano-dollars.

use agentry_core::agent::{AgentName, ProviderKind};
use agentry_core::chat::Usage;
use agentry_core::id::{CallId, TaskId};
use agentry_core::money::{CallStatus, LedgerRow, NanoUsd};
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use tokio_postgres::Row;

use super::failure::Failure;
use super::rows::{SqlId, agent_at, collect, first, id_at, page_len, query, signed, time_at, u64_at};
use super::{PostgresStore, text};
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

fn usage_row(row: &Row) -> Result<UsageRow, Failure> {
    Ok(UsageRow {
        key: text::unescape(row.try_get(0)?).into_owned(),
        calls: u64_at(row, 1)?,
        failed_calls: u64_at(row, 2)?,
        unpriced_calls: u64_at(row, 3)?,
        input_tokens: u64_at(row, 4)?,
        cached_tokens: u64_at(row, 5)?,
        output_tokens: u64_at(row, 6)?,
        cost_nanos: NanoUsd(row.try_get(7)?),
    })
}

/// Columns of [`ledger_row`].
macro_rules! columns {
    () => {
        "call, agent, provider, model, status, input, cached, output, reasoning, cost, at, duration_us, cache_write,
         cache_write_1h, provider_call"
    };
}

fn ledger_row(task: TaskId, row: &Row) -> Result<LedgerRow, Failure> {
    let provider: &str = row.try_get(2)?;
    let known = ProviderKind::ALL.into_iter().find(|kind| kind.as_str() == provider);
    Ok(LedgerRow {
        call: CallId::from_bytes(id_at(row, 0)?),
        task,
        agent: agent_at(row, 1)?,
        provider: known.ok_or_else(|| Failure::Data(format!("there is no provider `{provider}`")))?,
        model: text::unescape(row.try_get(3)?).into_owned(),
        status: if row.try_get::<_, i16>(4)? == CallStatus::Completed as i16 {
            CallStatus::Completed
        } else {
            CallStatus::Failed
        },
        usage: Usage {
            input_tokens: u64_at(row, 5)?,
            cached_tokens: u64_at(row, 6)?,
            output_tokens: u64_at(row, 7)?,
            reasoning_tokens: u64_at(row, 8)?,
            cache_write_tokens: u64_at(row, 12)?,
            cache_write_1h_tokens: u64_at(row, 13)?,
        },
        provider_call: row.try_get::<_, Option<&str>>(14)?.map(|text| text::unescape(text).into()),
        cost: row.try_get::<_, Option<i64>>(9)?.map(NanoUsd),
        at: time_at(row, 10)?,
        duration_us: u64_at(row, 11)?,
    })
}

#[async_trait]
impl UsageStore for PostgresStore {
    async fn usage(&self, group: UsageGroup, from: Timestamp, to: Timestamp) -> Result<Vec<UsageRow>, StoreError> {
        self.db
            .retrying(|_| async move {
                collect(&query(&self.db.conn().await?, usage_sql(group), &[&from.0, &to.0]).await?, usage_row)
            })
            .await
    }

    async fn spent(&self, agent: &AgentName, from: Timestamp, to: Timestamp) -> Result<NanoUsd, StoreError> {
        let agent = &agent.as_str();
        self.db
            .retrying(|_| async move {
                let sql = "SELECT coalesce(sum(cost), 0)::bigint FROM ledger WHERE agent = $1 AND at >= $2 AND at < $3";
                let row = first(&self.db.conn().await?, sql, &[agent, &from.0, &to.0]).await?;
                let row = row.ok_or_else(|| Failure::Data("a sum has no row".to_owned()))?;
                Ok(NanoUsd(row.try_get(0)?))
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
        let limit = page_len(limit);
        let rows = signed(limit as u64 + 1);
        let (agent, at, call) =
            after.as_ref().map_or(("", 0, [0; 16]), |last| (last.agent.as_str(), last.at.0, *last.call.as_bytes()));
        let call = SqlId(call);
        let mut items = self
            .db
            .retrying(|_| async move {
                let sql = concat!(
                    "SELECT ",
                    columns!(),
                    ", task FROM ledger
                     WHERE agent >= $3 AND (agent, at, call) > ($3, $4, $5) AND at >= $1 AND at < $2
                     ORDER BY agent, at, call LIMIT $6"
                );
                let params: super::rows::Params<'_> = &[&from.0, &to.0, &agent, &at, &call, &rows];
                let rows = query(&self.db.conn().await?, sql, params).await?;
                collect(&rows, |row| ledger_row(TaskId::from_bytes(id_at(row, 15)?), row))
            })
            .await?;
        let more = items.len() > limit;
        items.truncate(limit);
        Ok(Page { items, more })
    }

    async fn ledger(&self, task: TaskId) -> Result<Vec<LedgerRow>, StoreError> {
        self.db
            .retrying(|_| async move {
                let sql = concat!("SELECT ", columns!(), " FROM ledger WHERE task = $1 ORDER BY at, call");
                let rows = query(&self.db.conn().await?, sql, &[&SqlId(*task.as_bytes())]).await?;
                collect(&rows, |row| ledger_row(task, row))
            })
            .await
    }
}
