//! Contract tests of the deployment's fleet: versions have one order, and events are tied to the fleet of their lookup.

use std::sync::Arc;

use agentry_core::agent::AgentSpec;
use agentry_core::id::OutboxId;
use agentry_core::outbox::{OutboxBody, OutboxMessage};

use super::build::*;
use crate::*;

fn version(text: &str) -> Arc<AgentSpec> {
    Arc::new(AgentSpec { version: text.into(), ..spec() })
}

async fn offer(store: &Arc<dyn StateStore>, text: &str, replaces: ReplacePolicy) -> u64 {
    store.offer_versions(vec![VersionOffer { spec: version(text), replaces }], T0).await.unwrap()
}

async fn current(store: &Arc<dyn StateStore>) -> (String, bool) {
    let row = store.fleet_since(0).await.unwrap().rows.remove(0);
    (row.version.to_string(), row.removed)
}

/// A new version becomes current whoever offers it; one that was current before only in place of the one it names.
pub async fn an_old_version_stays_old(store: Arc<dyn StateStore>) {
    assert_eq!(store.fleet_revision().await.unwrap(), 0);
    assert_eq!(offer(&store, "v1", ReplacePolicy::Nothing).await, 1);
    assert_eq!(offer(&store, "v1", ReplacePolicy::Nothing).await, 1, "offered again, nothing changes");
    assert_eq!(offer(&store, "v2", ReplacePolicy::Nothing).await, 2);
    assert_eq!(offer(&store, "v1", ReplacePolicy::Nothing).await, 2, "a process that starts with an old file");
    assert_eq!(offer(&store, "v1", ReplacePolicy::Version("v0".into())).await, 2, "a process that lags behind");
    assert_eq!(current(&store).await, ("v2".to_owned(), false));
    assert_eq!(offer(&store, "v1", ReplacePolicy::Version("v2".into())).await, 3, "somebody put the old file back");
    assert_eq!(offer(&store, "v2", ReplacePolicy::Any).await, 4);
    let changes = store.fleet_since(3).await.unwrap();
    assert_eq!((changes.revision, changes.rows.len()), (4, 1));
    assert_eq!(store.fleet_since(4).await.unwrap(), FleetChanges { revision: 4, rows: Vec::new() });
    assert_eq!(store.fleet_revision().await.unwrap(), 4);
    assert_eq!(store.version(&spec().name, "v1").await.unwrap(), Some(AgentSpec::clone(&version("v1"))));
}

/// A removal is reported once; the agent keeps its version, and a new version brings it back.
pub async fn a_removed_agent_keeps_its_last_version(store: Arc<dyn StateStore>) {
    offer(&store, "v1", ReplacePolicy::Nothing).await;
    assert_eq!(store.remove_agents(vec![spec().name], at(1)).await.unwrap(), [spec().name]);
    assert_eq!(store.remove_agents(vec![spec().name], at(1)).await.unwrap(), []);
    assert_eq!((current(&store).await, store.fleet_revision().await.unwrap()), (("v1".to_owned(), true), 2));
    assert_eq!(
        offer(&store, "v1", ReplacePolicy::Nothing).await,
        2,
        "a file that was left behind does not bring it back"
    );
    assert_eq!(offer(&store, "v2", ReplacePolicy::Nothing).await, 3);
    assert_eq!(current(&store).await, ("v2".to_owned(), false));
}

/// An event whose subscribers were looked up in another fleet is not accepted; a known event is a duplicate all the
/// same.
pub async fn an_event_waits_for_the_fleet_that_it_was_looked_up_in(store: Arc<dyn StateStore>) {
    offer(&store, "v1", ReplacePolicy::Nothing).await;
    offer(&store, "v2", ReplacePolicy::Nothing).await;
    let bring = |id: &str, fleet_revision: u64| {
        let incoming = IncomingEvent { fleet_revision, ..IncomingEvent::new(event(id), vec![Arc::new(task(T0))]) };
        store.accept_event(incoming)
    };
    assert_eq!(bring("1", 1).await.unwrap(), EventAcceptance::FleetChanged);
    assert_eq!(store.counts().await.unwrap().queued, 0);
    assert_eq!(bring("1", 2).await.unwrap(), EventAcceptance::New);
    assert_eq!(bring("1", 1).await.unwrap(), EventAcceptance::Duplicate);
    assert_eq!(bring("2", 0).await.unwrap(), EventAcceptance::New, "whichever it is");
    assert_eq!(store.counts().await.unwrap().queued, 2);
}

/// The message to outside listeners is durable together with the event, once.
pub async fn an_event_is_stored_with_its_message(store: Arc<dyn StateStore>) {
    let me = worker(&store, T0).await;
    let bring = || {
        let body = OutboxBody::Event { event: event("1"), is_accepted: true };
        let message = OutboxMessage { id: OutboxId::generate(), task: None, created_at: T0, trace: None, body };
        let incoming = IncomingEvent { outbox: Some(message), ..IncomingEvent::new(event("1"), Vec::new()) };
        store.accept_event(incoming)
    };
    assert_eq!(bring().await.unwrap(), EventAcceptance::New);
    assert_eq!(bring().await.unwrap(), EventAcceptance::Duplicate);
    let waiting = store.claim_outbox(me, T0, 10, &[]).await.unwrap();
    assert_eq!(waiting.len(), 1);
    assert!(matches!(&waiting[0].message.body, OutboxBody::Event { event, is_accepted: true } if event.id == "1"));
}

/// A claim returns the version of a started task, and the worker's leases are listed.
pub async fn a_claim_returns_the_version(store: Arc<dyn StateStore>) {
    let me = worker(&store, T0).await;
    let first = running(&store, me).await;
    assert_eq!(first.version, None);
    assert_eq!(store.leases_of(me, 10).await.unwrap(), [first.lease]);
    let mut step = Advance::new(first.lease, at(1), Step::Release);
    step.agent_version = Some("v7".into());
    store.advance(step.into()).await.unwrap();
    assert_eq!(store.leases_of(me, 10).await.unwrap(), []);
    let again = claim(&store, me, first.lease.task, at(1)).await.unwrap();
    assert_eq!(again.version.as_deref(), Some("v7"));
    assert_eq!(store.leases_of(me, 10).await.unwrap(), [again.lease]);
}
