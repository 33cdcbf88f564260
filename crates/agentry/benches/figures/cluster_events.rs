//! Events of a foreign AMQP client: published, taken in as tasks, and their results heard.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, Consumer};
use tokio::sync::oneshot;

use super::cluster_cpu::Cpu;
use super::cluster_stage::Stage;
use super::open_loop;
use super::server::{PATIENCE, Server, agent};
use super::{ROUNDS, load_average, spread};

/// Events of one round.
const EVENTS: u64 = 5_000;
/// Publications under way at once.
const WINDOW: u64 = 1_000;
/// The size of an event, in bytes.
const BYTES: usize = 1_024;
const TOPIC: &str = "figures.load";

/// One that is started by events.
pub fn agents() -> Vec<(String, String)> {
    let text = agent("listener", "autonomous", "simulated", "echo");
    vec![("listener".to_owned(), format!("{text}event_subscriptions: [{TOPIC}]\n"))]
}

/// Events to accepted tasks without anybody who executes them; then to results, and their latency.
pub async fn measure(stage: &Stage) {
    let api = stage.process("api", &["--role", "api"]);
    let client = Foreign::start(stage).await;
    bound(stage).await;
    let (mut rates, mut accepted) = (Vec::new(), 0);
    let mut cpu = Cpu::default();
    for _ in 0..ROUNDS {
        let before = Cpu::now(stage, &[("api", &api)]).await;
        let began = Instant::now();
        client.publish_all(false).await;
        accepted += EVENTS;
        stage.wait(&api, |queued, _| queued == accepted).await;
        rates.push(EVENTS as f64 / began.elapsed().as_secs_f64());
        cpu.add(&before, &Cpu::now(stage, &[("api", &api)]).await);
    }
    println!(
        "cluster-events, foreign publisher to accepted task, 1 KiB: {} events/s; {}; {}",
        spread(rates),
        cpu.per_task(EVENTS * ROUNDS as u64),
        load_average()
    );
    drop(api);
    let all = stage.process("all", &[]);
    stage.drained(&all, accepted).await;
    results(stage, &all, &client).await;
}

/// Events to results that the foreign client hears.
async fn results(stage: &Stage, all: &Server, client: &Foreign) {
    let (mut rates, mut cpu) = (Vec::new(), Cpu::default());
    for _ in 0..ROUNDS {
        let before = Cpu::now(stage, &[("all roles", all)]).await;
        let began = Instant::now();
        client.publish_all(true).await;
        rates.push(EVENTS as f64 / began.elapsed().as_secs_f64());
        cpu.add(&before, &Cpu::now(stage, &[("all roles", all)]).await);
    }
    println!(
        "cluster-events, foreign publisher to result heard, 1 KiB: {} events/s; {}; {}",
        spread(rates),
        cpu.per_task(EVENTS * ROUNDS as u64),
        load_average()
    );
    let one = |_| {
        let client = client.clone();
        async move { client.ask().await }
    };
    let latencies = open_loop::run(500, Duration::from_secs(10), one).await;
    println!(
        "cluster-events, foreign publisher to result heard, 500/s for 10 s: {}; {}",
        latencies.text(),
        load_average()
    );
}

/// Waits until foreign events find a queue: it is declared when a process first wants them.
async fn bound(stage: &Stage) {
    let began = Instant::now();
    let inbound = format!("{}.inbound", stage.name);
    while !stage.on_broker("list_queues").contains(&inbound) {
        assert!(began.elapsed() < PATIENCE, "no process takes foreign events: there is no queue {inbound}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The queue is bound last.
    tokio::time::sleep(Duration::from_millis(500)).await;
}

/// A client that knows of Agentry only the exchange and the shape of events.
#[derive(Clone)]
struct Foreign {
    inner: Arc<Inner>,
}

struct Inner {
    channel: Channel,
    exchange: ShortString,
    next: AtomicU64,
    /// Who waits for the result of which trace.
    waiting: Mutex<HashMap<String, oneshot::Sender<()>>>,
    _connections: [Connection; 2],
}

impl Foreign {
    async fn start(stage: &Stage) -> Self {
        let connections = [stage.rabbitmq().await, stage.rabbitmq().await];
        let channel = connections[0].create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let exchange: ShortString = format!("{}.events", stage.name).into();
        let hearing = connections[1].create_channel().await.unwrap();
        let queue: ShortString = format!("{}.foreign", stage.name).into();
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        hearing.queue_declare(queue.clone(), options, FieldTable::default()).await.unwrap();
        let key = "agent.output.listener".into();
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        hearing.queue_bind(queue.clone(), exchange.clone(), key, options, none).await.unwrap();
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let results = hearing.basic_consume(queue, "".into(), options, FieldTable::default()).await.unwrap();
        let (next, waiting) = (AtomicU64::new(1), Mutex::default());
        let inner = Arc::new(Inner { channel, exchange, next, waiting, _connections: connections });
        tokio::spawn(hear(results, Arc::downgrade(&inner)));
        Self { inner }
    }

    /// Publishes [`EVENTS`], [`WINDOW`] at once; with `results` each publication ends when its result is heard.
    async fn publish_all(&self, results: bool) {
        let left = Arc::new(AtomicU64::new(EVENTS));
        let publishers: Vec<_> = (0..WINDOW)
            .map(|_| {
                let (client, left) = (self.clone(), Arc::clone(&left));
                tokio::spawn(async move {
                    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                        if results {
                            assert!(client.ask().await, "a result was not heard in time");
                        } else {
                            client.publish(client.inner.next.fetch_add(1, Ordering::Relaxed)).await;
                        }
                    }
                })
            })
            .collect();
        for publisher in publishers {
            publisher.await.unwrap();
        }
    }

    /// Publishes an event and waits for its result.
    async fn ask(&self) -> bool {
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let (sender, heard) = oneshot::channel();
        self.inner.waiting.lock().unwrap().insert(trace(number), sender);
        self.publish(number).await;
        matches!(tokio::time::timeout(PATIENCE, heard).await, Ok(Ok(())))
    }

    /// Publishes an event and waits for the broker's confirm.
    async fn publish(&self, number: u64) {
        let inner = &self.inner;
        let head = format!(
            "{{\"specversion\":\"1.0\",\"id\":\"{number}\",\"source\":\"figures\",\"type\":\"figures.load.v1\",\
             \"traceparent\":\"00-{}-00000000000000aa-01\",\"data\":{{\"order\":{number},\"pad\":\"",
            trace(number)
        );
        let body = format!("{head}{}\"}}}}", "x".repeat(BYTES.saturating_sub(head.len() + 3)));
        let properties =
            BasicProperties::default().with_delivery_mode(2).with_content_type("application/cloudevents+json".into());
        let (exchange, options) = (inner.exchange.clone(), BasicPublishOptions::default());
        let publishing = inner.channel.basic_publish(exchange, TOPIC.into(), options, body.as_bytes(), properties);
        assert!(publishing.await.unwrap().await.unwrap().is_ack(), "the broker refused an event");
    }
}

/// The trace id of an event, by which its result is known.
fn trace(number: u64) -> String {
    format!("{number:032x}")
}

/// Tells who waits for a result.
async fn hear(mut results: Consumer, client: std::sync::Weak<Inner>) {
    while let Some(Ok(result)) = results.next().await {
        let event: serde_json::Value = serde_json::from_slice(&result.data).unwrap_or_default();
        let trace = event["traceparent"].as_str().and_then(|parent| parent.split('-').nth(1)).unwrap_or_default();
        let Some(client) = client.upgrade() else { return };
        let waiting = client.waiting.lock().unwrap().remove(trace);
        if let Some(sender) = waiting {
            let _ = sender.send(());
        }
    }
}
