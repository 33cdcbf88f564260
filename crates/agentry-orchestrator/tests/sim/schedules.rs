//! Slots under slow tasks, clocks that are set back, and unknown agents; under paused time.

use std::sync::Arc;
use std::time::Duration;

use agentry_bus::EmbeddedBus;
use agentry_core::fleet::Fleet;
use agentry_core::id::OutboxId;
use agentry_core::outbox::{EndEvent, messages_of_end};
use agentry_core::schedule::Overlap;
use agentry_core::task::{ErrorCode, Outcome, TaskError};
use agentry_core::worker::Role;
use agentry_store::{CancelResult, SlotState};

use crate::fleet::{fleet, name};
use crate::log::warnings_of;
use crate::roles::{Cluster, START, changed, seconds};
use crate::stage::runtime;

/// Returns the fleet whose `tick` buffers one slot.
fn buffering(catchup_ms: u64) -> Fleet {
    changed(|specs| {
        let schedule = specs.get_mut(&name("tick")).and_then(|spec| spec.schedule.as_mut()).expect("a schedule");
        (schedule.overlap, schedule.catchup_ms) = (Overlap::BufferOne, catchup_ms);
    })
}

/// Returns the slots of `tick` as seconds after the start, oldest first.
async fn slots(cluster: &Cluster) -> Vec<(i64, SlotState)> {
    let mut slots = cluster.store.slots("tick", 1_000).await.expect("slots");
    slots.sort_by_key(|slot| slot.slot);
    slots.iter().map(|slot| ((slot.slot.0 - START.0) / 1_000_000, slot.state)).collect()
}

/// Ends the task of a slot, which stayed open because no worker runs.
async fn end_task_of(cluster: &Cluster, second: i64) {
    let slots = cluster.store.slots("tick", 1_000).await.expect("slots");
    let slot = slots.iter().find(|slot| slot.slot.0 == START.0 + second * 1_000_000).expect("the slot");
    let id = slot.task.expect("a task");
    let record = cluster.store.task(id).await.expect("a read").expect("the task");
    let outcome = Outcome::from_error(TaskError::new(ErrorCode::Cancelled, "cancelled by the test"));
    let outbox = messages_of_end(&record.task, &outcome, START, EndEvent::Omitted, || OutboxId::from_parts(1, 1));
    let cancelled = cluster.store.cancel(id, START, outbox).await.expect("a cancel");
    assert!(matches!(cancelled, CancelResult::Ended));
}

/// Even while the schedules are reloaded repeatedly, and though buffered slots are older than the catch-up window.
#[test]
fn one_slot_waits_and_further_ones_are_skipped() {
    use SlotState::{Fired, Skipped};
    runtime().block_on(async {
        let cluster = Cluster::new(Arc::new(EmbeddedBus::new()));
        let _running = cluster.process(&[Role::Scheduler], buffering(0)).await;
        seconds(33).await;
        let waiting = [(5, Fired), (15, Skipped), (20, Skipped), (25, Skipped), (30, Skipped)];
        assert_eq!(slots(&cluster).await, waiting, "the slot after ten seconds waits");
        end_task_of(&cluster, 5).await;
        seconds(1).await;
        assert_eq!(slots(&cluster).await[..3], [(5, Fired), (10, Fired), (15, Skipped)]);
        seconds(8).await;
        assert_eq!(slots(&cluster).await[5..], [(30, Skipped), (40, Skipped)], "the next one waits now");
        let record = &cluster.store.schedules_since(0).await.expect("schedules").changed[0];
        assert_eq!((record.missed, record.skipped), (0, 5));
    });
}

#[test]
fn a_slot_that_waits_outlives_its_process() {
    use SlotState::{Fired, Skipped};
    runtime().block_on(async {
        let cluster = Cluster::new(Arc::new(EmbeddedBus::new()));
        let first = cluster.process(&[Role::Scheduler], buffering(60_000)).await;
        seconds(17).await;
        assert_eq!(slots(&cluster).await, [(5, Fired), (15, Skipped)]);
        first.drain(Duration::from_secs(1)).await;
        let _second = cluster.process(&[Role::Scheduler], buffering(60_000)).await;
        seconds(1).await;
        assert_eq!(slots(&cluster).await, [(5, Fired), (15, Skipped)]);
        end_task_of(&cluster, 5).await;
        seconds(1).await;
        assert_eq!(slots(&cluster).await, [(5, Fired), (10, Fired), (15, Skipped)]);
    });
}

#[test]
fn a_paused_schedule_outlives_its_agent_but_not_its_place_in_the_file() {
    runtime().block_on(async {
        let cluster = Cluster::new(Arc::new(EmbeddedBus::new()));
        let paused = async || cluster.store.schedule("tick").await.expect("a read").map(|record| record.paused);
        let run = async |fleet: Fleet| {
            let process = cluster.process(&[Role::Scheduler], fleet).await;
            seconds(1).await;
            process.drain(Duration::from_secs(1)).await;
        };
        run(fleet()).await;
        assert_eq!(paused().await, Some(false));
        run(changed(|specs| drop(specs.remove(&name("tick"))))).await;
        assert_eq!(paused().await, None, "one that is not paused leaves with its agent");
        run(fleet()).await;
        cluster.store.set_paused("tick", true, START).await.expect("a write");
        run(changed(|specs| drop(specs.remove(&name("tick"))))).await;
        run(fleet()).await;
        assert_eq!(paused().await, Some(true), "its agent came back");
        run(changed(|specs| specs.get_mut(&name("tick")).expect("tick").schedule = None)).await;
        assert_eq!(paused().await, None, "the agent has no schedule any more");
    });
}

#[test]
fn a_clock_that_is_set_back_neither_silences_a_schedule_nor_fires_a_slot_twice() {
    runtime().block_on(async {
        let cluster = Cluster::new(Arc::new(EmbeddedBus::new()));
        let _running = cluster.process(&[Role::Scheduler], fleet()).await;
        seconds(12).await;
        cluster.clock.step(-20_000_000);
        seconds(24).await;
        let expected = [-5, 0, 5, 10, 15].map(|second| (second, SlotState::Fired));
        assert_eq!(slots(&cluster).await, expected);
        assert_eq!(cluster.tasks_of("tick").await.len(), expected.len());
    });
}

#[test]
fn a_schedule_of_an_unknown_agent_is_told_once() {
    let warnings = warnings_of(|| {
        runtime().block_on(async {
            let cluster = Cluster::new(Arc::new(EmbeddedBus::new()));
            let _owner = cluster.process(&[Role::Scheduler], fleet()).await;
            seconds(1).await;
            let mut record = cluster.store.schedules_since(0).await.expect("schedules").changed.remove(0);
            (record.name, record.agent, record.from_file) = ("nightly".to_owned(), name("gone"), false);
            cluster.store.put_schedules(vec![record]).await.expect("a schedule");
            seconds(45).await;
        });
    });
    let told: Vec<&String> = warnings.iter().filter(|line| line.contains("nightly")).collect();
    assert_eq!(told.len(), 1, "{warnings:?}");
    for word in ["gone", "agents", "DELETE /v1/schedules/nightly"] {
        assert!(told[0].contains(word), "{told:?} says nothing of {word}");
    }
}
