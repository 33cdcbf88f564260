//! Comparison of two stores through the port.

use std::collections::BTreeSet;
use std::sync::Arc;

use agentry_core::agent::{ExecutionMode, ModeSet};
use agentry_core::id::WorkerId;
use agentry_core::task::TaskStatus;
use agentry_core::time::Timestamp;
use agentry_store::contract::build::{T0, agent, at};
use agentry_store::{ClaimRequest, SessionClaim, StateStore, TaskFilter, UsageGroup};

use super::fill::Filled;

/// A limit beyond everything in a test.
const ALL: usize = 1_000;
/// A time after everything in a test.
const END: Timestamp = Timestamp(T0.0 + 10 * 86_400 * 1_000_000);

type Store = Arc<dyn StateStore>;

/// Compares every list and every read.
pub async fn same_state(one: &Store, two: &Store, filled: &Filled) {
    same_tasks(one, two, filled).await;
    same_conversations(one, two).await;
    same_rest(one, two, filled).await;
    assert_eq!(two.keys().await.unwrap(), one.keys().await.unwrap());
    assert_eq!(two.audit_log(None, ALL).await.unwrap(), one.audit_log(None, ALL).await.unwrap());
}

/// Compares tasks by id: SQLite lists them by arrival and PostgreSQL by id.
async fn same_tasks(one: &Store, two: &Store, filled: &Filled) {
    let mut filters = vec![TaskFilter::default(), TaskFilter { agent: Some(agent()), ..Default::default() }];
    filters.extend(TaskStatus::ALL.map(|status| TaskFilter { status: Some(status), ..Default::default() }));
    filters.push(TaskFilter { mode: Some(ExecutionMode::Scheduled), ..Default::default() });
    for session in &filled.sessions {
        filters.push(TaskFilter { session: Some(session.clone()), ..Default::default() });
    }
    for filter in filters {
        let mut tasks = one.tasks(&filter, None, ALL).await.unwrap().items;
        tasks.sort_by_key(|record| std::cmp::Reverse(record.task.id));
        assert_eq!(two.tasks(&filter, None, ALL).await.unwrap().items, tasks, "{filter:?}");
    }
    for record in one.tasks(&TaskFilter::default(), None, ALL).await.unwrap().items {
        let id = record.task.id;
        assert_eq!(two.task(id).await.unwrap(), Some(record));
        assert_eq!(two.journal(id, 0, ALL).await.unwrap(), one.journal(id, 0, ALL).await.unwrap());
        assert_eq!(two.ledger(id).await.unwrap(), one.ledger(id).await.unwrap());
    }
    assert_eq!(two.counts().await.unwrap(), one.counts().await.unwrap());
    assert_eq!(two.next_due(at(100)).await.unwrap(), one.next_due(at(100)).await.unwrap());
}

async fn same_conversations(one: &Store, two: &Store) {
    let sessions = one.sessions(None, None, ALL).await.unwrap();
    assert_eq!(two.sessions(None, None, ALL).await.unwrap(), sessions);
    let last = sessions.items[0].record.id.clone();
    let page = one.sessions(Some(&agent()), Some(&last), 1).await.unwrap();
    assert_eq!(two.sessions(Some(&agent()), Some(&last), 1).await.unwrap(), page);
    for view in sessions.items {
        let id = &view.record.id;
        let messages = one.messages(id, 0, ALL).await.unwrap();
        assert_eq!(messages.len() as u64, view.record.messages);
        assert_eq!(two.messages(id, 0, ALL).await.unwrap(), messages);
        assert_eq!(two.session(id).await.unwrap(), Some(view));
    }
    let due = |ids: Vec<_>| ids.into_iter().collect::<BTreeSet<_>>();
    let expected = due(one.due_sessions(at(100), ALL).await.unwrap());
    assert_eq!(due(two.due_sessions(at(100), ALL).await.unwrap()), expected);
    for only_open in [true, false] {
        let asked = one.clarifications(only_open, None, ALL).await.unwrap();
        assert_eq!(two.clarifications(only_open, None, ALL).await.unwrap(), asked);
    }
    let expired = one.expired_clarifications(END, ALL).await.unwrap();
    assert_eq!(two.expired_clarifications(END, ALL).await.unwrap(), expired);
}

async fn same_rest(one: &Store, two: &Store, filled: &Filled) {
    for group in [UsageGroup::Agent, UsageGroup::Model, UsageGroup::Day] {
        let sums = one.usage(group, T0, END).await.unwrap();
        assert!(!sums.is_empty());
        assert_eq!(two.usage(group, T0, END).await.unwrap(), sums);
    }
    assert_eq!(two.spent(&agent(), T0, END).await.unwrap(), one.spent(&agent(), T0, END).await.unwrap());
    let schedules = one.schedules(None, ALL).await.unwrap().items;
    assert_eq!(two.schedules(None, ALL).await.unwrap().items, schedules);
    assert_eq!(two.schedules_since(0).await.unwrap().changed.len(), schedules.len(), "a scheduler finds them");
    for schedule in &schedules {
        let slots = one.slots(&schedule.name, ALL).await.unwrap();
        assert_eq!(two.slots(&schedule.name, ALL).await.unwrap(), slots);
    }
    for only_open in [true, false] {
        let letters = one.dead_letters(only_open, None, ALL).await.unwrap();
        assert!(!letters.items.is_empty());
        assert_eq!(two.dead_letters(only_open, None, ALL).await.unwrap(), letters);
    }
    assert_eq!(two.recent_events(ALL).await.unwrap(), one.recent_events(ALL).await.unwrap());
    assert_eq!(two.agent_statuses().await.unwrap(), one.agent_statuses().await.unwrap());
    let fleet = one.fleet_since(0).await.unwrap();
    assert!(fleet.rows.iter().any(|row| row.removed));
    assert_eq!(two.fleet_since(0).await.unwrap(), fleet);
    assert_eq!(two.fleet_revision().await.unwrap(), fleet.revision);
    let kept = two.version(&agent(), &filled.spec.version).await.unwrap();
    assert_eq!(kept.as_ref(), Some(&filled.spec));
}

/// Claims everything from both stores and compares it, in order.
pub async fn same_claims(one: &Store, two: &Store, worker: WorkerId, now: Timestamp) {
    let claimed = claims(one, worker, now).await;
    assert!(claimed.len() > 10, "{} tasks tell something about order", claimed.len());
    assert_eq!(claims(two, worker, now).await, claimed);
    let mut sessions = one.due_sessions(now, ALL).await.unwrap();
    sessions.sort();
    assert!(!sessions.is_empty());
    for session in sessions {
        let record = |claim| match claim {
            SessionClaim::Claimed { claimed, session } => (claimed.lease, claimed.task, claimed.recoveries, session),
            other => panic!("{session}: {other:?}"),
        };
        let expected = record(one.claim_session(worker, &session, now).await.unwrap());
        assert_eq!(record(two.claim_session(worker, &session, now).await.unwrap()), expected);
    }
    let outbox = |pending: Vec<agentry_store::PendingMessage>| {
        pending.into_iter().map(|pending| (pending.message, pending.attempt)).collect::<Vec<_>>()
    };
    let expected = outbox(one.claim_outbox(worker, now, ALL, &[]).await.unwrap());
    assert_eq!(expected.len(), 4, "cancelled, again, and two whose claimer died");
    assert_eq!(outbox(two.claim_outbox(worker, now, ALL, &[]).await.unwrap()), expected);
}

async fn claims(store: &Store, worker: WorkerId, now: Timestamp) -> Vec<String> {
    let claimed =
        store.claim(worker, ClaimRequest::Next { modes: ModeSet::ALL, limit: ALL, due_by: now }, now).await.unwrap();
    // Without the running time: only one side knows when the dead owner was last alive.
    let shown = claimed.iter().map(|one| {
        format!(
            "{:?} {:?} attempt {} recoveries {} resumes {}",
            one.lease, one.task, one.attempt, one.recoveries, one.resumes
        )
    });
    shown.collect()
}
