//! Contract tests of the queue: acceptance, claims, lists.

use std::collections::HashSet;
use std::sync::Arc;

use agentry_core::agent::{ExecutionMode, ModeSet};
use agentry_core::id::WorkerId;
use agentry_core::session::SessionId;
use agentry_core::task::{Priority, Task, TaskStatus};

use super::build::{T0, accept, agent, at, claim, event, finish, keyed, message, running, task};
use crate::{
    AcceptError, Acceptance, ClaimRequest, ClaimedTask, EventAcceptance, IncomingEvent, QueueCounts, QueuedTasks,
    StateStore, StoreError, TaskFilter,
};

/// A task is returned as it was submitted.
pub async fn accepted_tasks_are_returned_as_submitted(store: Arc<dyn StateStore>) {
    let asked =
        Task { priority: Priority::High, callback_url: Some("https://example.com/done".to_owned()), ..task(T0) };
    accept(&store, asked.clone()).await;
    let shown = store.task(asked.id).await.unwrap().unwrap();
    assert_eq!(shown.task, asked);
    assert_eq!((shown.status, shown.attempt, shown.epoch, shown.started_at), (TaskStatus::Queued, 1, 0, None));
    assert_eq!(store.task(agentry_core::id::TaskId::generate()).await.unwrap(), None);
}

/// The same key and request is the same task, another request is refused, and after a day the key is free.
pub async fn a_key_returns_the_same_task_for_a_day(store: Arc<dyn StateStore>) {
    let keyed = |task: Task, fingerprint| keyed(task, "key", fingerprint);
    let first = task(T0);
    let id = first.id;
    let answers =
        store.accept(vec![keyed(first, u64::MAX), keyed(task(at(1)), u64::MAX), keyed(task(at(1)), 2)]).await.unwrap();
    assert_eq!(answers, [Ok(Acceptance::New), Ok(Acceptance::Duplicate(id)), Err(AcceptError::KeyReused(id))]);
    assert_eq!(store.task_of_key("key", at(86_399)).await.unwrap(), Some((id, u64::MAX)));
    assert_eq!(store.task_of_key("key", at(86_400)).await.unwrap(), None);
    assert_eq!(store.task_of_key("other", T0).await.unwrap(), None);
    let later = store.accept(vec![keyed(task(at(86_400)), 2)]).await.unwrap();
    assert_eq!(later, [Ok(Acceptance::New)]);
}

/// Many workers claim the same tasks; each task has one winner.
pub async fn each_task_is_claimed_by_one_of_many(store: Arc<dyn StateStore>) {
    let tasks: Vec<Task> = (0..50).map(|_| task(T0)).collect();
    let ids: Vec<_> = tasks.iter().map(|task| task.id).collect();
    store.accept(tasks.into_iter().map(Arc::new).collect()).await.unwrap();
    let claimers: Vec<_> = (0..16)
        .map(|_| {
            let (store, want) = (Arc::clone(&store), ClaimRequest::Tasks(ids.clone()));
            tokio::spawn(async move { store.claim(WorkerId::generate(), want, T0).await.unwrap() })
        })
        .collect();
    let mut won = Vec::new();
    for claimer in claimers {
        won.extend(claimer.await.unwrap().into_iter().map(|claimed| claimed.lease.task));
    }
    assert_eq!(won.len(), 50);
    assert_eq!(won.into_iter().collect::<HashSet<_>>(), ids.into_iter().collect());
}

/// High before normal before low, older before newer, and only of the requested modes.
pub async fn next_tasks_are_claimed_by_priority_and_age(store: Arc<dyn StateStore>) {
    let mut ids = Vec::new();
    for priority in [Priority::Low, Priority::Normal, Priority::High, Priority::Normal] {
        ids.push(accept(&store, Task { priority, ..task(T0) }).await);
    }
    let planned = accept(&store, Task { mode: ExecutionMode::Collaborative, ..task(T0) }).await;
    let next = |modes, limit| store.claim(WorkerId::generate(), ClaimRequest::Next { modes, limit, due_by: T0 }, T0);
    let autonomous = ModeSet::NONE.with(ExecutionMode::Autonomous);
    let order = |claimed: Vec<ClaimedTask>| claimed.iter().map(|one| one.lease.task).collect::<Vec<_>>();
    assert_eq!(order(next(autonomous, 2).await.unwrap()), [ids[2], ids[1]]);
    let rest = next(ModeSet::ALL, 10).await.unwrap();
    assert!(rest.iter().all(|claimed| claimed.task.as_ref().is_some_and(|task| task.id == claimed.lease.task)));
    assert_eq!(order(rest), [ids[3], planned, ids[0]]);
}

/// A delayed task is returned by `next_due` and can be claimed from then on.
pub async fn delayed_tasks_are_claimed_when_due(store: Arc<dyn StateStore>) {
    let later = task(T0);
    let id = later.id;
    store.accept(vec![Arc::new(Task { not_before: Some(at(10)), ..later })]).await.unwrap();
    let worker = WorkerId::generate();
    assert!(claim(&store, worker, id, at(9)).await.is_none());
    let next = |now| store.claim(worker, ClaimRequest::Next { modes: ModeSet::ALL, limit: 5, due_by: now }, now);
    assert!(next(at(9)).await.unwrap().is_empty());
    assert_eq!(store.next_due(at(9)).await.unwrap(), Some(at(10)));
    assert_eq!(next(at(10)).await.unwrap().len(), 1);
    assert_eq!(store.next_due(at(9)).await.unwrap(), None);
}

/// Tasks that became due after `due_by` are left to the workers that were woken for them.
pub async fn tasks_due_later_are_left_to_woken_workers(store: Arc<dyn StateStore>) {
    let old = accept(&store, task(T0)).await;
    let young = accept(&store, task(at(5))).await;
    let worker = WorkerId::generate();
    let next = |due_by| store.claim(worker, ClaimRequest::Next { modes: ModeSet::ALL, limit: 5, due_by }, at(6));
    let order = |claimed: Vec<ClaimedTask>| claimed.iter().map(|one| one.lease.task).collect::<Vec<_>>();
    assert_eq!(order(next(at(4)).await.unwrap()), [old]);
    assert_eq!(order(next(at(4)).await.unwrap()), []);
    // A `due_by` in the future does not make a task due early.
    assert_eq!(order(next(at(100)).await.unwrap()), [young]);
}

/// Pages continue where the last one ended, and filters apply.
pub async fn pages_join_without_gaps(store: Arc<dyn StateStore>) {
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(accept(&store, task(at(n))).await);
    }
    claim(&store, WorkerId::generate(), ids[2], at(9)).await.unwrap();
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = store.tasks(&TaskFilter::default(), before, 2).await.unwrap();
        seen.extend(page.items.iter().map(|record| record.task.id));
        before = seen.last().copied();
        if !page.more {
            break;
        }
    }
    ids.reverse();
    assert_eq!(seen, ids);
    for (status, count) in [(TaskStatus::Running, 1), (TaskStatus::Queued, 4), (TaskStatus::Waiting, 0)] {
        let filter = TaskFilter { status: Some(status), agent: Some(agent()), ..TaskFilter::default() };
        assert_eq!(store.tasks(&filter, None, 100).await.unwrap().items.len(), count, "{status}");
    }
}

/// A store with `max_queued` 2 refuses further tasks, and events whose tasks do not fit, but nothing that needs no room.
pub async fn a_bound_of_two_tasks_holds(store: Arc<dyn StateStore>) {
    let answers = store.accept((0..3).map(|_| Arc::new(task(T0))).collect()).await.unwrap();
    assert!(answers[..2].iter().all(Result::is_ok), "{answers:?}");
    assert!(matches!(&answers[2], Err(AcceptError::Store(StoreError::Full { what: "the task queue", bound: 2, .. }))));
    let bring = |tasks| store.accept_event(IncomingEvent::new(event("1"), tasks));
    assert!(matches!(bring(vec![Arc::new(task(T0))]).await, Err(StoreError::Full { .. })));
    assert!(store.recent_events(1).await.unwrap().is_empty(), "nothing of it was accepted");
    assert_eq!(bring(Vec::new()).await, Ok(EventAcceptance::New), "it needs no room");
    let again = bring(vec![Arc::new(task(T0))]).await;
    assert_eq!(again, Ok(EventAcceptance::Duplicate), "a known event needs no room");
}

/// Counts match the tasks.
pub async fn counts_follow_the_tasks(store: Arc<dyn StateStore>) {
    let worker = WorkerId::generate();
    accept(&store, task(T0)).await;
    let claimed = running(&store, worker).await;
    assert_eq!(store.counts().await.unwrap(), QueueCounts { queued: 1, running: 1, waiting: 0 });
    store.advance(finish(claimed.lease, at(1)).into()).await.unwrap();
    assert_eq!(store.counts().await.unwrap(), QueueCounts { queued: 1, running: 0, waiting: 0 });
    let session = SessionId::new(&agent(), "counted");
    let (later, said) = (task(T0), message(&session, T0));
    let delayed = Arc::new(Task { not_before: Some(at(60)), ..later });
    store.accept(vec![delayed]).await.unwrap();
    accept(&store, said).await;
    let backlog = store.backlog().await.unwrap();
    let autonomous = QueuedTasks { count: 2, due_since: Some(T0) };
    let continuous = QueuedTasks { count: 1, due_since: Some(T0) };
    assert_eq!(backlog.queued[..2], [autonomous, continuous], "ready, delayed and in an inbox");
    assert_eq!((backlog.outbox, backlog.dead_letters), (0, 0));
    assert_eq!(backlog.queued[2..], [QueuedTasks::default(); 2]);
}
