//! Consumers of events that are no part of the platform.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentry_lab::LabError;
use futures_util::StreamExt;
use hdrhistogram::Histogram;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, ConnectionProperties, Consumer};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::events::read_event;
use crate::load::clock::{SECOND, now};
use crate::run::Lab;
use crate::sample::lock;
use crate::stats::histogram;
use crate::sut::{Api, unreachable};

/// Largest number of unacknowledged messages.
const PREFETCH: u16 = 50;
/// Largest number of deliveries kept of one load.
const MAX_DELIVERIES: usize = 5_000_000;
/// The longest line of an event stream, in bytes.
const MAX_LINE: usize = 1024 * 1024;

/// The number of an event, and the moments of its intended send and of its receipt in nanoseconds.
type Delivery = (u64, u64, u64);

#[derive(Default)]
struct Shared {
    run: u64,
    deliveries: Vec<Delivery>,
}

/// A consumer that receives events until it is dropped.
pub struct EventConsumer {
    shared: Arc<Mutex<Shared>>,
    /// Ends when it is dropped.
    _task: JoinSet<()>,
    description: &'static str,
    _connection: Option<Connection>,
}

/// Events of one load that a consumer received.
pub struct Deliveries {
    /// Numbers of the events, as often as they came.
    pub ids: Vec<String>,
    /// Intended send to here, of those that were meant to be sent in the window, in microseconds.
    pub delivery: Histogram<u64>,
    deliveries: Vec<Delivery>,
    window: (u64, u64),
}

impl EventConsumer {
    /// A client of the API's event stream.
    pub async fn of_api(api: &Api) -> Result<Self, LabError> {
        let url = format!("{}/v1/events", api.base());
        let request = format!("GET {url}");
        // A client without a timeout: the stream lasts as long as the scenario.
        let client = agentry_http::builder(api.base()).build().map_err(unreachable(&request))?;
        let response = client.get(&url).send().await.map_err(unreachable(&request))?;
        let (shared, mut task) = (Arc::<Mutex<Shared>>::default(), JoinSet::new());
        let kept = Arc::clone(&shared);
        task.spawn(async move {
            let mut stream = response.bytes_stream();
            let mut buffer: Vec<u8> = Vec::new();
            while let Some(Ok(piece)) = stream.next().await {
                let here = now();
                buffer.extend_from_slice(&piece);
                let Some(end) = buffer.iter().rposition(|byte| *byte == b'\n') else {
                    if buffer.len() > MAX_LINE {
                        buffer.clear();
                    }
                    continue;
                };
                for line in buffer[..end].split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"data:")) {
                    note(&kept, line, here);
                }
                buffer.drain(..=end);
            }
        });
        let description = "the consumer reads the API's event stream";
        Ok(Self { shared, _task: task, description, _connection: None })
    }

    /// A RabbitMQ client with a durable queue of its own on the platform's exchange, prefetch 50, acknowledging by hand.
    pub async fn of_rabbitmq(url: &str, prefix: &str) -> Result<Self, LabError> {
        let failed = |error: lapin::Error| LabError::Server(format!("RabbitMQ: {error}"));
        let connection = Connection::connect(url, ConnectionProperties::default()).await.map_err(failed)?;
        let channel = connection.create_channel().await.map_err(failed)?;
        let (queue, exchange) = (format!("{prefix}.bench"), format!("{prefix}.events"));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.clone().into(), options, FieldTable::default()).await.map_err(failed)?;
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(queue.clone().into(), exchange.into(), "#".into(), options, none).await.map_err(failed)?;
        let (_, mut consumer) = consume(&connection, queue.into(), PREFETCH).await.map_err(failed)?;
        let (shared, mut task) = (Arc::<Mutex<Shared>>::default(), JoinSet::new());
        let kept = Arc::clone(&shared);
        task.spawn(async move {
            while let Some(Ok(delivery)) = consumer.next().await {
                note(&kept, &delivery.data, now());
                if delivery.ack(BasicAckOptions::default()).await.is_err() {
                    return;
                }
            }
        });
        let description =
            "the consumer is a RabbitMQ client with a durable queue, prefetch 50 and manual acknowledgement";
        Ok(Self { shared, _task: task, description, _connection: Some(connection) })
    }

    /// Describes how it receives events.
    pub fn description(&self) -> &'static str {
        self.description
    }

    /// Another load begins; only its events are kept.
    pub fn begin(&self, run: u64) {
        *lock(&self.shared) = Shared { run, deliveries: Vec::new() };
    }

    /// Waits until so many different events have come. Whether they did.
    pub async fn until(&self, count: usize, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            let mut numbers: Vec<u64> = lock(&self.shared).deliveries.iter().map(|(number, ..)| *number).collect();
            if numbers.len() >= count {
                numbers.sort_unstable();
                numbers.dedup();
                if numbers.len() >= count {
                    return true;
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// The events of the load, of which the measured window lies between two moments.
    pub fn take(&self, from: u64, to: u64) -> Deliveries {
        let deliveries = std::mem::take(&mut lock(&self.shared).deliveries);
        let mut delivery = histogram();
        for (_, intended, here) in deliveries.iter().filter(|(_, intended, _)| (from..to).contains(intended)) {
            delivery.saturating_record((here.saturating_sub(*intended) / 1_000).max(1));
        }
        let ids = deliveries.iter().map(|(number, ..)| number.to_string()).collect();
        Deliveries { ids, delivery, deliveries, window: (from, to) }
    }
}

/// Opens a channel that consumes a queue with at most `prefetch` unacknowledged messages.
pub(super) async fn consume(
    connection: &Connection,
    queue: ShortString,
    prefetch: u16,
) -> lapin::Result<(Channel, Consumer)> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = channel.basic_consume(queue, "".into(), options, none).await?;
    Ok((channel, consumer))
}

fn note(shared: &Mutex<Shared>, text: &[u8], here: u64) {
    let Some((run, number, intended)) = read_event(text) else { return };
    let mut shared = lock(shared);
    if run == shared.run && shared.deliveries.len() < MAX_DELIVERIES {
        shared.deliveries.push((number, intended, here));
    }
}

impl Deliveries {
    /// Deliveries per second in each whole 5-s window; of the whole when it is shorter.
    pub fn windows(&self) -> Vec<f64> {
        let (from, to) = self.window;
        let length = (5 * SECOND).min(to - from).max(1);
        let count = (to - from) / length;
        let mut counts = vec![0_u64; usize::try_from(count).unwrap_or(0)];
        for (_, _, here) in &self.deliveries {
            let at = here.checked_sub(from).map(|since| since / length);
            if let Some(slot) = at.and_then(|at| counts.get_mut(usize::try_from(at).unwrap_or(usize::MAX))) {
                *slot += 1;
            }
        }
        counts.into_iter().map(|count| count as f64 / (length as f64 / 1e9)).collect()
    }

    /// Events sent and not yet delivered, over the run's time, ten times a second within the window.
    pub fn depth(&self, lab: &Lab) -> Vec<[f64; 2]> {
        let step = SECOND / 10;
        let (from, to) = self.window;
        let mut arrivals: Vec<u64> = self.deliveries.iter().map(|(_, intended, _)| *intended).collect();
        let mut deliveries: Vec<u64> = self.deliveries.iter().map(|(_, _, here)| *here).collect();
        arrivals.sort_unstable();
        deliveries.sort_unstable();
        let at = |moments: &[u64], moment: u64| moments.partition_point(|at| *at <= moment) as f64;
        (from..to)
            .step_by(usize::try_from(step).unwrap_or(1))
            .map(|moment| [lab.time(moment), at(&arrivals, moment) - at(&deliveries, moment)])
            .collect()
    }
}
