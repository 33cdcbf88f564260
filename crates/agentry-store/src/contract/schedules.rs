//! Contract tests of slots and events: each once.

use std::sync::Arc;

use agentry_core::id::WorkerId;
use agentry_core::schedule::ScheduleRecord;

use super::build::{self, T0, at, claim, event, finish, schedule, task};
use crate::{EventAcceptance, Firing, FiringResult, Horizon, IncomingEvent, ScheduleChanges, SlotState, StateStore};

fn record(every_ms: u64) -> ScheduleRecord {
    schedule("report", every_ms)
}

fn firing(seconds: i64, max_open: u32) -> Firing {
    build::firing("report", seconds, max_open)
}

async fn fire(store: &Arc<dyn StateStore>, firing: Firing) -> FiringResult {
    store.fire(vec![firing], at(100)).await.unwrap().remove(0)
}

async fn put(store: &Arc<dyn StateStore>, record: ScheduleRecord) -> ScheduleRecord {
    store.put_schedules(vec![record]).await.unwrap().remove(0)
}

async fn kept(store: &Arc<dyn StateStore>) -> ScheduleRecord {
    store.schedule("report").await.unwrap().unwrap()
}

/// Many replicas fire the same slot; one does.
pub async fn a_slot_is_decided_once(store: Arc<dyn StateStore>) {
    assert_eq!(fire(&store, firing(0, 0)).await, FiringResult::NotActive);
    put(&store, record(5_000)).await;
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
    assert_eq!(kept(&store).await.last_slot, Some(at(5)));
}

/// With too many open tasks a slot is skipped, or left undecided when it is to be buffered.
pub async fn the_overlap_policy_applies(store: Arc<dyn StateStore>) {
    put(&store, record(5_000)).await;
    let FiringResult::Fired(open) = fire(&store, firing(5, 0)).await else { panic!("the first slot fires") };
    assert_eq!(fire(&store, firing(10, 0)).await, FiringResult::Skipped);
    assert_eq!(fire(&store, Firing { buffer: true, ..firing(15, 0) }).await, FiringResult::Deferred);
    let missed = Firing { task: None, ..firing(12, 0) };
    assert_eq!(fire(&store, missed).await, FiringResult::Missed);
    let lease = claim(&store, WorkerId::generate(), open, at(20)).await.unwrap().lease;
    store.advance(finish(lease, at(21)).into()).await.unwrap();
    assert!(matches!(fire(&store, firing(15, 0)).await, FiringResult::Fired(_)));
    let states: Vec<_> = store.slots("report", 10).await.unwrap().iter().map(|slot| slot.state).collect();
    assert_eq!(states, [SlotState::Fired, SlotState::Missed, SlotState::Skipped, SlotState::Fired]);
    let kept = kept(&store).await;
    assert_eq!((kept.missed, kept.skipped, kept.last_slot), (1, 1, Some(at(15))));
}

/// A definition from a file keeps pause and counters; changed timing starts anew; resuming skips the pause.
pub async fn changes_keep_decided_slots(store: Arc<dyn StateStore>) {
    put(&store, record(5_000)).await;
    fire(&store, Firing { task: None, ..firing(5, 0) }).await;
    assert!(store.set_paused("report", true, at(6)).await.unwrap().is_some_and(|kept| kept.paused));
    assert_eq!(fire(&store, firing(10, 0)).await, FiringResult::NotActive);
    let kept = put(&store, ScheduleRecord { created_at: at(7), ..record(5_000) }).await;
    assert_eq!((kept.paused, kept.missed, kept.last_slot, kept.created_at), (true, 1, Some(at(5)), T0));
    let resumed = store.set_paused("report", false, at(30)).await.unwrap().unwrap();
    assert_eq!((resumed.paused, resumed.last_slot), (false, Some(at(30))));
    let anew = put(&store, ScheduleRecord { created_at: at(40), ..record(7_000) }).await;
    assert_eq!((anew.last_slot, anew.created_at, anew.missed), (None, at(40), 1));
    assert!(store.set_paused("other", true, T0).await.unwrap().is_none());
    let both = ["report".to_owned(), "other".to_owned()];
    assert_eq!(store.delete_schedules(&both).await.unwrap(), 1);
    assert_eq!(store.delete_schedules(&both).await.unwrap(), 0);
}

/// A backfill fires undecided and missed slots, in a pause too; fired and skipped ones stay. `last_slot` and the
/// counters do not move.
pub async fn a_backfill_fires_unfired_slots_once(store: Arc<dyn StateStore>) {
    put(&store, record(5_000)).await;
    fire(&store, Firing { task: None, ..firing(5, 0) }).await;
    assert!(matches!(fire(&store, firing(10, 0)).await, FiringResult::Fired(_)));
    assert_eq!(fire(&store, firing(15, 0)).await, FiringResult::Skipped);
    store.set_paused("report", true, at(16)).await.unwrap();
    let again = |seconds| Firing { backfill: true, ..firing(seconds, u32::MAX) };
    let askers: Vec<_> = (0..8)
        .map(|_| {
            let (store, round) = (Arc::clone(&store), [5, 10, 15, 20].map(again).to_vec());
            tokio::spawn(async move { store.fire(round, at(100)).await.unwrap() })
        })
        .collect();
    let mut fired = [0; 4];
    for asker in askers {
        for (slot, result) in asker.await.unwrap().into_iter().enumerate() {
            match result {
                FiringResult::Fired(_) => fired[slot] += 1,
                other => assert_eq!(other, FiringResult::AlreadyDecided),
            }
        }
    }
    assert_eq!(fired, [1, 0, 0, 1], "the missed one and the one without a row");
    let asked = [0, 5, 10, 15, 20, 25].map(at);
    let mut rows = store.slots_at("report", &asked).await.unwrap();
    rows.sort_by_key(|row| row.slot);
    let states: Vec<_> = rows.iter().map(|row| (row.slot, row.state, row.task.is_some())).collect();
    let (yes, no) = (SlotState::Fired, SlotState::Skipped);
    assert_eq!(states, [(at(5), yes, true), (at(10), yes, true), (at(15), no, false), (at(20), yes, true)]);
    let kept = kept(&store).await;
    assert_eq!((kept.last_slot, kept.missed, kept.skipped), (Some(at(15)), 1, 1));
    assert_eq!(
        store.fire(vec![Firing { schedule: "gone".to_owned(), ..again(5) }], at(100)).await.unwrap(),
        [FiringResult::NotActive]
    );
}

/// Every change, and nothing else, increases the revision; changes since a revision are found, and deletions reduce the
/// total. Concurrent changes are not lost.
pub async fn changes_of_schedules_are_found_by_revision(store: Arc<dyn StateStore>) {
    let start = store.schedule_revision().await.unwrap();
    let named = |name: &str| ScheduleRecord { name: name.to_owned(), ..record(5_000) };
    let all = ["a", "b", "report"].map(named).to_vec();
    assert_eq!(store.put_schedules(all.clone()).await.unwrap(), all);
    let made = store.schedule_revision().await.unwrap();
    assert!(made > start && start > 0, "{start} {made}");
    let names = |changes: &ScheduleChanges| {
        let mut names: Vec<_> = changes.changed.iter().map(|record| record.name.clone()).collect();
        names.sort();
        names
    };
    let since = |revision| store.schedules_since(revision);
    let whole = since(0).await.unwrap();
    assert_eq!((names(&whole), whole.total), (["a", "b", "report"].map(str::to_owned).to_vec(), 3));
    assert_eq!(since(made).await.unwrap(), ScheduleChanges { changed: Vec::new(), total: 3 });

    fire(&store, firing(5, 0)).await;
    assert_eq!(store.schedule_revision().await.unwrap(), made, "a decided slot is no change");
    store.set_paused("b", true, at(6)).await.unwrap();
    let paused = store.schedule_revision().await.unwrap();
    assert!(paused > made);
    assert_eq!(names(&since(made).await.unwrap()), ["b"]);
    store.delete_schedules(&["a".to_owned()]).await.unwrap();
    assert!(store.schedule_revision().await.unwrap() > paused);
    assert_eq!(since(paused).await.unwrap(), ScheduleChanges { changed: Vec::new(), total: 2 });

    let before = store.schedule_revision().await.unwrap();
    let writers: Vec<_> = (0..16)
        .map(|number| {
            let (store, record) = (Arc::clone(&store), named(&format!("w{}", number % 8)));
            tokio::spawn(async move { store.put_schedules(vec![record]).await.unwrap() })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(store.schedule_revision().await.unwrap(), before + 16);
    let changes = since(before).await.unwrap();
    assert_eq!((names(&changes).len(), changes.total), (8, 10));
}

/// Schedules are listed by name in pages that join.
pub async fn schedules_are_listed_in_pages(store: Arc<dyn StateStore>) {
    let names: Vec<String> = (0..7).map(|number| format!("s{number}")).collect();
    let named = |name: &String| ScheduleRecord { name: name.clone(), ..record(5_000) };
    store.put_schedules(names.iter().rev().map(named).collect()).await.unwrap();
    let (mut seen, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = store.schedules(after.as_deref(), 3).await.unwrap();
        seen.extend(page.items.iter().map(|record| record.name.clone()));
        after = seen.last().cloned();
        if !page.more {
            break;
        }
        assert_eq!(page.items.len(), 3);
    }
    assert_eq!(seen, names);
    assert_eq!(store.schedule("s3").await.unwrap(), Some(named(&names[3])));
    assert_eq!(store.schedule("s9").await.unwrap(), None);
}

/// A source and id is accepted once with its tasks; a deleted event is new again.
pub async fn an_event_is_accepted_once(store: Arc<dyn StateStore>) {
    let event = event("1");
    let bring =
        || store.accept_event(IncomingEvent::new(event.clone(), vec![Arc::new(task(at(5))), Arc::new(task(at(5)))]));
    assert_eq!(bring().await.unwrap(), EventAcceptance::New);
    assert_eq!(bring().await.unwrap(), EventAcceptance::Duplicate);
    assert_eq!(store.counts().await.unwrap().queued, 2);
    assert_eq!(store.recent_events(10).await.unwrap(), std::slice::from_ref(&event));
    assert_eq!(store.prune(Horizon::events(at(5))).await.unwrap(), 0, "it came at 5 s");
    assert_eq!(store.prune(Horizon::events(at(6))).await.unwrap(), 1);
    assert_eq!(bring().await.unwrap(), EventAcceptance::New);
}
