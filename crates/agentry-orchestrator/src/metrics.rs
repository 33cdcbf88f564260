//! Metrics of a process's own work. The sum over all processes is that of the deployment.

use std::time::Duration;

use agentry_core::task::{Task, TaskStatus};
use agentry_core::time::Timestamp;
use agentry_store::{Delivery, FiringResult};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Histogram buckets of task times, in seconds: model calls take seconds, people take hours.
const TASK_TIMES: [f64; 17] =
    [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0, 86_400.0];
/// Histogram buckets of writes and of lateness, in seconds.
const SHORT_TIMES: [f64; 12] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Names and values of labels.
type Labels<const N: usize> = [(&'static str, &'static str); N];

type Histograms = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// The metrics of an orchestrator. Clones share their values.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Capacity of this worker, in tasks.
    pub(crate) slots: Gauge,
    /// Executing tasks.
    pub(crate) busy: Gauge,
    /// Tasks resumed after the death of their owner.
    pub(crate) recovered: Counter,
    pub(crate) orphaned: Counter,
    /// Tasks claimed from the store because their wake was lost.
    pub(crate) missed_wakes: Counter,
    started: Histograms,
    retried: Family<Labels<1>, Counter>,
    ended: Family<Labels<2>, Counter>,
    durations: Histograms,
    slots_decided: Family<Labels<1>, Counter>,
    lateness: Histogram,
    deliveries: Family<Labels<2>, Counter>,
    writes: Histograms,
}

impl Default for Metrics {
    fn default() -> Self {
        let task_times: fn() -> Histogram = || Histogram::new(TASK_TIMES);
        Self {
            slots: Gauge::default(),
            busy: Gauge::default(),
            recovered: Counter::default(),
            orphaned: Counter::default(),
            missed_wakes: Counter::default(),
            started: Family::new_with_constructor(task_times),
            retried: Family::default(),
            ended: Family::default(),
            durations: Family::new_with_constructor(task_times),
            slots_decided: Family::default(),
            lateness: Histogram::new(SHORT_TIMES),
            deliveries: Family::default(),
            writes: Family::new_with_constructor(|| Histogram::new(SHORT_TIMES)),
        }
    }
}

impl Metrics {
    /// Registers every metric.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("agentry_worker_slots", "Tasks that this process may execute at once", self.slots.clone());
        registry.register("agentry_worker_slots_busy", "Tasks that this process executes", self.busy.clone());
        let help = "Tasks resumed after the death of their owner";
        registry.register("agentry_tasks_recovered", help, self.recovered.clone());
        let help = "Tasks released because this worker owned and did not run them: claims whose answers were lost";
        registry.register("agentry_tasks_orphaned", help, self.orphaned.clone());
        let help = "Tasks claimed from the store because their wake was lost";
        registry.register("agentry_missed_wakeups", help, self.missed_wakes.clone());
        let help = "Former name of agentry_missed_wakeups_total; will be removed in the next release";
        registry.register("agentry_tasks_unwoken", help, self.missed_wakes.clone());
        let help = "Failed attempts that are followed by another one";
        registry.register("agentry_task_retries", help, self.retried.clone());
        registry.register("agentry_tasks_ended", "Tasks that ended in this process, by status", self.ended.clone());
        let help = "Time from the acceptance of a task to its first start";
        registry.register("agentry_task_wait_seconds", help, self.started.clone());
        let help = "Time from the acceptance of a task to its end";
        registry.register("agentry_task_duration_seconds", help, self.durations.clone());
        let help = "Schedule slots that this process decided, by result";
        registry.register("agentry_schedule_slots", help, self.slots_decided.clone());
        let help = "Time from a slot to the moment at which its task was durable";
        registry.register("agentry_schedule_lateness_seconds", help, self.lateness.clone());
        let help = "Attempts to deliver an outbox message, by kind and result";
        registry.register("agentry_outbox_deliveries", help, self.deliveries.clone());
        let help = "Time until a write of a worker was durable, including retries";
        registry.register("agentry_store_write_seconds", help, self.writes.clone());
    }

    /// Records the first start of a task.
    pub(crate) fn started(&self, task: &Task, now: Timestamp) {
        self.started.get_or_create(&[("mode", task.mode.as_str())]).observe(seconds(now.since(task.created_at)));
    }

    /// Counts a durable write that changed the state of a task.
    pub(crate) fn settled(&self, task: &Task, status: TaskStatus, is_retry: bool, now: Timestamp) {
        if is_retry {
            self.retried.get_or_create(&[("mode", task.mode.as_str())]).inc();
        }
        if status.is_terminal() {
            let labels = [("mode", task.mode.as_str()), ("status", status.as_str())];
            self.ended.get_or_create(&labels).inc();
            self.durations.get_or_create(&[("mode", task.mode.as_str())]).observe(seconds(now.since(task.created_at)));
        }
    }

    /// Records the decision on a slot.
    pub(crate) fn decided(&self, slot: Timestamp, result: FiringResult, now: Timestamp) {
        let result = match result {
            FiringResult::Fired(_) => {
                self.lateness.observe(seconds(now.since(slot)));
                "fired"
            }
            FiringResult::Skipped => "skipped",
            FiringResult::Missed => "missed",
            // Another process decided and counted the slot, or it will be decided later.
            FiringResult::AlreadyDecided | FiringResult::Deferred | FiringResult::NotActive => return,
        };
        self.slots_decided.get_or_create(&[("result", result)]).inc();
    }

    /// Records an attempt to deliver an outbox message.
    pub(crate) fn delivered(&self, kind: &'static str, delivery: &Delivery) {
        let result = match delivery {
            Delivery::Sent => "sent",
            Delivery::RetryAt(_) => "retried",
            Delivery::Dead(_) => "given_up",
        };
        self.deliveries.get_or_create(&[("kind", kind), ("result", result)]).inc();
    }

    /// Records a durable write of a worker.
    pub(crate) fn wrote(&self, write: &'static str, took: Duration) {
        self.writes.get_or_create(&[("write", write)]).observe(seconds(took));
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
