//! Money: ledger rows are the calls that the provider knows, both ways.
//!
//! One exception: a call that was in flight when its process was killed. Its answer was lost with the process, so its
//! row may have no tokens (written by the worker that resumed the task), or be missing (the task was cancelled before
//! it was resumed).

use std::collections::HashMap;

use agentry_core::agent::ProviderKind;
use agentry_core::chat::Usage;
use agentry_core::id::CallId;
use agentry_core::money::{CallStatus, LedgerRow};
use agentry_core::prices::PriceTable;
use agentry_core::time::Timestamp;
use agentry_store::UsageGroup;
use agentry_testkit::CallEnd;

use crate::fleet::MODEL;
use crate::records::Records;
use crate::stage::{START, Stage};

pub fn rows_are_the_calls_of_the_provider(stage: &Stage, records: &Records) {
    let killed = stage.killed_calls();
    let mut rows: HashMap<CallId, &LedgerRow> = HashMap::new();
    for record in &records.tasks {
        for row in records.ledger(record.task.id) {
            assert!(rows.insert(row.call, row).is_none(), "[ledger] call {} has one row", row.call);
        }
    }
    let prices = PriceTable::builtin();
    for call in stage.model.calls() {
        let row = rows.remove(&call.id);
        if killed.contains(&call.id) && row.is_none_or(is_abandoned) {
            continue;
        }
        let Some(row) = row else {
            panic!("[ledger] the provider's call {} has no row: {:?}, {}", call.id, call.end, records.story_of(call.id))
        };
        let (status, usage) = match call.end {
            CallEnd::Answered(usage) => (CallStatus::Completed, usage),
            CallEnd::Failed(usage) => (CallStatus::Failed, usage),
            CallEnd::Abandoned => (CallStatus::Failed, Usage::default()),
            CallEnd::InFlight => panic!("[ledger] a call of the provider never ended"),
        };
        assert_eq!(
            (row.status, row.usage),
            (status, usage),
            "[ledger] task {}, call {}: {}",
            row.task,
            call.id,
            records.story(row.task)
        );
        let cost = prices.cost(ProviderKind::Openai, MODEL, &usage, START);
        assert!(row.cost == cost || is_abandoned(row), "[ledger] task {}, call {}: {:?}", row.task, call.id, row.cost);
    }
    // The remaining rows were journaled and never left the process.
    for row in rows.values() {
        assert!(is_abandoned(row), "[ledger] the provider knows nothing of {row:?}");
    }
}

/// Returns whether the row is that of an abandoned call, with unknown tokens.
fn is_abandoned(row: &LedgerRow) -> bool {
    row.status == CallStatus::Failed && row.usage == Usage::default()
}

pub async fn sums_equal_rows(stage: &Stage, records: &Records) {
    let mut rows = 0_u64;
    for record in &records.tasks {
        let count = records.ledger(record.task.id).len() as u64;
        assert_eq!(u64::from(record.spent.llm_calls), count, "[ledger] spent counts the rows of {}", record.task.id);
        rows += count;
    }
    let sums = stage.store.usage(UsageGroup::Agent, Timestamp(0), Timestamp(i64::MAX)).await.expect("usage");
    assert_eq!(sums.iter().map(|sum| sum.calls).sum::<u64>(), rows, "[ledger] sums are taken from rows");
}
