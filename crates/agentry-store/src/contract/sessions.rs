//! Contract tests of sessions: order, one owner, fences.

use std::sync::Arc;

use agentry_core::id::WorkerId;
use agentry_core::session::{SessionId, SessionRecord, Summary};

use super::build::{self, T0, accept, agent, at, claim, finish, message, worker};
use crate::{Advance, ClaimedTask, SessionClaim, StateStore, Step, StoreError};

fn thread() -> SessionId {
    SessionId::new(&agent(), "thread")
}

async fn take_session(store: &Arc<dyn StateStore>, worker: WorkerId, seconds: i64) -> (ClaimedTask, SessionRecord) {
    build::take_session(store, worker, &thread(), at(seconds)).await
}

fn turn(claimed: &ClaimedTask, session: &SessionRecord, seconds: i64, texts: &[&str]) -> Advance {
    build::turn(claimed.lease, session, at(seconds), texts)
}

/// The oldest task first; while it runs, or a live owner has the session, other workers get `Busy`.
pub async fn an_inbox_is_worked_in_order_by_one(store: Arc<dyn StateStore>) {
    let (one, two) = (worker(&store, at(9)).await, worker(&store, at(9)).await);
    let first = accept(&store, message(&thread(), T0)).await;
    let second = accept(&store, message(&thread(), T0)).await;
    assert_eq!(store.due_sessions(T0, 10).await.unwrap(), [thread()]);
    assert!(claim(&store, one, first, T0).await.is_none(), "sessions are claimed as sessions");
    let (claimed, session) = take_session(&store, one, 9).await;
    assert_eq!((claimed.lease.task, session.fence, claimed.task.is_some()), (first, 1, true));
    assert!(matches!(store.claim_session(one, &thread(), at(9)).await.unwrap(), SessionClaim::Busy));
    store.advance(turn(&claimed, &session, 9, &["a"]).into()).await.unwrap();
    assert!(matches!(store.claim_session(two, &thread(), at(9)).await.unwrap(), SessionClaim::Busy));
    let (claimed, session) = take_session(&store, one, 9).await;
    assert_eq!((claimed.lease.task, session.fence, session.messages), (second, 1, 1));
    store.advance(turn(&claimed, &session, 9, &["b"]).into()).await.unwrap();
    assert!(matches!(store.claim_session(one, &thread(), at(9)).await.unwrap(), SessionClaim::Empty));
    accept(&store, message(&thread(), T0)).await;
    assert_eq!(take_session(&store, two, 9).await.1.fence, 2, "the fence grows with a new owner");
}

/// Messages are numbered from 1; a write with an old fence changes nothing.
pub async fn messages_have_no_gaps_and_stale_fences_write_nothing(store: Arc<dyn StateStore>) {
    let one = worker(&store, T0).await;
    for _ in 0..2 {
        accept(&store, message(&thread(), T0)).await;
    }
    let (claimed, session) = take_session(&store, one, 0).await;
    let mut write = turn(&claimed, &session, 1, &["a", "b"]);
    if let Some(session) = &mut write.session {
        session.summary = Some(Summary { text: "short".to_owned(), through: 1 });
    }
    store.advance(write.into()).await.unwrap();
    let (claimed, mut session) = take_session(&store, one, 1).await;
    session.fence += 1;
    assert_eq!(store.advance(turn(&claimed, &session, 2, &["x"]).into()).await, Err(StoreError::Fenced));
    session.fence -= 1;
    store.advance(turn(&claimed, &session, 2, &["c"]).into()).await.unwrap();
    let kept = store.messages(&thread(), 0, 10).await.unwrap();
    let texts: Vec<_> = kept.iter().map(|one| (one.number, one.message.content())).collect();
    assert_eq!(texts, [(1, "a"), (2, "b"), (3, "c")]);
    assert_eq!(store.messages(&thread(), 1, 1).await.unwrap(), kept[1..2]);
    let view = store.session(&thread()).await.unwrap().unwrap();
    assert_eq!((view.record.messages, view.record.turns, view.open_tasks), (3, 2, 0));
    assert_eq!(view.record.summary.map(|summary| summary.through), Some(1));
    assert_eq!(view.record.updated_at, at(2));
}

/// A delayed first task holds up the others, and nobody owns the session meanwhile.
pub async fn later_tasks_wait_behind_the_first(store: Arc<dyn StateStore>) {
    let (one, two) = (worker(&store, T0).await, worker(&store, T0).await);
    let first = accept(&store, message(&thread(), T0)).await;
    accept(&store, message(&thread(), T0)).await;
    let (claimed, _) = take_session(&store, one, 0).await;
    store.advance(Advance::new(claimed.lease, T0, Step::Retry { at: at(5) }).into()).await.unwrap();
    let claim = store.claim_session(two, &thread(), at(1)).await.unwrap();
    assert!(matches!(claim, SessionClaim::NotBefore(moment) if moment == at(5)), "{claim:?}");
    let (claimed, session) = take_session(&store, two, 5).await;
    assert_eq!((claimed.lease.task, claimed.attempt, session.fence), (first, 2, 2));
}

/// Latest activity first; a session with open tasks cannot be deleted.
pub async fn sessions_are_listed_and_deleted(store: Arc<dyn StateStore>) {
    let one = worker(&store, T0).await;
    let mut names = Vec::new();
    for n in 0..3 {
        let session = SessionId::new(&agent(), &format!("s{n}"));
        accept(&store, message(&session, T0)).await;
        store.claim_session(one, &session, at(n)).await.unwrap();
        names.push(session);
    }
    let page = store.sessions(Some(&agent()), None, 2).await.unwrap();
    assert!(page.more);
    assert_eq!(page.items.iter().map(|view| &view.record.id).collect::<Vec<_>>(), [&names[2], &names[1]]);
    let rest = store.sessions(None, Some(&names[1]), 2).await.unwrap();
    assert!(!rest.more && rest.items.len() == 1 && rest.items[0].record.id == names[0]);
    assert!(!store.delete_session(&names[0]).await.unwrap(), "its task runs");
    let lease =
        store.tasks(&crate::TaskFilter { session: Some(names[0].clone()), ..Default::default() }, None, 1).await;
    let record = lease.unwrap().items.remove(0);
    let lease = crate::Lease { task: record.task.id, epoch: record.epoch, worker: one };
    store.advance(finish(lease, at(1)).into()).await.unwrap();
    assert!(store.delete_session(&names[0]).await.unwrap());
    assert_eq!(store.session(&names[0]).await.unwrap(), None);
}
