//! A bare skeleton of a task on the same servers: quorum queue, no-op, a row of the result by group commit, then the
//! acknowledgement. What a platform adds is measured against it, in the same run.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, Consumer};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::cluster_stage::Stage;
use super::open_loop::{self, Latencies};

/// Tasks under way at once when the rate is measured.
const WINDOW: usize = 2_000;
/// Deliveries that a consumer holds unacknowledged.
const PREFETCH: u16 = 500;
/// Consumers, each with a connection to PostgreSQL: one commits while the other gathers.
const CONSUMERS: usize = 2;
/// What each task carries behind its number.
const BODY: &[u8] = b"{\"agent\":\"noop\",\"input\":\"a task\",\"source\":\"api\",\"timeout\":300}";
/// What each result is.
const RESULT: &str = "Simulated answer to: a task";

type Waiting = Mutex<HashMap<u64, oneshot::Sender<()>>>;

#[derive(Clone)]
pub struct Skeleton {
    shared: Arc<Shared>,
}

struct Shared {
    channel: Channel,
    queue: ShortString,
    next: AtomicU64,
    waiting: Arc<Waiting>,
    consumers: Vec<JoinHandle<()>>,
    _connections: [Connection; 2],
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.consumers.iter().for_each(JoinHandle::abort);
    }
}

impl Skeleton {
    pub async fn start(stage: &Stage) -> Self {
        let schema = stage.bare_schema();
        let table = format!("{schema}.results");
        let sql = format!("CREATE SCHEMA {schema}; CREATE TABLE {table} (id bigint PRIMARY KEY, result text NOT NULL)");
        stage.client.batch_execute(&sql).await.unwrap();
        let connections = [stage.rabbitmq().await, stage.rabbitmq().await];
        let channel = connections[0].create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let queue: ShortString = format!("{}.skeleton", stage.name).into();
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.clone(), durable, arguments).await.unwrap();
        let waiting = Arc::new(Waiting::default());
        let mut consumers = Vec::new();
        for _ in 0..CONSUMERS {
            let channel = connections[1].create_channel().await.unwrap();
            channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.unwrap();
            let options = BasicConsumeOptions::default();
            let consumer =
                channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default()).await.unwrap();
            let (client, table, waiting) = (stage.postgres().await, table.clone(), Arc::clone(&waiting));
            consumers.push(tokio::spawn(async move { consume(channel, consumer, client, &table, &waiting).await }));
        }
        let shared = Shared { channel, queue, next: AtomicU64::new(0), waiting, consumers, _connections: connections };
        Self { shared: Arc::new(shared) }
    }

    /// One task: published and confirmed, then worked off and its result persisted.
    async fn task(&self) {
        let shared = &self.shared;
        let id = shared.next.fetch_add(1, Ordering::Relaxed);
        let (sender, ended) = oneshot::channel();
        shared.waiting.lock().unwrap().insert(id, sender);
        let body = [&id.to_be_bytes(), BODY].concat();
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        let publishing = shared.channel.basic_publish("".into(), shared.queue.clone(), options, &body, properties);
        publishing.await.unwrap().await.unwrap();
        ended.await.unwrap();
    }

    /// Tasks per second with [`WINDOW`] of them under way.
    pub async fn rate(&self, window: Duration) -> f64 {
        let began = Instant::now();
        let client = |skeleton: Self| async move {
            let mut ended = 0_u64;
            while began.elapsed() < window {
                skeleton.task().await;
                ended += 1;
            }
            ended
        };
        let clients: Vec<_> = (0..WINDOW).map(|_| tokio::spawn(client(self.clone()))).collect();
        let mut ended = 0;
        for client in clients {
            ended += client.await.unwrap();
        }
        ended as f64 / began.elapsed().as_secs_f64()
    }

    /// How long tasks take that arrive in an open loop.
    pub async fn latency(&self, rate: u64, window: Duration) -> Latencies {
        let one = |_| {
            let skeleton = self.clone();
            async move {
                skeleton.task().await;
                true
            }
        };
        open_loop::run(rate, window, one).await
    }
}

/// Takes what has arrived, writes its results with one commit, acknowledges it.
async fn consume(channel: Channel, mut consumer: Consumer, client: Client, table: &str, waiting: &Waiting) {
    let sql = format!("INSERT INTO {table} SELECT * FROM unnest($1::bigint[], $2::text[])");
    let insert = client.prepare(&sql).await.unwrap();
    while let Some(first) = consumer.next().await {
        let mut batch: Vec<Delivery> = vec![first.unwrap()];
        while batch.len() < usize::from(PREFETCH)
            && let Some(Some(more)) = consumer.next().now_or_never()
        {
            batch.push(more.unwrap());
        }
        let id = |delivery: &Delivery| u64::from_be_bytes(delivery.data[..8].try_into().unwrap());
        let ids: Vec<i64> = batch.iter().map(|delivery| id(delivery) as i64).collect();
        client.execute(&insert, &[&ids, &vec![RESULT; ids.len()]]).await.unwrap();
        let last = batch.last().map_or(0, |delivery| delivery.delivery_tag);
        channel.basic_ack(last, BasicAckOptions { multiple: batch.len() > 1 }).await.unwrap();
        let mut waiting = waiting.lock().unwrap();
        for sender in ids.iter().filter_map(|id| waiting.remove(&(*id as u64))) {
            let _ = sender.send(());
        }
    }
}
