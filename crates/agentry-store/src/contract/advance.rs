//! Writes by owners: fences, transitions, journals, cancelling.

use std::sync::Arc;

use agentry_core::clarification::Resolution;
use agentry_core::id::{ClarificationId, WorkerId};
use agentry_core::journal::{JournalBody, JournalEntry, Scope};
use agentry_core::task::{Outcome, TaskStatus};

use super::build::{T0, accept, at, claim, finish, running, task};
use super::outbox::callback;
use crate::{Advance, Cancelled, Lease, StateStore, Step, StoreError};

/// Another epoch, another owner, or a task that ended: fenced, and nothing is written.
pub async fn stale_leases_are_fenced(store: Arc<dyn StateStore>) {
    let claimed = running(&store, WorkerId::generate()).await;
    let lease = claimed.lease;
    for stale in [Lease { epoch: lease.epoch + 1, ..lease }, Lease { worker: WorkerId::generate(), ..lease }] {
        assert_eq!(store.advance(finish(stale, at(1)).into()).await, Err(StoreError::Fenced));
    }
    store.advance(Advance::new(lease, at(1), Step::HandBack).into()).await.unwrap();
    assert_eq!(store.advance(finish(lease, at(2)).into()).await, Err(StoreError::Fenced));
    assert_eq!(store.task(lease.task).await.unwrap().unwrap().status, TaskStatus::Queued);
}

/// The outcome of the one write that ended it stands.
pub async fn a_task_ends_once(store: Arc<dyn StateStore>) {
    let claimed = running(&store, WorkerId::generate()).await;
    assert!(!claimed.resumes);
    let mut end = finish(claimed.lease, at(2));
    end.agent_version = Some("abc".into());
    store.advance(end.into()).await.unwrap();
    assert_eq!(store.advance(finish(claimed.lease, at(3)).into()).await, Err(StoreError::Fenced));
    let ended = store.task(claimed.lease.task).await.unwrap().unwrap();
    assert_eq!(ended.status, TaskStatus::Completed);
    assert_eq!(ended.outcome, Some(Outcome::completed("done".into())));
    assert_eq!((ended.started_at, ended.finished_at, ended.owner), (Some(T0), Some(at(2)), None));
    assert_eq!(ended.agent_version.as_deref(), Some("abc"));
}

/// An outcome with a status that is no end is refused.
pub async fn a_task_cannot_end_as_running(store: Arc<dyn StateStore>) {
    let claimed = running(&store, WorkerId::generate()).await;
    let outcome = Outcome { status: TaskStatus::Waiting, output: None, error: None };
    let end = Advance::new(claimed.lease, at(1), Step::Finish { outcome, dead_letter: false });
    assert!(matches!(store.advance(end.into()).await, Err(StoreError::Broken(_))));
    assert_eq!(store.task(claimed.lease.task).await.unwrap().unwrap().status, TaskStatus::Running);
}

/// A retry is a new attempt, not before its moment, with its time anew.
pub async fn retry_begins_a_new_attempt_later(store: Arc<dyn StateStore>) {
    let worker = WorkerId::generate();
    let lease = running(&store, worker).await.lease;
    store.advance(Advance::new(lease, at(1), Step::Retry { at: at(5) }).into()).await.unwrap();
    assert!(claim(&store, worker, lease.task, at(4)).await.is_none());
    let again = claim(&store, worker, lease.task, at(5)).await.unwrap();
    assert_eq!((again.attempt, again.lease.epoch, again.used_us, again.resumes), (2, 2, 0, true));
}

/// A task that was handed back goes on at once, in the same attempt, and its running time counts.
pub async fn hand_back_keeps_the_attempt_and_its_time(store: Arc<dyn StateStore>) {
    let worker = WorkerId::generate();
    let lease = running(&store, worker).await.lease;
    store.advance(Advance::new(lease, at(3), Step::HandBack).into()).await.unwrap();
    let again = claim(&store, worker, lease.task, at(100)).await.unwrap();
    assert_eq!((again.attempt, again.used_us, again.recoveries), (1, 3_000_000, 0));
    store.advance(Advance::new(again.lease, at(101), Step::HandBack).into()).await.unwrap();
    assert_eq!(claim(&store, worker, lease.task, at(101)).await.unwrap().used_us, 4_000_000);
}

/// An entry of no importance.
#[must_use]
pub fn entry(seq: u32) -> JournalEntry {
    let body = JournalBody::PlanRejected { problems: vec![format!("problem {seq}")] };
    JournalEntry { seq, attempt: 1, scope: Scope::MAIN, at: T0, body }
}

/// Entries are numbered from 1 without gaps, whatever numbers the caller thought of.
pub async fn journals_number_on(store: Arc<dyn StateStore>) {
    let lease = running(&store, WorkerId::generate()).await.lease;
    for seqs in [vec![1, 2], vec![2], vec![9]] {
        let mut write = Advance::new(lease, at(1), Step::Continue);
        write.journal = seqs.into_iter().map(entry).collect();
        store.advance(write.into()).await.unwrap();
    }
    let journal = store.journal(lease.task, 0, 100).await.unwrap();
    assert_eq!(journal.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(journal[3].body, entry(9).body);
    assert_eq!(store.journal(lease.task, 2, 1).await.unwrap(), journal[2..3]);
}

/// Nobody runs it: it ends, with its messages. Somebody does: that one is asked, and nothing is sent.
pub async fn cancel_ends_what_nobody_runs_and_asks_who_runs(store: Arc<dyn StateStore>) {
    let queued = accept(&store, task(T0)).await;
    assert_eq!(store.cancel(queued, at(1), vec![callback(queued)]).await.unwrap(), Cancelled::Ended);
    let again = store.cancel(queued, at(2), vec![callback(queued)]).await.unwrap();
    assert_eq!(again, Cancelled::AlreadyEnded(TaskStatus::Cancelled));
    let unknown = agentry_core::id::TaskId::generate();
    assert_eq!(store.cancel(unknown, at(2), Vec::new()).await.unwrap(), Cancelled::Unknown);

    let worker = WorkerId::generate();
    let lease = running(&store, worker).await.lease;
    assert_eq!(store.cancel(lease.task, at(1), vec![callback(lease.task)]).await.unwrap(), Cancelled::Requested);
    assert!(store.advance(Advance::new(lease, at(2), Step::Continue).into()).await.unwrap().cancel_requested);
    let sent = store.claim_outbox(worker, at(9), 10, &[]).await.unwrap();
    assert_eq!(sent.iter().map(|pending| pending.message.task).collect::<Vec<_>>(), [Some(queued)]);
    let none = store.resolve(ClarificationId::generate(), Resolution::Expired { at: T0 }).await.unwrap();
    assert_eq!(none, crate::Answered::Unknown);
}
