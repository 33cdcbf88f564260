//! Contract tests of dead workers, and of the stored fleet.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::agent::ExecutionMode;
use agentry_core::fleet::AgentState;
use agentry_core::id::{CallId, WorkerId};
use agentry_core::journal::JournalBody;
use agentry_core::money::NanoUsd;
use agentry_core::session::SessionId;
use agentry_core::task::TaskStatus;
use agentry_core::wake::Wake;
use agentry_core::worker::{HEARTBEAT, MISSED_HEARTBEATS};

use super::build::{
    AgeHeartbeats, T0, accept, agent, at, claim, finish, heartbeat, message, running, take_session, turn, worker,
};
use super::outbox::leave;
use crate::{AgentStatus, Lease, Reservation, ReserveResult, SessionClaim, StateStore, StoreError};

/// Age of a heartbeat from which a worker counts as dead.
const MISSED: Duration = HEARTBEAT.saturating_mul(MISSED_HEARTBEATS);

/// A worker that misses its heartbeats loses its tasks; live workers keep theirs.
pub async fn tasks_of_dead_workers_are_requeued(store: Arc<dyn StateStore>, heartbeats: &dyn AgeHeartbeats) {
    let (dead, living, other) = (worker(&store, T0).await, worker(&store, T0).await, worker(&store, T0).await);
    let (lost, kept) = (running(&store, dead).await.lease, running(&store, other).await.lease);
    heartbeats.age(&store, living, at(5), Duration::ZERO).await;
    heartbeats.age(&store, other, at(5), MISSED - HEARTBEAT / 2).await;
    heartbeats.age(&store, dead, at(5), MISSED - HEARTBEAT / 2).await;
    assert!(store.recover(living, at(5), 10).await.unwrap().is_empty(), "all are alive");
    heartbeats.age(&store, dead, at(5), MISSED + HEARTBEAT).await;
    let recovered = store.recover(living, at(5), 10).await.unwrap();
    assert_eq!(recovered, [Wake::requeued(lost.task, ExecutionMode::Autonomous, None)]);
    assert_eq!(store.advance(finish(lost, at(6)).into()).await, Err(StoreError::Fenced));
    let again = claim(&store, living, lost.task, at(6)).await.unwrap();
    assert_eq!((again.recoveries, again.attempt, again.resumes), (1, 1, true));
    let journal = store.journal(lost.task, 0, 10).await.unwrap();
    assert_eq!(journal[0].body, JournalBody::Recovered { worker: dead });
    let mut left = [living, other];
    left.sort_unstable();
    assert_eq!(store.workers(at(5)).await.unwrap().iter().map(|one| one.id).collect::<Vec<_>>(), left);
    store.advance(finish(kept, at(6)).into()).await.unwrap();
}

/// A judge whose own heartbeat is late, or that is not registered, declares nobody dead.
pub async fn a_late_judge_declares_nobody_dead(store: Arc<dyn StateStore>, heartbeats: &dyn AgeHeartbeats) {
    let (silent, late) = (worker(&store, T0).await, worker(&store, T0).await);
    let lease = running(&store, silent).await.lease;
    heartbeats.age(&store, silent, at(60), Duration::from_secs(30)).await;
    heartbeats.age(&store, late, at(60), HEARTBEAT * 2).await;
    assert!(store.recover(late, at(60), 10).await.unwrap().is_empty(), "its own heartbeat is late");
    assert!(store.recover(WorkerId::generate(), at(60), 10).await.unwrap().is_empty(), "it is not registered");
    heartbeats.age(&store, late, at(60), Duration::ZERO).await;
    let recovered = store.recover(late, at(60), 10).await.unwrap();
    assert_eq!(recovered.iter().map(|one| one.task).collect::<Vec<_>>(), [lease.task]);
}

/// After a stall of the store all heartbeats are old; the first worker back gives the others time to send theirs.
pub async fn after_a_stall_live_workers_have_time(store: Arc<dyn StateStore>, heartbeats: &dyn AgeHeartbeats) {
    let (first, second) = (worker(&store, T0).await, worker(&store, T0).await);
    let lease = running(&store, second).await.lease;
    for worker in [first, second] {
        heartbeats.age(&store, worker, at(10), MISSED * 2).await;
    }
    heartbeat(&store, first, at(10)).await;
    assert!(store.recover(first, at(10), 10).await.unwrap().is_empty(), "the second had no time to come back");
    heartbeat(&store, second, at(10)).await;
    heartbeats.age(&store, first, at(20), Duration::ZERO).await;
    heartbeats.age(&store, second, at(20), HEARTBEAT).await;
    assert!(store.recover(first, at(20), 10).await.unwrap().is_empty());
    store.advance(finish(lease, at(20)).into()).await.unwrap();
}

/// The caller counts as alive, however old its heartbeat: the machine of a single process may have been suspended.
pub async fn a_judge_never_declares_itself_dead(store: Arc<dyn StateStore>, heartbeats: &dyn AgeHeartbeats) {
    let judge = worker(&store, T0).await;
    let lease = running(&store, judge).await.lease;
    heartbeats.age(&store, judge, at(3_600), Duration::from_secs(3_000)).await;
    assert!(store.recover(judge, at(3_600), 10).await.unwrap().is_empty());
    heartbeat(&store, judge, at(3_600)).await;
    assert!(store.recover(judge, at(3_600), 10).await.unwrap().is_empty());
    store.advance(finish(lease, at(3_600)).into()).await.unwrap();
}

/// Claims of outbox messages and sessions, and reservations, end when their worker is declared dead, and not before.
pub async fn claims_of_a_dead_worker_are_released(store: Arc<dyn StateStore>, heartbeats: &dyn AgeHeartbeats) {
    let (dead, judge) = (worker(&store, T0).await, worker(&store, T0).await);
    let session = SessionId::new(&agent(), "thread");
    leave(&store).await;
    assert_eq!(store.claim_outbox(dead, at(1), 10, &[]).await.unwrap().len(), 1);
    accept(&store, message(&session, T0)).await;
    let (claimed, record) = take_session(&store, dead, &session, at(1)).await;
    store.advance(turn(claimed.lease, &record, at(1), &[]).into()).await.unwrap();
    accept(&store, message(&session, T0)).await;
    let lost = running(&store, dead).await.lease;
    let reserve = async |lease: Lease| {
        let reservation = Reservation {
            call: CallId::generate(),
            task: lease.task,
            agent: agent(),
            worker: lease.worker,
            amount: NanoUsd(1),
            cap: NanoUsd(1),
            now: at(1),
        };
        store.reserve(reservation).await.unwrap()
    };
    assert_eq!(reserve(lost).await, ReserveResult::Reserved);
    let kept = running(&store, judge).await.lease;
    heartbeats.age(&store, dead, at(60), MISSED * 2).await;
    heartbeats.age(&store, judge, at(60), Duration::ZERO).await;
    assert!(store.claim_outbox(judge, at(60), 10, &[]).await.unwrap().is_empty(), "not declared dead yet");
    assert!(matches!(store.claim_session(judge, &session, at(60)).await.unwrap(), SessionClaim::Busy));
    assert!(matches!(reserve(kept).await, ReserveResult::OverCap { .. }));
    assert_eq!(store.recover(judge, at(60), 10).await.unwrap().len(), 1);
    assert_eq!(store.claim_outbox(judge, at(60), 10, &[]).await.unwrap()[0].attempt, 2);
    assert!(matches!(store.claim_session(judge, &session, at(60)).await.unwrap(), SessionClaim::Claimed { .. }));
    assert_eq!(reserve(kept).await, ReserveResult::Reserved);
}

/// A worker that deregistered, or was never registered, owns nothing.
pub async fn tasks_of_deregistered_workers_are_requeued_at_once(store: Arc<dyn StateStore>) {
    let (left, judge) = (worker(&store, T0).await, worker(&store, T0).await);
    let lease = running(&store, left).await.lease;
    store.deregister(left).await.unwrap();
    assert_eq!(store.recover(judge, T0, 10).await.unwrap().len(), 1);
    assert!(store.recover(judge, T0, 10).await.unwrap().is_empty(), "once");
    assert_eq!(store.task(lease.task).await.unwrap().unwrap().status, TaskStatus::Queued);
}

/// Versions and statuses are stored; statuses are replaced and deleted.
pub async fn versions_and_statuses_are_stored(store: Arc<dyn StateStore>) {
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
    store.remove_agent_statuses(vec![agent()]).await.unwrap();
    assert!(store.agent_statuses().await.unwrap().is_empty());
    assert_eq!(store.version(&agent(), "abc").await.unwrap(), None);
}
