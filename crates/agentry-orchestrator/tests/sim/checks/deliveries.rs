//! Slots, callbacks and events.

use std::collections::{HashMap, HashSet};

use agentry_core::id::OutboxId;
use agentry_core::task::TaskSource;
use agentry_core::time::Timestamp;
use agentry_store::SlotState;

use crate::fleet::name;
use crate::records::Records;
use crate::stage::Stage;

pub async fn slots_fired_once(stage: &Stage, records: &Records) {
    let slots = stage.store.slots("tick", 1_000).await.expect("slots");
    assert!(!slots.is_empty(), "[slots] the schedule fired");
    let distinct: HashSet<Timestamp> = slots.iter().map(|slot| slot.slot).collect();
    assert_eq!(distinct.len(), slots.len(), "[slots] a slot is decided once");
    let mut of_slots: HashMap<Timestamp, u32> = HashMap::new();
    for record in &records.tasks {
        if let TaskSource::Schedule { slot, .. } = &record.task.source {
            *of_slots.entry(*slot).or_default() += 1;
            assert_eq!(slot.0 % 5_000_000, 0, "[slots] slots are anchored to the clock");
        }
    }
    for slot in &slots {
        let expected = u32::from(slot.state == SlotState::Fired);
        assert_eq!(of_slots.get(&slot.slot).copied().unwrap_or(0), expected, "[slots] {slot:?}");
        assert!(slot.decided_at >= slot.slot, "[slots] no slot is early");
    }
}

pub fn callbacks_arrived(stage: &Stage, records: &Records) {
    let mut arrived: HashMap<String, HashSet<OutboxId>> = HashMap::new();
    for (id, payload) in stage.callbacks.bodies() {
        arrived.entry(payload["task_id"].as_str().expect("a task").to_owned()).or_default().insert(id);
    }
    for record in records.tasks.iter().filter(|record| record.task.callback_url.is_some()) {
        let ids = arrived.get(&record.task.id.to_string()).map_or(0, HashSet::len);
        assert_eq!(ids, 1, "[callbacks] task {} called back under one id", record.task.id);
    }
}

pub fn events_started_one_task_each(records: &Records) {
    let mut started = records.heard();
    for record in records.tasks.iter().filter(|record| record.task.agent == name("team")) {
        let count = started.remove(&record.task.id.to_string()).unwrap_or(0);
        assert_eq!(count, 1, "[events] the end of {} started {count} tasks of its listener", record.task.id);
    }
    assert!(started.is_empty(), "[events] nothing started from nowhere: {started:?}");
}
