//! Metrics of the process: CPU time, memory, open files, and delays of its executor.

use std::fmt;
use std::time::Duration;

use agentry_config::Engine;
use procfs::process::Process;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::runtime::RuntimeMetrics;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use crate::engine;

/// Interval of measurements of the executor: short enough to detect a stall of 50 ms, at negligible cost.
const TICK: Duration = Duration::from_millis(20);
/// Buckets of executor delays, in seconds.
const DELAY_BUCKETS: [f64; 9] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];

/// Measures the executor until dropped.
pub struct ExecutorMonitor(#[expect(dead_code, reason = "held for its drop")] AbortOnDropHandle<()>);

/// Registers the metrics of the process and starts measuring its executor. Must be called within a runtime.
pub fn register(registry: &mut Registry, engine: Engine) -> ExecutorMonitor {
    let labels = vec![("version", env!("CARGO_PKG_VERSION")), ("engine", engine::word(engine))];
    registry.register("agentry_build", "Which Agentry this is", Info::new(labels));
    let stalls = Histogram::new(DELAY_BUCKETS);
    let help = "How much later than asked a timer ran: tasks that do not yield, or too little processor";
    registry.register("agentry_executor_delay_seconds", help, stalls.clone());
    registry.register_collector(Box::new(ProcessCollector { executor: tokio::runtime::Handle::current().metrics() }));
    ExecutorMonitor(AbortOnDropHandle::new(tokio::spawn(watch(stalls))))
}

async fn watch(stalls: Histogram) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = ticks.tick().await;
        stalls.observe(Instant::now().saturating_duration_since(due).as_secs_f64());
    }
}

/// Collects the metrics of the process on each scrape.
struct ProcessCollector {
    executor: RuntimeMetrics,
}

impl fmt::Debug for ProcessCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vitals").finish_non_exhaustive()
    }
}

#[allow(clippy::cast_precision_loss, reason = "for display")]
impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let workers = 0..self.executor.num_workers();
        let busy: Duration = workers.map(|worker| self.executor.worker_total_busy_duration(worker)).sum();
        let help = "Time that the executor's threads were not idle.";
        counter(&mut encoder, "agentry_executor_busy_seconds", help, busy.as_secs_f64())?;
        let (tasks, queue) = (self.executor.num_alive_tasks(), self.executor.global_queue_depth());
        gauge(&mut encoder, "agentry_executor_tasks", "Futures that the executor drives.", tasks as f64)?;
        gauge(
            &mut encoder,
            "agentry_executor_queue_depth",
            "Futures that wait in the executor's queue.",
            queue as f64,
        )?;
        // Without access to procfs the other metrics are exported.
        let Ok(process) = Process::myself() else { return Ok(()) };
        if let Ok(stat) = process.stat() {
            let seconds = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
            counter(&mut encoder, "agentry_process_cpu_seconds", "Processor time, user and system.", seconds)?;
            let resident = stat.rss * procfs::page_size();
            gauge(&mut encoder, "agentry_process_resident_memory_bytes", "Resident memory.", resident as f64)?;
            gauge(&mut encoder, "agentry_process_threads", "Threads.", stat.num_threads as f64)?;
        }
        if let Ok(open) = process.fd_count() {
            gauge(&mut encoder, "agentry_process_open_files", "Open file descriptors.", open as f64)?;
        }
        Ok(())
    }
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}
