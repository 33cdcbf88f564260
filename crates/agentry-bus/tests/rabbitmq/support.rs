use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use agentry_bus::rabbitmq::{RabbitBus, RabbitOptions};
use agentry_bus::{EventBus, Wake, Wakes};
use agentry_core::agent::ExecutionMode;
use agentry_core::event::Event;
use agentry_core::id::TaskId;
use agentry_core::task::{Priority, TraceId};
use agentry_core::time::Timestamp;
use futures_util::FutureExt;
use lapin::options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};

/// Timeout that is long for a machine under load, and still ends a hanging test.
pub const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(10);
const SHARDS: u16 = 2;

pub fn url() -> String {
    std::env::var("AGENTRY_TEST_RABBITMQ_URL").unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}

pub struct TestNames {
    pub prefix: String,
}

/// Runs a test with names of its own, and deletes them afterwards, also when it fails.
pub async fn with_names<F: Future<Output = ()>>(test: impl FnOnce(std::sync::Arc<TestNames>) -> F) {
    let names = std::sync::Arc::new(TestNames { prefix: format!("agentry-test-{}", TaskId::generate()) });
    let result = AssertUnwindSafe(test(std::sync::Arc::clone(&names))).catch_unwind().await;
    names.delete_all().await;
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

impl TestNames {
    pub fn name(&self, rest: &str) -> String {
        format!("{}.{rest}", self.prefix)
    }

    pub fn options(&self, url: &str) -> RabbitOptions {
        RabbitOptions { prefix: self.prefix.clone(), shards: SHARDS, ..RabbitOptions::new(url) }
    }

    /// Returns a bus as another process would have it.
    pub async fn bus(&self) -> RabbitBus {
        self.bus_at(&url()).await
    }

    pub async fn bus_at(&self, url: &str) -> RabbitBus {
        RabbitBus::connect(self.options(url))
            .await
            .unwrap_or_else(|error| panic!("{error}: run `cargo xtask services`"))
    }

    /// Waits until every queue of autonomous wakes has this many consumers.
    pub async fn consumers(&self, count: u32) {
        let (_connection, channel) = foreign().await;
        for shard in 0..SHARDS {
            let queue = self.name(&format!("wake.autonomous.{shard}"));
            eventually("the consumers are there", async || state_of(&channel, &queue).await.1 == count).await;
        }
    }

    /// Deletes everything on the broker, as an operator or an empty disk would.
    pub async fn delete_all(&self) {
        let (_connection, channel) = foreign().await;
        for mode in ExecutionMode::ALL {
            for shard in 0..SHARDS {
                self.delete_queue(&channel, &format!("wake.{mode}.{shard}")).await;
            }
        }
        for queue in ["inbound", "inbound.rejected", "foreign"] {
            self.delete_queue(&channel, queue).await;
        }
        for exchange in ["events", "events.sorter", "events.own", "events.foreign", "signals"] {
            channel.exchange_delete(self.name(exchange).into(), ExchangeDeleteOptions::default()).await.unwrap();
        }
    }

    pub async fn delete_queue(&self, channel: &Channel, queue: &str) {
        channel.queue_delete(self.name(queue).into(), QueueDeleteOptions::default()).await.unwrap();
    }
}

pub async fn foreign() -> (Connection, Channel) {
    let url = url();
    let connecting = Connection::connect(&url, ConnectionProperties::default());
    let connection =
        connecting.await.unwrap_or_else(|error| panic!("no RabbitMQ ({error}): run `cargo xtask services`"));
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

/// Returns the number of messages in a queue and of its consumers.
pub async fn state_of(channel: &Channel, queue: &str) -> (u32, u32) {
    let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
    (queue.message_count(), queue.consumer_count())
}

/// Returns the same on any broker; `None` when there is no such queue.
pub async fn state_at(url: &str, queue: &str) -> Option<(u32, u32)> {
    // A passive declaration of a missing queue closes the channel.
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(queue.into(), options, FieldTable::default()).await;
    declared.ok().map(|queue| (queue.message_count(), queue.consumer_count()))
}

pub async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    within(what, waiting).await;
}

/// Waits for a future that must complete.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

pub fn wake(n: u64) -> Wake {
    Wake {
        task: TaskId::from_parts(n, u128::from(n) << 64),
        mode: ExecutionMode::Autonomous,
        session: None,
        priority: Priority::Normal,
        body: None,
    }
}

pub fn event(id: &str) -> Event {
    Event {
        id: id.to_owned(),
        source: "agentry/agents/writer".to_owned(),
        kind: "dev.agentry.task.completed.v1".to_owned(),
        topic: "agent.output.writer".to_owned(),
        time: Timestamp(1_700_000_000_123_456),
        trace_id: TraceId(0xabc),
        parent: None,
        hops: 1,
        data: serde_json::json!({"output": "done"}),
    }
}

/// Sends one wake and waits for it, and repeats it when it was lost, as recovery would.
pub async fn wakes_flow(from: &RabbitBus, to: &mut Box<dyn Wakes>, n: u64) {
    let task = wake(n).task;
    within("a wake arrives", async {
        loop {
            from.wake(vec![wake(n)]);
            let heard = tokio::time::timeout(Duration::from_millis(500), async {
                while !to.next(100).await.iter().any(|wake| wake.task == task) {}
            });
            if heard.await.is_ok() {
                return;
            }
        }
    })
    .await;
}
