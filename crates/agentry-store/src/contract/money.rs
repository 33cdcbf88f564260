//! Contract tests of spending: sums are sums of rows.

use std::sync::Arc;

use agentry_core::chat::Usage;
use agentry_core::id::{TaskId, WorkerId};
use agentry_core::money::{CallStatus, LedgerRow, NanoUsd};
use agentry_core::task::TaskUsage;
use agentry_core::time::Timestamp;

use super::build::{T0, agent, at, ledger_row, running};
use crate::{Advance, CallCursor, StateStore, Step, UsageGroup};

fn row(task: TaskId, model: &str, cost: Option<i64>, at: Timestamp) -> LedgerRow {
    LedgerRow {
        status: if cost == Some(0) { CallStatus::Failed } else { CallStatus::Completed },
        usage: Usage {
            input_tokens: 10,
            output_tokens: 5,
            cached_tokens: 3,
            reasoning_tokens: 1,
            cache_write_tokens: 2,
            cache_write_1h_tokens: 4,
            ..Usage::default()
        },
        provider_call: cost.map(|cost| format!("gen-{cost}").into()),
        cost: cost.map(NanoUsd),
        at,
        duration_us: 7,
        ..ledger_row(task, model)
    }
}

/// Sums by task, agent, model and day are those of the rows; `to` is exclusive.
pub async fn sums_are_sums_of_rows(store: Arc<dyn StateStore>) {
    let task = running(&store, WorkerId::generate()).await.lease;
    let rows = vec![
        row(task.task, "a", Some(100), at(1)),
        row(task.task, "a", Some(0), at(2)),
        row(task.task, "b", None, at(86_400)),
    ];
    let mut write = Advance::new(task, at(3), Step::Continue);
    write.ledger.clone_from(&rows);
    store.advance(write.into()).await.unwrap();
    assert_eq!(store.ledger(task.task).await.unwrap(), rows);
    let spent =
        TaskUsage { llm_calls: 3, input_tokens: 30, output_tokens: 15, cost_nanos: NanoUsd(100), unpriced_calls: 1 };
    assert_eq!(store.task(task.task).await.unwrap().unwrap().spent, spent);
    assert_eq!(store.spent(&agent(), at(1), at(2)).await.unwrap(), NanoUsd(100));
    assert_eq!(store.spent(&agent(), at(2), at(3)).await.unwrap(), NanoUsd(0));
    let sums = |group| store.usage(group, T0, at(90_000));
    let keys = |rows: &[crate::UsageRow]| rows.iter().map(|row| (row.key.clone(), row.calls)).collect::<Vec<_>>();
    assert_eq!(keys(&sums(UsageGroup::Model).await.unwrap()), [("openai/a".to_owned(), 2), ("openai/b".to_owned(), 1)]);
    assert_eq!(
        keys(&sums(UsageGroup::Day).await.unwrap()),
        [("2026-01-01".to_owned(), 2), ("2026-01-02".to_owned(), 1)]
    );
    let all = sums(UsageGroup::Agent).await.unwrap().remove(0);
    assert_eq!((all.key.as_str(), all.calls, all.failed_calls, all.unpriced_calls), ("writer", 3, 1, 1));
    assert_eq!((all.input_tokens, all.cached_tokens, all.output_tokens, all.cost_nanos.0), (30, 9, 15, 100));
    let by_task = sums(UsageGroup::Task).await.unwrap();
    assert_eq!(keys(&by_task), [(task.task.to_string(), 3)]);
    assert_eq!(store.usage(UsageGroup::Day, T0, at(1)).await.unwrap(), []);
}

/// Pages of calls join without gaps, in the same order on every backend.
pub async fn calls_are_listed_in_pages(store: Arc<dyn StateStore>) {
    let lease = running(&store, WorkerId::generate()).await.lease;
    let mut rows: Vec<LedgerRow> = (0..7).map(|n| row(lease.task, "a", Some(n), at(n / 3))).collect();
    let mut write = Advance::new(lease, at(3), Step::Continue);
    write.ledger.clone_from(&rows);
    store.advance(write.into()).await.unwrap();
    rows.retain(|row| row.at < at(2));
    rows.sort_by_key(|row| (row.at, row.call));
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.calls(T0, at(2), after, 4).await.unwrap();
        seen.extend(page.items);
        let Some(last) = seen.last().filter(|_| page.more) else { break };
        after = Some(CallCursor { agent: last.agent.clone(), at: last.at, call: last.call });
    }
    assert_eq!(seen, rows);
}

/// The same call written twice is one row.
pub async fn a_call_is_counted_once(store: Arc<dyn StateStore>) {
    let lease = running(&store, WorkerId::generate()).await.lease;
    let paid = row(lease.task, "a", Some(100), at(1));
    for _ in 0..2 {
        let mut write = Advance::new(lease, at(1), Step::Continue);
        write.ledger.push(paid.clone());
        store.advance(write.into()).await.unwrap();
    }
    assert_eq!(store.ledger(lease.task).await.unwrap(), [paid]);
}
