//! The invariants of DESIGN §3, read off the store after a history.

use std::collections::{HashMap, HashSet};

use agentry_core::id::{CallId, OutboxId, TaskId};
use agentry_core::journal::{JournalBody, JournalEntry};
use agentry_core::money::CallStatus;
use agentry_core::session::SessionId;
use agentry_core::task::{TaskRecord, TaskSource, TaskStatus};
use agentry_core::time::Timestamp;
use agentry_store::{SlotState, TaskFilter, UsageGroup};

use crate::fleet::name;
use crate::world::{World, runtime};

pub fn all(world: &World) {
    runtime().block_on(async {
        let tasks = all_tasks(world).await;
        every_accepted_task_ended_once(world, &tasks);
        no_answered_call_was_bought_twice(world, &tasks).await;
        sessions_are_linear(world, &tasks).await;
        slots_fired_once(world, &tasks).await;
        callbacks_arrived(world, &tasks);
        events_started_one_task_each(&tasks);
        sums_equal_rows(world, &tasks).await;
    });
}

/// Every task of the store, also those that slots and events started.
pub async fn all_tasks(world: &World) -> Vec<TaskRecord> {
    let mut tasks: Vec<TaskRecord> = Vec::new();
    loop {
        let before = tasks.last().map(|record| record.task.id);
        let page = world.store.tasks(&TaskFilter::default(), before, 500).await.expect("tasks");
        tasks.extend(page.items);
        if !page.more {
            return tasks;
        }
    }
}

async fn journal(world: &World, task: TaskId) -> Vec<JournalEntry> {
    world.store.journal(task, 0, 10_000).await.expect("a journal")
}

/// How often a task was taken up after its owner died: the proof that the kills bit.
pub fn recoveries(world: &World) -> u64 {
    runtime().block_on(async {
        let mut count = 0;
        for task in &world.accepted {
            let entries = journal(world, task.id).await;
            count += entries.iter().filter(|entry| matches!(entry.body, JournalBody::Recovered { .. })).count() as u64;
        }
        count
    })
}

fn every_accepted_task_ended_once(world: &World, tasks: &[TaskRecord]) {
    let by_id: HashMap<TaskId, &TaskRecord> = tasks.iter().map(|record| (record.task.id, record)).collect();
    assert_eq!(by_id.len(), tasks.len(), "a task is listed once");
    for task in &world.accepted {
        let record = by_id.get(&task.id).unwrap_or_else(|| panic!("accepted task {} is gone", task.id));
        assert!(record.status.is_terminal(), "{} is {}", task.id, record.status);
        let outcome = record.outcome.as_ref().expect("an ended task has an outcome");
        assert_eq!(outcome.status, record.status);
        assert!(record.finished_at.is_some() && record.owner.is_none());
    }
}

/// Within one attempt, the answer to one turn of one scope comes from one call, however often it was written.
async fn no_answered_call_was_bought_twice(world: &World, tasks: &[TaskRecord]) {
    let answered: HashSet<CallId> = world.model.answered().into_iter().collect();
    for record in tasks {
        let mut turns: HashMap<(u32, String, u32), HashSet<CallId>> = HashMap::new();
        let mut numbers = Vec::new();
        for entry in journal(world, record.task.id).await {
            numbers.push(entry.seq);
            if let JournalBody::ModelCompleted { call, turn, .. } = entry.body {
                assert!(answered.contains(&call), "the journal knows an answer that the model never gave");
                turns.entry((entry.attempt, entry.scope.as_str().to_owned(), turn)).or_default().insert(call);
            }
        }
        let expected: Vec<u32> = (1..=u32::try_from(numbers.len()).expect("few")).collect();
        assert_eq!(numbers, expected, "the journal of {} has no gaps", record.task.id);
        for (turn, calls) in turns {
            assert_eq!(calls.len(), 1, "task {}: {turn:?} was bought {} times", record.task.id, calls.len());
        }
    }
}

async fn sessions_are_linear(world: &World, tasks: &[TaskRecord]) {
    for key in ["s0", "s1"] {
        let id = SessionId::new(&name("chat"), key);
        let messages = world.store.messages(&id, 0, 1_000).await.expect("messages");
        for (index, message) in messages.iter().enumerate() {
            assert_eq!(message.number, index as u64 + 1, "no gaps and no forks in {id}");
        }
        // Each turn is a user's message and an answer; the turns stand in the order of acceptance.
        let turns: Vec<TaskId> = messages.chunks(2).map(|turn| turn[0].task).collect();
        let expected: Vec<TaskId> = world
            .accepted
            .iter()
            .filter(|task| task.session.as_ref() == Some(&id))
            .filter(|task| tasks.iter().any(|r| r.task.id == task.id && r.status == TaskStatus::Completed))
            .map(|task| task.id)
            .collect();
        assert_eq!(turns, expected, "session {id} holds its completed turns in order");
        for turn in messages.chunks(2) {
            assert_eq!(turn[0].task, turn[1].task);
            assert_eq!(turn[1].message.content(), format!("echo: {}", turn[0].message.content()));
        }
    }
}

async fn slots_fired_once(world: &World, tasks: &[TaskRecord]) {
    let slots = world.store.slots("tick", 1_000).await.expect("slots");
    assert!(!slots.is_empty(), "the schedule fired");
    let distinct: HashSet<Timestamp> = slots.iter().map(|slot| slot.slot).collect();
    assert_eq!(distinct.len(), slots.len());
    let mut of_slots: HashMap<Timestamp, u32> = HashMap::new();
    for record in tasks {
        if let TaskSource::Schedule { slot, .. } = &record.task.source {
            *of_slots.entry(*slot).or_default() += 1;
            assert_eq!(slot.0 % 5_000_000, 0, "slots are anchored to the clock");
        }
    }
    for slot in &slots {
        let expected = u32::from(slot.state == SlotState::Fired);
        assert_eq!(of_slots.get(&slot.slot).copied().unwrap_or(0), expected, "{slot:?}");
        assert!(slot.decided_at >= slot.slot, "no slot is early");
    }
}

fn callbacks_arrived(world: &World, tasks: &[TaskRecord]) {
    let mut arrived: HashMap<String, HashSet<OutboxId>> = HashMap::new();
    for (id, payload) in world.callbacks.bodies() {
        arrived.entry(payload["task_id"].as_str().expect("a task").to_owned()).or_default().insert(id);
    }
    for record in tasks.iter().filter(|record| record.task.callback_url.is_some()) {
        let ids = arrived.get(&record.task.id.to_string()).map_or(0, HashSet::len);
        assert_eq!(ids, 1, "task {} called back under one id", record.task.id);
    }
}

fn events_started_one_task_each(tasks: &[TaskRecord]) {
    let mut started: HashMap<String, u32> = HashMap::new();
    for record in tasks {
        if let TaskSource::Event { id, .. } = &record.task.source {
            *started.entry(id.clone()).or_default() += 1;
        }
    }
    for record in tasks.iter().filter(|record| record.task.agent == name("team")) {
        let count = started.remove(&record.task.id.to_string()).unwrap_or(0);
        assert_eq!(count, 1, "the end of {} started {count} tasks of its listener", record.task.id);
    }
    assert!(started.is_empty(), "nothing started from nowhere: {started:?}");
}

async fn sums_equal_rows(world: &World, tasks: &[TaskRecord]) {
    let answered: HashSet<CallId> = world.model.answered().into_iter().collect();
    let (mut rows, mut completed) = (0_u64, HashSet::new());
    for record in tasks {
        let ledger = world.store.ledger(record.task.id).await.expect("a ledger");
        assert_eq!(
            u64::from(record.spent.llm_calls),
            ledger.len() as u64,
            "spent counts the rows of {}",
            record.task.id
        );
        for row in &ledger {
            if row.status == CallStatus::Completed {
                assert!(completed.insert(row.call), "one row per call");
                assert!(answered.contains(&row.call));
            }
        }
        rows += ledger.len() as u64;
    }
    let sums = world.store.usage(UsageGroup::Agent, Timestamp(0), Timestamp(i64::MAX)).await.expect("usage");
    assert_eq!(sums.iter().map(|sum| sum.calls).sum::<u64>(), rows, "sums are taken from rows (seed {})", world.seed);
}
