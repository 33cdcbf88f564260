//! What a process measures of its own work. Sums over processes are those of the deployment.

use std::time::Duration;

use agentry_core::agent::ExecutionMode;
use agentry_core::task::{Task, TaskStatus};
use agentry_core::time::Timestamp;
use agentry_store::{Delivery, FiringResult};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds of times of tasks, in seconds: model calls take seconds, people take hours.
const TASK_TIMES: [f64; 17] =
    [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0, 86_400.0];
/// Upper bounds of writes and of lateness, in seconds.
const SHORT_TIMES: [f64; 12] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfMode {
    mode: &'static str,
}

impl OfMode {
    fn new(mode: ExecutionMode) -> Self {
        Self { mode: mode.as_str() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEnd {
    mode: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDelivery {
    kind: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfWrite {
    write: &'static str,
}

/// A histogram for each value of a label.
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// What is measured. Clones share their numbers.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Places for tasks.
    pub(crate) slots: Gauge,
    /// Tasks that execute.
    pub(crate) busy: Gauge,
    /// Tasks that were taken up again because their owner had died.
    pub(crate) recovered: Counter,
    pub(crate) orphaned: Counter,
    /// Tasks that were claimed without a wake, long after they were due.
    pub(crate) unwoken: Counter,
    started: Histograms<OfMode>,
    retried: Family<OfMode, Counter>,
    ended: Family<OfEnd, Counter>,
    durations: Histograms<OfMode>,
    slots_decided: Family<OfResult, Counter>,
    lateness: Histogram,
    deliveries: Family<OfDelivery, Counter>,
    writes: Histograms<OfWrite>,
}

impl Default for Metrics {
    fn default() -> Self {
        let of_tasks: fn() -> Histogram = || Histogram::new(TASK_TIMES);
        Self {
            slots: Gauge::default(),
            busy: Gauge::default(),
            recovered: Counter::default(),
            orphaned: Counter::default(),
            unwoken: Counter::default(),
            started: Family::new_with_constructor(of_tasks),
            retried: Family::default(),
            ended: Family::default(),
            durations: Family::new_with_constructor(of_tasks),
            slots_decided: Family::default(),
            lateness: Histogram::new(SHORT_TIMES),
            deliveries: Family::default(),
            writes: Family::new_with_constructor(|| Histogram::new(SHORT_TIMES)),
        }
    }
}

impl Metrics {
    /// Shows everything in a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("agentry_worker_slots", "Places for tasks in this process", self.slots.clone());
        registry.register("agentry_worker_slots_busy", "Tasks that execute in this process", self.busy.clone());
        let help = "Tasks that were taken up again because their owner had died";
        registry.register("agentry_tasks_recovered", help, self.recovered.clone());
        let help = "Tasks that this worker owned and did not run, handed back: claims whose answers were lost";
        registry.register("agentry_tasks_orphaned", help, self.orphaned.clone());
        let help = "Tasks whose wake was lost, found in the store";
        registry.register("agentry_tasks_unwoken", help, self.unwoken.clone());
        let help = "Attempts that failed and are followed by another";
        registry.register("agentry_task_retries", help, self.retried.clone());
        registry.register("agentry_tasks_ended", "Tasks that ended in this process, by status", self.ended.clone());
        let help = "Time from the acceptance of a task to its first start";
        registry.register("agentry_task_wait_seconds", help, self.started.clone());
        let help = "Time from the acceptance of a task to its end";
        registry.register("agentry_task_duration_seconds", help, self.durations.clone());
        let help = "Slots of schedules that this process decided, by what became of them";
        registry.register("agentry_schedule_slots", help, self.slots_decided.clone());
        let help = "Time from a slot to the moment at which its task was durable";
        registry.register("agentry_schedule_lateness_seconds", help, self.lateness.clone());
        let help = "Tries to send a message of the outbox, by kind and by how they ended";
        registry.register("agentry_outbox_deliveries", help, self.deliveries.clone());
        let help = "Time until a write of a worker was durable, with all its tries";
        registry.register("agentry_store_write_seconds", help, self.writes.clone());
    }

    /// A task begins for the first time.
    pub(crate) fn started(&self, task: &Task, now: Timestamp) {
        self.started.get_or_create(&OfMode::new(task.mode)).observe(seconds(now.since(task.created_at)));
    }

    /// What a write says about its task is durable.
    pub(crate) fn settled(&self, task: &Task, status: TaskStatus, is_retry: bool, now: Timestamp) {
        if is_retry {
            self.retried.get_or_create(&OfMode::new(task.mode)).inc();
        }
        if status.is_terminal() {
            let of = OfEnd { mode: task.mode.as_str(), status: status.as_str() };
            self.ended.get_or_create(&of).inc();
            self.durations.get_or_create(&OfMode::new(task.mode)).observe(seconds(now.since(task.created_at)));
        }
    }

    /// A slot was decided, or waits.
    pub(crate) fn decided(&self, slot: Timestamp, result: FiringResult, now: Timestamp) {
        let result = match result {
            FiringResult::Fired(_) => {
                self.lateness.observe(seconds(now.since(slot)));
                "fired"
            }
            FiringResult::Skipped => "skipped",
            FiringResult::Missed => "missed",
            // Another process was faster and counts it, or it is asked for again.
            FiringResult::AlreadyDecided | FiringResult::Deferred | FiringResult::NotActive => return,
        };
        self.slots_decided.get_or_create(&OfResult { result }).inc();
    }

    /// A message of the outbox was tried.
    pub(crate) fn delivered(&self, kind: &'static str, delivery: &Delivery) {
        let result = match delivery {
            Delivery::Sent => "sent",
            Delivery::RetryAt(_) => "retried",
            Delivery::Dead(_) => "given_up",
        };
        self.deliveries.get_or_create(&OfDelivery { kind, result }).inc();
    }

    /// A write of a worker is durable.
    pub(crate) fn wrote(&self, write: &'static str, took: Duration) {
        self.writes.get_or_create(&OfWrite { write }).observe(seconds(took));
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
