//! Slots and events: each once.

use std::sync::Arc;

use agentry_core::event::Event;
use agentry_core::id::WorkerId;
use agentry_core::schedule::{Overlap, ScheduleRecord, ScheduleSpec, Timing};
use agentry_core::task::TraceId;

use super::build::{T0, agent, at, claim, finish, new, task};
use crate::{EventAccepted, Firing, FiringResult, Horizon, SlotState, StateStore};

fn record(every_ms: u64) -> ScheduleRecord {
    ScheduleRecord {
        name: "report".to_owned(),
        agent: agent(),
        from_file: true,
        spec: ScheduleSpec {
            timing: Timing::Interval { every_ms },
            input: "go".into(),
            timeout_ms: None,
            enabled: true,
            overlap: Overlap::Skip,
            catchup_ms: 0,
            jitter_ms: 0,
        },
        paused: false,
        last_slot: None,
        missed: 0,
        skipped: 0,
        created_at: T0,
    }
}

fn firing(seconds: i64, max_open: u32) -> Firing {
    let slot = at(seconds);
    Firing { schedule: "report".to_owned(), slot, task: Some(new(task(slot))), max_open, buffer: false }
}

async fn fire(store: &Arc<dyn StateStore>, firing: Firing) -> FiringResult {
    store.fire(vec![firing], at(100)).await.unwrap().remove(0)
}

/// Many replicas fire the same slot; one does.
pub async fn a_slot_is_decided_once(store: Arc<dyn StateStore>) {
    assert_eq!(fire(&store, firing(0, 0)).await, FiringResult::NotActive);
    store.put_schedule(record(5_000)).await.unwrap();
    let replicas: Vec<_> = (0..16)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { fire(&store, firing(5, u32::MAX)).await })
        })
        .collect();
    let mut fired = 0;
    for replica in replicas {
        match replica.await.unwrap() {
            FiringResult::Fired(_) => fired += 1,
            other => assert_eq!(other, FiringResult::AlreadyDecided),
        }
    }
    assert_eq!(fired, 1);
    assert_eq!(store.counts().await.unwrap().queued, 1);
    assert_eq!(store.schedules().await.unwrap()[0].last_slot, Some(at(5)));
}

/// With too many open tasks a slot is skipped, or left undecided when it is to be buffered.
pub async fn overlap_is_held(store: Arc<dyn StateStore>) {
    store.put_schedule(record(5_000)).await.unwrap();
    let FiringResult::Fired(open) = fire(&store, firing(5, 0)).await else { panic!("the first slot fires") };
    assert_eq!(fire(&store, firing(10, 0)).await, FiringResult::Skipped);
    assert_eq!(fire(&store, Firing { buffer: true, ..firing(15, 0) }).await, FiringResult::Deferred);
    let missed = Firing { task: None, ..firing(12, 0) };
    assert_eq!(fire(&store, missed).await, FiringResult::Missed);
    let lease = claim(&store, WorkerId::generate(), open, at(20)).await.unwrap().lease;
    store.advance(finish(lease, at(21))).await.unwrap();
    assert!(matches!(fire(&store, firing(15, 0)).await, FiringResult::Fired(_)));
    let states: Vec<_> = store.slots("report", 10).await.unwrap().iter().map(|slot| slot.state).collect();
    assert_eq!(states, [SlotState::Fired, SlotState::Missed, SlotState::Skipped, SlotState::Fired]);
    let kept = store.schedules().await.unwrap().remove(0);
    assert_eq!((kept.missed, kept.skipped, kept.last_slot), (1, 1, Some(at(15))));
}

/// A file's definition keeps pause and counters; other timing begins anew; resuming passes over the pause.
pub async fn changes_keep_what_was_decided(store: Arc<dyn StateStore>) {
    store.put_schedule(record(5_000)).await.unwrap();
    fire(&store, Firing { task: None, ..firing(5, 0) }).await;
    assert!(store.set_paused("report", true, at(6)).await.unwrap().is_some_and(|kept| kept.paused));
    assert_eq!(fire(&store, firing(10, 0)).await, FiringResult::NotActive);
    let kept = store.put_schedule(ScheduleRecord { created_at: at(7), ..record(5_000) }).await.unwrap();
    assert_eq!((kept.paused, kept.missed, kept.last_slot, kept.created_at), (true, 1, Some(at(5)), T0));
    let resumed = store.set_paused("report", false, at(30)).await.unwrap().unwrap();
    assert_eq!((resumed.paused, resumed.last_slot), (false, Some(at(30))));
    let anew = store.put_schedule(ScheduleRecord { created_at: at(40), ..record(7_000) }).await.unwrap();
    assert_eq!((anew.last_slot, anew.created_at, anew.missed), (None, at(40), 1));
    assert!(store.set_paused("other", true, T0).await.unwrap().is_none());
    assert!(store.delete_schedule("report").await.unwrap());
    assert!(!store.delete_schedule("report").await.unwrap());
}

/// (source, id) brings its tasks once; a forgotten event is new.
pub async fn an_event_is_accepted_once(store: Arc<dyn StateStore>) {
    let event = Event {
        id: "1".to_owned(),
        source: "crm".to_owned(),
        kind: "ticket".to_owned(),
        topic: "customer.ticket.created".to_owned(),
        time: T0,
        trace_id: TraceId(1),
        parent: None,
        hops: 0,
        data: "hello".into(),
    };
    let bring = || store.accept_event(&event, vec![new(task(at(5))), new(task(at(5)))]);
    assert_eq!(bring().await.unwrap(), EventAccepted::New);
    assert_eq!(bring().await.unwrap(), EventAccepted::Duplicate);
    assert_eq!(store.counts().await.unwrap().queued, 2);
    assert_eq!(store.recent_events(10).await.unwrap(), std::slice::from_ref(&event));
    assert_eq!(store.prune(Horizon::events(at(5))).await.unwrap(), 0, "it came at 5 s");
    assert_eq!(store.prune(Horizon::events(at(6))).await.unwrap(), 1);
    assert_eq!(bring().await.unwrap(), EventAccepted::New);
}
