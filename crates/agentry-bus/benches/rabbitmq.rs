//! Benchmarks of events over RabbitMQ: 1 KiB, persistent, confirmed, consumed from a quorum queue, acknowledged. Our
//! publisher and consumer, each beside a bare client in the same run.
//!
//! Run `cargo bench -p agentry-bus --bench rabbitmq` with the broker of the tests. Each throughput is measured several
//! times in turn; the report has the median, the minimum and the maximum.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and a fault in it should stop it")]
#![allow(missing_docs, reason = "a program")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use agentry_bus::EventBus;
use agentry_bus::rabbitmq::{RabbitBus, RabbitOptions};
use agentry_core::agent::{ExecutionMode, ModeSet};
use agentry_core::event::Event;
use agentry_core::id::TaskId;
use agentry_core::task::{Task, TraceId};
use agentry_core::time::Timestamp;
use futures_util::{StreamExt, stream};
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

const EVENTS: usize = 20_000;
/// Largest number of events in flight per publisher.
const WINDOW: usize = 2_000;
const ROUNDS: usize = 3;
/// Rate of the latency measurement, in events per second.
const RATE: u32 = 500;
const LATENCY_EVENTS: usize = 5_000;
const WAKES: u64 = 200_000;
/// Interval of the CPU time measurement: a busy installation's tasks.
const TASKS_EVERY: Duration = Duration::from_millis(1);
const TASKS_AT_ONCE: usize = 10;
const TASK_SECONDS: u64 = 5;
/// Clock ticks per second in `/proc`; the same on every Linux.
const TICKS: f64 = 100.0;

fn url() -> String {
    std::env::var("AGENTRY_TEST_RABBITMQ_URL").unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let prefix = format!("agentry-bench-{}", TaskId::generate());
    let place = Arc::new(Place::new(&prefix).await);
    let (mut bare, mut out, mut incoming) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(place.throughput(Sender::Bare, Receiver::Bare).await);
        out.push(place.throughput(Sender::Ours, Receiver::Bare).await);
        incoming.push(place.throughput(Sender::Bare, Receiver::Ours).await);
    }
    let reference = print_rates("bare client to bare client", &mut bare, None);
    print_rates("our publisher to a bare client", &mut out, Some(reference));
    print_rates("bare client to our way in", &mut incoming, Some(reference));
    place.latency("bare client", Sender::Bare).await;
    place.latency("our publisher", Sender::Ours).await;
    place.wakes().await;
    place.cost_of_wakes().await;
    place.cost_of_signals(false).await;
    place.cost_of_signals(true).await;
    place.delete().await;
}

/// Prints a median with the minimum and the maximum; returns the median.
fn print_rates(name: &str, rates: &mut [f64], reference: Option<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    let median = rates[rates.len() / 2];
    let share = reference.map_or_else(String::new, |bare| format!(", {:.0} % of bare", 100.0 * median / bare));
    println!("{name}: {median:.0} events/s [{:.0}..{:.0}]{share}", rates[0], rates[rates.len() - 1]);
    median
}

#[derive(Clone, Copy)]
enum Sender {
    Bare,
    Ours,
}

#[derive(Clone, Copy)]
enum Receiver {
    Bare,
    Ours,
}

struct Place {
    prefix: String,
    bus: RabbitBus,
    worker: RabbitBus,
    publishing: Channel,
    consuming: Channel,
    /// Numbers the foreign queues: RabbitMQ 3.10 may fail to create a quorum queue under a name that was just deleted.
    queues: AtomicUsize,
    _connections: [Connection; 2],
}

fn event(id: usize) -> Event {
    Event {
        id: id.to_string(),
        source: "agentry/agents/writer".to_owned(),
        kind: "dev.agentry.task.completed.v1".to_owned(),
        topic: "agent.output.writer".to_owned(),
        time: Timestamp(1_700_000_000_123_456),
        trace_id: TraceId(0xabc),
        parent: None,
        hops: 1,
        data: serde_json::json!({"output": "x".repeat(720)}),
    }
}

/// Returns the same event as a foreign client would write it: about 1 KiB.
fn body(id: usize) -> Vec<u8> {
    let event = event(id);
    serde_json::to_vec(&serde_json::json!({
        "specversion": "1.0", "id": event.id, "source": event.source, "type": event.kind, "time": event.time,
        "datacontenttype": "application/json", "agentryhops": 1, "data": event.data,
        "traceparent": "00-00000000000000000000000000000abc-0000000000000abc-01",
    }))
    .unwrap()
}

/// Returns a task of the usual size.
fn task() -> Arc<Task> {
    let json = serde_json::json!({
        "id": TaskId::generate(), "agent": "writer", "mode": "autonomous", "input": "x".repeat(200),
        "source": {"kind": "api"}, "trace_id": "0000000000000000000000000000000a",
        "created_at": "2026-01-01T00:00:00Z", "timeout_ms": 1_000,
    });
    Arc::new(serde_json::from_value(json).unwrap())
}

/// Calls `something` 10,000 times a second, in batches every millisecond.
async fn at_a_fixed_rate(mut something: impl FnMut()) {
    let mut ticks = tokio::time::interval(TASKS_EVERY);
    for _ in 0..TASK_SECONDS * 1_000 {
        ticks.tick().await;
        (0..TASKS_AT_ONCE).for_each(|_| something());
    }
}

/// CPU time in seconds: of this process, and of all brokers on this machine.
struct Used {
    ours: f64,
    brokers: f64,
}

impl Used {
    fn now() -> Self {
        let processes = std::fs::read_dir("/proc").unwrap();
        let stats = processes.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok());
        let brokers = stats.filter(|stat| stat.contains("(beam.smp)")).map(|stat| seconds(&stat)).sum();
        Self { ours: seconds(&std::fs::read_to_string("/proc/self/stat").unwrap()), brokers }
    }

    fn print(&self, name: &str, count: usize) {
        let now = Self::now();
        let each = |seconds: f64| seconds * 1e6 / count as f64;
        let (ours, brokers) = (each(now.ours - self.ours), each(now.brokers - self.brokers));
        println!("{name}: {ours:.1} µs of processor time for both ends, {brokers:.1} µs for the broker");
    }
}

/// Parses user and system time of a line of `/proc/PID/stat`, whose second word is in brackets and may hold anything.
fn seconds(stat: &str) -> f64 {
    let words: Vec<&str> = stat[stat.rfind(')').unwrap() + 1..].split_whitespace().collect();
    (words[11].parse::<f64>().unwrap() + words[12].parse::<f64>().unwrap()) / TICKS
}

impl Place {
    async fn new(prefix: &str) -> Self {
        let options = || RabbitOptions { prefix: prefix.to_owned(), ..RabbitOptions::new(url()) };
        let connect = || async { Connection::connect(&url(), ConnectionProperties::default()).await.unwrap() };
        let connections = [connect().await, connect().await];
        let (publishing, consuming) =
            (connections[0].create_channel().await.unwrap(), connections[1].create_channel().await.unwrap());
        publishing.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        consuming.basic_qos(500, BasicQosOptions::default()).await.unwrap();
        Self {
            bus: RabbitBus::connect(options()).await.expect("run `cargo xtask services`"),
            worker: RabbitBus::connect(options()).await.unwrap(),
            prefix: prefix.to_owned(),
            publishing,
            consuming,
            queues: AtomicUsize::new(0),
            _connections: connections,
        }
    }

    fn name(&self, rest: &str) -> lapin::types::ShortString {
        format!("{}.{rest}", self.prefix).into()
    }

    fn foreign(&self) -> lapin::types::ShortString {
        self.name(&format!("foreign.{}", self.queues.load(Ordering::Relaxed)))
    }

    /// Declares and binds the quorum queue of a foreign consumer of all events.
    async fn bind(&self) {
        self.queues.fetch_add(1, Ordering::Relaxed);
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.consuming.queue_declare(self.foreign(), durable, arguments).await.unwrap();
        let (events, options) = (self.name("events"), QueueBindOptions::default());
        let binding = self.consuming.queue_bind(self.foreign(), events, "#".into(), options, FieldTable::default());
        binding.await.unwrap();
    }

    async fn unbind(&self) {
        self.consuming.queue_delete(self.foreign(), QueueDeleteOptions::default()).await.unwrap();
    }

    /// Measures events per second, from the first publication to the last acknowledgement and confirm.
    async fn throughput(&self, sender: Sender, receiver: Receiver) -> f64 {
        let mut inbound = None;
        match receiver {
            Receiver::Bare => self.bind().await,
            Receiver::Ours => {
                inbound = self.worker.inbound();
                // Events are dropped until the queue exists.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        let start = Instant::now();
        let sending = async {
            let sent = stream::iter(0..EVENTS).map(|id| self.send(sender, id)).buffer_unordered(WINDOW);
            sent.count().await
        };
        let receiving = async {
            match &mut inbound {
                None => self.receive(EVENTS, |_| ()).await,
                Some(inbound) => {
                    let mut count = 0;
                    while count < EVENTS {
                        for delivered in inbound.next().await {
                            count += 1;
                            delivered.ack();
                        }
                    }
                }
            }
        };
        tokio::join!(sending, receiving);
        let rate = EVENTS as f64 / start.elapsed().as_secs_f64();
        match receiver {
            Receiver::Bare => self.unbind().await,
            Receiver::Ours => {
                drop(inbound);
                tokio::time::sleep(Duration::from_secs(1)).await;
                let sorter = ExchangeDeleteOptions::default();
                self.consuming.exchange_delete(self.name("events.sorter"), sorter).await.unwrap();
                self.consuming.queue_purge(self.name("inbound"), QueuePurgeOptions::default()).await.unwrap();
            }
        }
        rate
    }

    async fn send(&self, sender: Sender, id: usize) {
        match sender {
            Sender::Ours => self.bus.publish(&event(id)).await.unwrap(),
            Sender::Bare => {
                let properties = BasicProperties::default()
                    .with_content_type("application/cloudevents+json".into())
                    .with_delivery_mode(2)
                    .with_message_id(id.to_string().into());
                let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
                let (exchange, key, body) = (self.name("events"), "agent.output.writer".into(), body(id));
                let publishing = self.publishing.basic_publish(exchange, key, options, &body, properties);
                assert!(publishing.await.unwrap().await.unwrap().is_ack());
            }
        }
    }

    /// Consumes and acknowledges `count` events with a bare client.
    async fn receive(&self, count: usize, mut heard: impl FnMut(usize)) {
        let options = BasicConsumeOptions::default();
        let consuming = self.consuming.basic_consume(self.foreign(), "".into(), options, FieldTable::default());
        let mut consumer = consuming.await.unwrap();
        for _ in 0..count {
            let delivery = consumer.next().await.unwrap().unwrap();
            heard(delivery.properties.message_id().as_ref().unwrap().as_str().parse().unwrap());
            delivery.ack(BasicAckOptions::default()).await.unwrap();
        }
        // The consumer is cancelled before the queue is deleted: the client library cancels late, and RabbitMQ 3.10
        // then closes the channel.
        let tag = consumer.tag();
        self.consuming.basic_cancel(tag, BasicCancelOptions::default()).await.unwrap();
    }

    /// Measures the latency from the intended publication to the foreign consumer, at a fixed rate.
    async fn latency(&self, name: &str, sender: Sender) {
        self.bind().await;
        let start = Instant::now() + Duration::from_millis(200);
        let intended = |id: usize| start + Duration::from_secs(1) * u32::try_from(id).unwrap() / RATE;
        let mut latencies = Vec::with_capacity(LATENCY_EVENTS);
        let sending = stream::iter(0..LATENCY_EVENTS)
            .map(|id| async move {
                tokio::time::sleep_until(intended(id).into()).await;
                self.send(sender, id).await;
            })
            .buffer_unordered(WINDOW)
            .count();
        let receiving = self.receive(LATENCY_EVENTS, |id| latencies.push(intended(id).elapsed()));
        tokio::join!(sending, receiving);
        self.unbind().await;
        latencies.sort();
        let at = |share: f64| latencies[(latencies.len() as f64 * share) as usize].as_secs_f64() * 1_000.0;
        println!("{name} at {RATE}/s: p50 {:.1}, p95 {:.1}, p99 {:.1} ms", at(0.5), at(0.95), at(0.99));
    }

    /// Measures the throughput of wakes with a small body between two processes.
    async fn wakes(&self) {
        let mut wakes = self.worker.wakes(ModeSet::NONE.with(ExecutionMode::Autonomous));
        let task = task();
        let taken = AtomicUsize::new(0);
        let start = Instant::now();
        let sending = async {
            for sent in (0..WAKES).step_by(100) {
                self.bus.wake(vec![agentry_bus::Wake::of(Arc::clone(&task)); 100]);
                // The broker's queues are bounded too and would drop more.
                while sent as usize - taken.load(Ordering::Relaxed).min(sent as usize) > 20_000 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        };
        let taking = async {
            while taken.load(Ordering::Relaxed) < WAKES as usize {
                taken.fetch_add(wakes.next(256).await.len(), Ordering::Relaxed);
            }
        };
        tokio::join!(sending, taking);
        println!("wakes from process to process: {:.0}/s", WAKES as f64 / start.elapsed().as_secs_f64());
    }

    /// Measures the CPU time of both ends per wake, at the rate of a busy installation.
    async fn cost_of_wakes(&self) {
        let mut wakes = self.worker.wakes(ModeSet::NONE.with(ExecutionMode::Autonomous));
        let task = task();
        let total = TASKS_AT_ONCE * 1_000 * TASK_SECONDS as usize;
        let before = Used::now();
        let sending = at_a_fixed_rate(|| self.bus.wake(vec![agentry_bus::Wake::of(Arc::clone(&task))]));
        let taking = async {
            let mut taken = 0;
            while taken < total {
                taken += wakes.next(256).await.len();
            }
        };
        tokio::join!(sending, taking);
        before.print("a wake at 10,000/s", total);
    }

    /// Measures the CPU time of both ends per signal about a task.
    async fn cost_of_signals(&self, watched: bool) {
        let id = TaskId::generate();
        let _watch = watched.then(|| self.worker.watch(id));
        while watched && !self.bus.is_watched(id) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let status = agentry_core::task::TaskStatus::Running;
        let before = Used::now();
        at_a_fixed_rate(|| self.bus.signal(agentry_bus::Signal::Progress { task: TaskId::generate(), status })).await;
        let name = if watched { "a signal at 10,000/s, heard elsewhere" } else { "a signal at 10,000/s, unroutable" };
        before.print(name, TASKS_AT_ONCE * 1_000 * TASK_SECONDS as usize);
    }

    async fn delete(&self) {
        self.bus.close().await;
        self.worker.close().await;
        let shards = self.worker_shards();
        for queue in shards.into_iter().chain(["inbound", "inbound.rejected"].map(str::to_owned)) {
            self.consuming.queue_delete(self.name(&queue), QueueDeleteOptions::default()).await.unwrap();
        }
        for exchange in ["events", "events.sorter", "events.own", "events.foreign", "signals"] {
            self.consuming.exchange_delete(self.name(exchange), ExchangeDeleteOptions::default()).await.unwrap();
        }
    }

    fn worker_shards(&self) -> Vec<String> {
        let shards = RabbitOptions::new("").shards;
        ExecutionMode::ALL.into_iter().flat_map(|mode| (0..shards).map(move |n| format!("wake.{mode}.{n}"))).collect()
    }
}
