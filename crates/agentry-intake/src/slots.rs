//! Slots of schedules.

use std::sync::Arc;

use agentry_core::schedule::ScheduleRecord;
use agentry_core::task::{Submission, Task};
use agentry_core::time::Timestamp;
use agentry_core::trace::Trace;
use agentry_store::{Firing, FiringResult, StoreError};

use crate::{Intake, Order, Refusal, SubmitResult};

/// Number of slots that a backfill decides in one transaction.
const PIECE: usize = 500;

/// A slot to decide.
#[derive(Debug, Clone)]
pub struct DueSlot<'s> {
    /// Schedule.
    pub schedule: &'s ScheduleRecord,
    /// Nominal time.
    pub slot: Timestamp,
    /// True if the task may still start; otherwise the slot is recorded as missed.
    pub is_in_time: bool,
    /// Earliest start; `None` for immediately.
    pub not_before: Option<Timestamp>,
    /// Trace context of the task.
    pub trace: Trace,
    /// Maximum number of open tasks of the schedule at which the slot still fires.
    pub max_open: u32,
    /// True to buffer the slot if too many tasks are open; otherwise it is skipped.
    pub buffer: bool,
}

/// The decision on a slot.
#[derive(Debug, Clone)]
pub struct FiredSlot {
    /// The store's decision.
    pub result: FiringResult,
    /// Task of a slot that fired. If it is delayed, the caller must wake a worker for it later ([`Intake::wake`]).
    pub task: Option<Arc<Task>>,
}

impl Intake {
    /// Decides slots, each once over all processes, and creates the tasks of those that fire. Workers are woken for the
    /// tasks that are due; a slot whose agent accepts no tasks is recorded as missed.
    ///
    /// # Errors
    /// Fails when the store is unavailable: slots that were decided nevertheless are decided again with the same
    /// result.
    pub async fn fire(&self, slots: &[DueSlot<'_>]) -> Result<Vec<FiredSlot>, StoreError> {
        let firing = |due: &DueSlot<'_>| Firing {
            schedule: due.schedule.name.clone(),
            slot: due.slot,
            task: due.is_in_time.then(|| self.task_of_slot(due)).flatten(),
            max_open: due.max_open,
            buffer: due.buffer,
            backfill: false,
        };
        self.decide(slots.iter().map(firing).collect()).await
    }

    fn task_of_slot(&self, due: &DueSlot<'_>) -> Option<Arc<Task>> {
        let fleet = self.fleet();
        let spec = fleet.live(&due.schedule.agent)?;
        let not_before = due.not_before;
        let submission = Submission { not_before, ..Submission::of_slot(due.schedule, due.slot, due.trace) };
        Some(Arc::new(Task::new(spec, submission, self.new_task_id(), self.now())))
    }

    async fn decide(&self, firings: Vec<Firing>) -> Result<Vec<FiredSlot>, StoreError> {
        let offered: Vec<Option<Arc<Task>>> = firings.iter().map(|firing| firing.task.clone()).collect();
        self.deployment().settle().await?;
        let results = self.store().fire(firings, self.now()).await?;
        let mut due = Vec::new();
        let decided = results.into_iter().zip(offered).map(|(result, offered)| {
            let fired = offered.filter(|_| matches!(result, FiringResult::Fired(_)));
            due.extend(fired.clone().filter(|task| task.not_before.is_none()));
            FiredSlot { result, task: fired }
        });
        let decided = decided.collect();
        self.wake(due);
        Ok(decided)
    }

    /// Fires past slots that are undecided or were missed, whatever the overlap policy is. Returns their number.
    ///
    /// # Errors
    /// Fails with [`Refusal`] when the schedule's agent accepts no tasks, or the store is unavailable; some slots may
    /// have fired.
    pub async fn backfill(
        &self,
        schedule: &ScheduleRecord,
        slots: &[Timestamp],
        trace: Trace,
    ) -> Result<usize, Refusal> {
        let fleet = self.fleet();
        let spec = self.deployment().live(&fleet, schedule.agent.as_str())?;
        let firing = |slot: &Timestamp| {
            let submission = Submission::of_slot(schedule, *slot, trace);
            let task = Arc::new(Task::new(spec, submission, self.new_task_id(), self.now()));
            let schedule = schedule.name.clone();
            Firing { schedule, slot: *slot, task: Some(task), max_open: u32::MAX, buffer: false, backfill: true }
        };
        let mut fired = 0;
        for piece in slots.chunks(PIECE) {
            let decided = self.decide(piece.iter().map(firing).collect()).await?;
            fired += decided.iter().filter(|slot| slot.task.is_some()).count();
        }
        Ok(fired)
    }

    /// Accepts a task with a schedule's input and timeout now. No slot is consumed.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn trigger(&self, schedule: &ScheduleRecord, trace: Trace) -> Result<Arc<Task>, Refusal> {
        let mut submission = Submission::of_slot(schedule, self.now(), trace);
        submission.source = agentry_core::task::TaskSource::Api;
        let order = Order { agent: schedule.agent.to_string(), submission };
        match self.submit(vec![order]).await?.pop() {
            Some(Ok(SubmitResult::New(task))) => Ok(task),
            Some(Err(refusal)) => Err(refusal),
            Some(Ok(SubmitResult::Duplicate(_))) | None => {
                Err(StoreError::Broken("the store gave no answer for a task".to_owned()).into())
            }
        }
    }
}
