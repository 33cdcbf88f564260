//! One life of the orchestrator: faults and work, and one of three ends.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use agentry_bus::EmbeddedBus;
use agentry_core::id::{CallId, TaskId, WorkerId};
use agentry_core::journal::JournalBody;
use agentry_core::money::NanoUsd;
use agentry_core::task::TaskStatus;
use agentry_core::time::{Clock, Timestamp};
use agentry_store::{Reservation, ReserveResult};
use agentry_testkit::{FaultyBus, SeededRng};

use crate::fleet::{BUDGETED, PER_DAY, name};
use crate::people;
use crate::records::Records;
use crate::stage::{self, Stage};

/// Tasks submitted in a life.
const TASKS: u64 = 9;
/// Time of a clean drain.
const DRAIN: Duration = Duration::from_secs(30);
/// Time after the last fault within which everything must have ended in the same life: longer than all retries,
/// timeouts, leases and pending calls together.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// kill -9: nothing is released, nothing is written.
    Kill,
    /// A drain while faults continue.
    DrainInFaults,
    /// A drain after the faults have stopped.
    Drain,
    /// No end: the faults stop, and everything must end without a restart.
    LiveOn,
}

impl End {
    pub fn roll(dice: &SeededRng) -> Self {
        match dice.below(10) {
            0..5 => Self::Kill,
            5..7 => Self::DrainInFaults,
            7..9 => Self::Drain,
            _ => Self::LiveOn,
        }
    }
}

/// Runs a life until this end.
pub fn live(stage: &Arc<Stage>, end: End) {
    let runtime = stage::runtime();
    runtime.block_on(async {
        stage.clock.enter();
        stage.set_faulty(true);
        let first_call = stage.model.calls().len();
        let bus = stage.bus(Arc::new(EmbeddedBus::new()));
        let running = stage.start(bus.clone()).await;
        let worker = running.worker();
        let meddling = tokio::spawn(people::meddle(Arc::clone(stage), bus.clone()));
        let outages = tokio::spawn(people::outages(Arc::clone(stage), bus.clone()));
        for _ in 0..TASKS {
            people::submit(stage, &*bus).await;
            tokio::time::sleep(stage.millis_below(900)).await;
        }
        tokio::time::sleep(stage.millis_below(6_000)).await;
        if matches!(end, End::Drain | End::LiveOn) {
            outages.abort();
            meddling.abort();
            bus.heal();
            stage.set_faulty(false);
        }
        match end {
            End::Kill => {}
            End::DrainInFaults => {
                running.drain(DRAIN).await;
            }
            End::Drain => {
                if !running.drain(DRAIN).await.clean {
                    stage.violation("[drain] a drain after the last fault is not clean");
                }
                is_gone(stage, worker).await;
            }
            End::LiveOn => {
                settle(stage, &bus).await;
                if !running.drain(DRAIN).await.clean {
                    stage.violation("[drain] an orchestrator without open tasks does not drain cleanly");
                }
            }
        }
        if matches!(end, End::Kill | End::DrainInFaults) {
            let calls = calls_in_flight(stage, first_call).await;
            stage.kill_calls(calls);
        }
        was_not_buried_alive(stage, worker).await;
        stage.counts.add(format!("life.{end:?}").to_lowercase());
        for (fault, count) in bus.counts() {
            (0..count).for_each(|_| stage.counts.add(fault.clone()));
        }
        stage.clock.leave();
    });
    drop(runtime);
    stage::runtime().block_on(stage.faulty.carry_out_orphans());
}

/// Checks that a drained worker is not registered any more.
async fn is_gone(stage: &Stage, worker: WorkerId) {
    let workers = stage.store.workers(stage.clock.now()).await.expect("workers");
    if workers.iter().any(|record| record.id == worker) {
        stage.violation("[drain] a drained worker is still registered");
    }
}

/// Checks that no worker was declared dead while it lived, because its tasks would be started twice.
async fn was_not_buried_alive(stage: &Stage, worker: WorkerId) {
    let records = Records::read(stage).await;
    for record in &records.tasks {
        let id = record.task.id;
        let buried = |body: &JournalBody| matches!(body, JournalBody::Recovered { worker: of } if *of == worker);
        if records.journal(id).iter().any(|entry| buried(&entry.body)) {
            stage.violation(format!("[liveness] task {id} was taken from a worker that lives: {}", records.story(id)));
        }
    }
}

/// Returns the calls of this life that a kill interrupts now: those of running tasks whose rows are not written. Calls
/// of other tasks must be written already.
async fn calls_in_flight(stage: &Stage, first_call: usize) -> Vec<CallId> {
    let records = Records::read(stage).await;
    let of_this_life: HashSet<CallId> = stage.model.calls()[first_call..].iter().map(|call| call.id).collect();
    let mut calls = Vec::new();
    for record in records.tasks.iter().filter(|record| record.status == TaskStatus::Running) {
        let written: HashSet<CallId> = records.ledger(record.task.id).iter().map(|row| row.call).collect();
        for entry in records.journal(record.task.id).iter().filter(|entry| entry.attempt == record.attempt) {
            if let JournalBody::ModelStarted { call, .. } = entry.body
                && of_this_life.contains(&call)
                && !written.contains(&call)
            {
                calls.push(call);
            }
        }
    }
    calls
}

/// Waits until all accepted work has ended and was delivered, without a restart.
async fn settle(stage: &Stage, bus: &FaultyBus) {
    let healed_at = stage.clock.now();
    let deadline = healed_at.after(PATIENCE);
    loop {
        people::answer_questions(stage, bus, 100).await;
        let open = unsettled(stage, healed_at).await;
        // Only then: checking a reservation releases stale ones.
        let reserved = if open.is_empty() { reserved(stage).await } else { Vec::new() };
        if open.is_empty() && reserved.is_empty() {
            return;
        }
        if stage.clock.now() >= deadline {
            let patience = PATIENCE.as_secs();
            if !open.is_empty() {
                stage.violation(format!(
                    "[no-restart] not ended {patience} s after the last fault without a restart: {open:#?}"
                ));
            }
            reserved.into_iter().for_each(|text| stage.violation(text));
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Returns the tasks that have not ended, and the undelivered callbacks and events of ended ones. Recent tasks of the
/// ticking schedule are ignored.
async fn unsettled(stage: &Stage, healed_at: Timestamp) -> Vec<String> {
    let records = Records::read_tasks(stage).await;
    let ticks = |created_at: Timestamp, agent: &str| agent == "tick" && created_at >= healed_at;
    let mut open: Vec<String> = records
        .tasks
        .iter()
        .filter(|record| !record.status.is_terminal() && !ticks(record.task.created_at, record.task.agent.as_str()))
        .map(|record| {
            format!("task {} of {}: {} in attempt {}", record.task.id, record.task.agent, record.status, record.attempt)
        })
        .collect();
    let called_back: HashSet<String> =
        stage.callbacks.bodies().iter().filter_map(|(_, body)| body["task_id"].as_str().map(str::to_owned)).collect();
    let heard = records.heard();
    for record in records.tasks.iter().filter(|record| record.status.is_terminal()) {
        let id = record.task.id.to_string();
        if record.task.callback_url.is_some() && !called_back.contains(&id) {
            open.push(format!("the callback of task {id} of {}", record.task.agent));
        }
        if record.task.agent == name("team") && !heard.contains_key(&id) {
            open.push(format!("the event of task {id} of team"));
        }
    }
    open
}

/// Returns money that is reserved though every task has ended, while the worker lives.
async fn reserved(stage: &Stage) -> Vec<String> {
    let mut found = Vec::new();
    for agent in BUDGETED {
        let probe = Reservation {
            call: CallId::from_parts(1, 1),
            task: TaskId::from_parts(1, 1),
            agent: name(agent),
            worker: WorkerId::from_parts(1, 1),
            amount: NanoUsd(PER_DAY.0 + 1),
            cap: PER_DAY,
            now: stage.clock.now(),
        };
        let ReserveResult::OverCap { reserved, .. } = stage.store.reserve(probe).await.expect("an answer") else {
            panic!("more than the cap was reserved")
        };
        if reserved != NanoUsd::ZERO {
            found.push(format!("[reservations] {reserved} of {agent} stay reserved for no call"));
        }
    }
    found
}
