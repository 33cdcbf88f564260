//! Contract tests of retention: old data of closed items is deleted, open or recent items stay.

use std::sync::Arc;

use agentry_core::chat::Usage;
use agentry_core::id::{TaskId, WorkerId};
use agentry_core::journal::{JournalBody, JournalEntry, Scope};
use agentry_core::money::{LedgerRow, NanoUsd};
use agentry_core::session::SessionId;
use agentry_core::task::Task;
use agentry_core::time::Timestamp;

use super::build::{T0, accept, agent, at, claim, finish, ledger_row, message, take_session, task, turn, worker};
use crate::{Horizon, StateStore, UsageGroup};

/// Returns a task created `seconds` after [`T0`], with an id of that time.
fn made(n: u128, seconds: i64) -> Task {
    let created = at(seconds);
    let id = TaskId::from_parts(u64::try_from(created.0 / 1_000).unwrap(), n << 70);
    Task { id, ..task(created) }
}

/// Accepts, claims and ends a task, with a journal entry and a paid call.
async fn ended(store: &Arc<dyn StateStore>, by: WorkerId, task: Task, end: i64) -> TaskId {
    let id = accept(store, task).await;
    let lease = claim(store, by, id, at(end)).await.unwrap().lease;
    let mut write = finish(lease, at(end));
    let body = JournalBody::HandedBack { worker: by };
    write.journal.push(JournalEntry { seq: 0, attempt: 1, scope: Scope::MAIN, at: at(end), body });
    let usage = Usage { input_tokens: 1, output_tokens: 1, ..Usage::default() };
    write.ledger.push(LedgerRow { usage, cost: Some(NanoUsd(7)), at: at(end), ..ledger_row(id, "m") });
    store.advance(write.into()).await.unwrap();
    id
}

fn tasks(before: Timestamp) -> Horizon {
    Horizon { tasks: Some(before), ..Horizon::events(T0) }
}

/// A task is deleted with its journal when it was both created and ended before; its ledger rows stay for the sums, and
/// never appear under another task.
pub async fn ended_tasks_are_deleted_and_open_ones_stay(store: Arc<dyn StateStore>) {
    let by = worker(&store, T0).await;
    let old = ended(&store, by, made(1, 1), 2).await;
    let ended_late = ended(&store, by, made(2, 1), 50).await;
    let open = accept(&store, made(3, 1)).await;
    let young = ended(&store, by, made(4, 50), 50).await;
    assert_eq!(store.prune(Horizon::events(at(100))).await.unwrap(), 0, "nobody asked to forget tasks");
    assert_eq!(store.prune(tasks(at(10))).await.unwrap(), 1);
    assert_eq!(store.task(old).await.unwrap(), None);
    assert_eq!(store.journal(old, 0, 10).await.unwrap(), []);
    for kept in [ended_late, open, young] {
        assert!(store.task(kept).await.unwrap().is_some());
    }
    assert_eq!(store.journal(young, 0, 10).await.unwrap().len(), 1);
    let page = store.tasks(&crate::TaskFilter::default(), None, 10).await.unwrap();
    assert_eq!(page.items.len(), 3);
    assert_eq!(store.prune(tasks(at(10))).await.unwrap(), 0);
    assert_eq!(store.usage(UsageGroup::Agent, T0, at(100)).await.unwrap()[0].calls, 3, "what was paid stays");

    store.prune(tasks(at(100))).await.unwrap();
    let next = ended(&store, by, made(5, 200), 201).await;
    assert_eq!(store.ledger(next).await.unwrap().len(), 1, "no row of a forgotten task");
    assert!(store.task(open).await.unwrap().is_some());
}

/// Ledger rows are deleted by their own age.
pub async fn the_ledger_has_its_own_age_limit(store: Arc<dyn StateStore>) {
    let by = worker(&store, T0).await;
    ended(&store, by, made(1, 1), 2).await;
    ended(&store, by, made(2, 50), 50).await;
    assert_eq!(store.prune(Horizon { usage: Some(at(10)), ..Horizon::events(T0) }).await.unwrap(), 1);
    assert_eq!(store.usage(UsageGroup::Agent, T0, at(100)).await.unwrap()[0].calls, 1);
}

/// A session is deleted with its messages after long inactivity and with an empty inbox.
pub async fn idle_sessions_are_deleted(store: Arc<dyn StateStore>) {
    let by = worker(&store, T0).await;
    let (idle, waiting) = (SessionId::new(&agent(), "idle"), SessionId::new(&agent(), "waiting"));
    for session in [&idle, &waiting] {
        accept(&store, message(session, T0)).await;
        let (claimed, record) = take_session(&store, by, session, at(1)).await;
        store.advance(turn(claimed.lease, &record, at(1), &["hello"]).into()).await.unwrap();
    }
    accept(&store, message(&waiting, at(2))).await;
    assert_eq!(store.prune(tasks(at(1))).await.unwrap(), 0, "touched at 1 s");
    assert_eq!(store.prune(tasks(at(10))).await.unwrap(), 1);
    assert_eq!(store.session(&idle).await.unwrap(), None);
    assert_eq!(store.messages(&idle, 0, 10).await.unwrap(), []);
    assert_eq!(store.messages(&waiting, 0, 10).await.unwrap().len(), 1);
}
