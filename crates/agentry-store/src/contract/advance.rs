//! Contract tests of writes by owners: fences, transitions, journals, cancellation.

use std::sync::Arc;

use agentry_core::clarification::Resolution;
use agentry_core::id::{ClarificationId, WorkerId};
use agentry_core::journal::{JournalBody, JournalEntry, Scope};
use agentry_core::task::{Outcome, TaskStatus};
use futures_util::future::join_all;

use super::build::{T0, accept, at, claim, finish, ledger_row, running, task};
use super::outbox::callback;
use crate::{Advance, CancelResult, Lease, StateStore, Step, StoreError};

/// A write with another epoch, another owner, or for an ended task is fenced, and nothing is written.
pub async fn stale_leases_are_fenced(store: Arc<dyn StateStore>) {
    let claimed = running(&store, WorkerId::generate()).await;
    let lease = claimed.lease;
    for stale in [Lease { epoch: lease.epoch + 1, ..lease }, Lease { worker: WorkerId::generate(), ..lease }] {
        assert_eq!(store.advance(finish(stale, at(1)).into()).await, Err(StoreError::Fenced));
    }
    store.advance(Advance::new(lease, at(1), Step::Release).into()).await.unwrap();
    assert_eq!(store.advance(finish(lease, at(2)).into()).await, Err(StoreError::Fenced));
    assert_eq!(store.task(lease.task).await.unwrap().unwrap().status, TaskStatus::Queued);
}

/// The outcome of the one write that ended the task stands.
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

/// An outcome whose status is not terminal is refused.
pub async fn a_task_cannot_end_as_running(store: Arc<dyn StateStore>) {
    let claimed = running(&store, WorkerId::generate()).await;
    let outcome = Outcome { status: TaskStatus::Waiting, output: None, error: None };
    let end = Advance::new(claimed.lease, at(1), Step::Finish { outcome, dead_letter: false });
    assert!(matches!(store.advance(end.into()).await, Err(StoreError::Broken(_))));
    assert_eq!(store.task(claimed.lease.task).await.unwrap().unwrap().status, TaskStatus::Running);
}

/// A retry is a new attempt, not before its time, and with its full time budget.
pub async fn a_retry_is_a_later_attempt(store: Arc<dyn StateStore>) {
    let worker = WorkerId::generate();
    let lease = running(&store, worker).await.lease;
    store.advance(Advance::new(lease, at(1), Step::Retry { at: at(5) }).into()).await.unwrap();
    assert!(claim(&store, worker, lease.task, at(4)).await.is_none());
    let again = claim(&store, worker, lease.task, at(5)).await.unwrap();
    assert_eq!((again.attempt, again.lease.epoch, again.used_us, again.resumes), (2, 2, 0, true));
}

/// A released task resumes at once, in the same attempt, and its running time counts.
pub async fn a_release_keeps_the_attempt_and_its_time(store: Arc<dyn StateStore>) {
    let worker = WorkerId::generate();
    let lease = running(&store, worker).await.lease;
    store.advance(Advance::new(lease, at(3), Step::Release).into()).await.unwrap();
    let again = claim(&store, worker, lease.task, at(100)).await.unwrap();
    assert_eq!((again.attempt, again.used_us, again.recoveries), (1, 3_000_000, 0));
    store.advance(Advance::new(again.lease, at(101), Step::Release).into()).await.unwrap();
    assert_eq!(claim(&store, worker, lease.task, at(101)).await.unwrap().used_us, 4_000_000);
}

/// Returns an arbitrary entry.
pub fn entry(seq: u32) -> JournalEntry {
    let body = JournalBody::PlanRejected { problems: vec![format!("problem {seq}")] };
    JournalEntry { seq, attempt: 1, scope: Scope::MAIN, at: T0, body }
}

/// Entries are numbered from 1 without gaps, whatever numbers the caller gave.
pub async fn journal_entries_are_numbered_without_gaps(store: Arc<dyn StateStore>) {
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

/// When `break_one` makes one of many concurrent writes fail, nothing of it is written, and the others succeed.
pub async fn a_broken_write_fails_alone(store: Arc<dyn StateStore>, break_one: impl Fn(&mut Advance)) {
    let worker = WorkerId::generate();
    let mut leases = Vec::new();
    for _ in 0..20 {
        leases.push(running(&store, worker).await.lease);
    }
    let ends = leases.iter().enumerate().map(|(n, lease)| {
        let mut end = finish(*lease, at(1));
        end.journal.push(entry(1));
        end.ledger.push(ledger_row(lease.task, "a"));
        if n == 7 {
            break_one(&mut end);
        }
        store.advance(end.into())
    });
    for (n, (answer, lease)) in join_all(ends).await.iter().zip(&leases).enumerate() {
        let entries = store.journal(lease.task, 0, 10).await.unwrap().len();
        let status = store.task(lease.task).await.unwrap().unwrap().status;
        if n == 7 {
            assert!(matches!(answer, Err(StoreError::Broken(_))), "{answer:?}");
            assert_eq!((entries, status), (0, TaskStatus::Running), "nothing of it was written");
        } else {
            assert!(answer.is_ok(), "{answer:?}");
            assert_eq!((entries, status), (1, TaskStatus::Completed));
        }
    }
    assert_eq!(store.counts().await.unwrap().running, 1);
}

/// A task that is not running ends, with its messages; the owner of a running one is asked, and nothing is sent.
pub async fn cancel_ends_idle_tasks_and_asks_owners(store: Arc<dyn StateStore>) {
    let queued = accept(&store, task(T0)).await;
    assert_eq!(store.cancel(queued, at(1), vec![callback(queued)]).await.unwrap(), CancelResult::Ended);
    let again = store.cancel(queued, at(2), vec![callback(queued)]).await.unwrap();
    assert_eq!(again, CancelResult::AlreadyEnded(TaskStatus::Cancelled));
    let unknown = agentry_core::id::TaskId::generate();
    assert_eq!(store.cancel(unknown, at(2), Vec::new()).await.unwrap(), CancelResult::Unknown);

    let worker = WorkerId::generate();
    let lease = running(&store, worker).await.lease;
    assert_eq!(store.cancel(lease.task, at(1), vec![callback(lease.task)]).await.unwrap(), CancelResult::Requested);
    assert!(store.advance(Advance::new(lease, at(2), Step::Continue).into()).await.unwrap().cancel_requested);
    let sent = store.claim_outbox(worker, at(9), 10, &[]).await.unwrap();
    assert_eq!(sent.iter().map(|pending| pending.message.task).collect::<Vec<_>>(), [Some(queued)]);
    let none = store.resolve(ClarificationId::generate(), Resolution::Expired { at: T0 }).await.unwrap();
    assert_eq!(none, crate::ResolveResult::Unknown);
}
