//! Workers that die, and what is kept of the fleet.

use std::sync::Arc;

use agentry_core::fleet::AgentState;
use agentry_core::journal::JournalBody;
use agentry_core::task::TaskStatus;

use super::build::{T0, agent, at, beat, claim, finish, running, worker};
use crate::{AgentStatus, StateStore, StoreError};

/// A worker that misses its heartbeats loses its tasks; the living keep theirs.
pub async fn tasks_of_the_dead_are_queued_again(store: Arc<dyn StateStore>) {
    let (dead, living) = (worker(&store, T0).await, worker(&store, T0).await);
    let (lost, kept) = (running(&store, dead).await.lease, running(&store, living).await.lease);
    assert!(store.recover(at(1), 10).await.unwrap().is_empty(), "both are alive");
    beat(&store, living, at(5)).await;
    let recovered = store.recover(at(5), 10).await.unwrap();
    assert_eq!(recovered.iter().map(|one| one.task).collect::<Vec<_>>(), [lost.task]);
    assert_eq!(recovered[0].agent, agent());
    assert_eq!(store.advance(finish(lost, at(6)).into()).await, Err(StoreError::Fenced));
    let again = claim(&store, living, lost.task, at(6)).await.unwrap();
    assert_eq!((again.recoveries, again.attempt, again.resumes), (1, 1, true));
    let journal = store.journal(lost.task, 0, 10).await.unwrap();
    assert_eq!(journal[0].body, JournalBody::Recovered { worker: dead });
    assert_eq!(store.workers().await.unwrap().iter().map(|one| one.id).collect::<Vec<_>>(), [living]);
    store.advance(finish(kept, at(6)).into()).await.unwrap();
}

/// A worker that left, or never was registered, owns nothing.
pub async fn tasks_of_the_deregistered_are_queued_at_once(store: Arc<dyn StateStore>) {
    let left = worker(&store, T0).await;
    let lease = running(&store, left).await.lease;
    store.deregister(left).await.unwrap();
    assert_eq!(store.recover(T0, 10).await.unwrap().len(), 1);
    assert!(store.recover(T0, 10).await.unwrap().is_empty(), "once");
    assert_eq!(store.task(lease.task).await.unwrap().unwrap().status, TaskStatus::Queued);
}

/// Statuses are replaced, and forgotten.
pub async fn versions_and_statuses_are_kept(store: Arc<dyn StateStore>) {
    let status = |state, restarts| AgentStatus {
        agent: agent(),
        state,
        version: Some("abc".into()),
        restarts,
        reason: None,
        since: T0,
    };
    store.put_agent_status(vec![status(AgentState::Starting, 0)]).await.unwrap();
    store.put_agent_status(vec![status(AgentState::Healthy, 2)]).await.unwrap();
    assert_eq!(store.agent_statuses().await.unwrap(), [status(AgentState::Healthy, 2)]);
    store.forget_agents(vec![agent()]).await.unwrap();
    assert!(store.agent_statuses().await.unwrap().is_empty());
    assert_eq!(store.version(&agent(), "abc").await.unwrap(), None);
}
