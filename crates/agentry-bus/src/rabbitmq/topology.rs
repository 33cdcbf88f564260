//! Exchanges and queues, declared on every connection, so that a broker that lost its disk gets them back.

use agentry_core::agent::ExecutionMode;
use futures_util::future::try_join_all;
use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use super::broker_connection::BrokerConnection;
use super::fault::{Fault, within};
use super::options::Names;

/// Header with the publishing process, which marks our own events. Headers exchanges ignore names that begin with `x-`.
pub(super) const PROCESS_HEADER: &str = "agentry-process";
/// Routing key of signals that concern every process.
pub(super) const TO_ALL: &str = "all";
/// Routing key of signals that concern processes with watchers.
pub(super) const TO_WATCHERS: &str = "watchers";

/// Largest number of wake messages per queue; the oldest are dropped, and recovery finds their tasks in the store.
const MAX_WAKE_MESSAGES: i64 = 10_000;
/// Lifetime of a wake in milliseconds. Recovery runs every second, so an older wake is of no use.
const WAKE_TTL_MS: i64 = 60_000;
/// Highest AMQP priority of wake messages.
const MAX_PRIORITY: i64 = 2;
/// Largest number of signal messages that wait for a slow process. Its own listeners notice when they fall behind, and
/// it reads the store periodically anyway.
const MAX_SIGNAL_MESSAGES: i64 = 10_000;
/// Largest number of waiting foreign events. Beyond it publishers are refused: a confirmed event is never dropped.
const MAX_INBOUND: i64 = 1_000_000;
/// Rejected messages that are kept for people to look at; the oldest are dropped.
const MAX_REJECTED: i64 = 10_000;

fn arguments(pairs: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in pairs {
        table.insert(key.into(), value);
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// Declares what every process needs: the exchanges, and the queues of wakes.
pub(super) async fn declare(channel: &Channel, names: &Names) -> Result<(), Fault> {
    exchange(channel, names.events(), ExchangeKind::Topic, true, FieldTable::default()).await?;
    exchange(channel, names.signals(), ExchangeKind::Direct, false, FieldTable::default()).await?;
    let queues = ExecutionMode::ALL.into_iter().flat_map(|mode| {
        (0..names.shards()).map(move |shard| {
            // Classic queues with transient messages: wakes are hints, and a quorum queue would fsync each.
            let arguments = arguments([
                ("x-max-length", MAX_WAKE_MESSAGES.into()),
                ("x-message-ttl", WAKE_TTL_MS.into()),
                ("x-max-priority", MAX_PRIORITY.into()),
            ]);
            queue(channel, names.wakes(mode, shard), durable(), arguments)
        })
    });
    try_join_all(queues).await?;
    Ok(())
}

/// Declares the signal queue of this connection and binds it to signals that concern every process.
pub(super) async fn declare_signals(channel: &Channel, names: &Names, own: ShortString) -> Result<(), Fault> {
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let arguments = arguments([("x-max-length", MAX_SIGNAL_MESSAGES.into())]);
    queue(channel, own.clone(), options, arguments).await?;
    bind(channel, own, names.signals(), TO_ALL.into()).await
}

/// Declares the route of foreign events into the inbound queue.
///
/// Our own events have a header, by which the sorter routes them to an exchange without queues, where they are dropped
/// at no cost. Other events go to its alternate exchange, and from there into the queue.
pub(super) async fn declare_inbound(connection: &BrokerConnection, names: &Names) -> Result<(), Fault> {
    let channel = connection.channel().await?;
    let none = FieldTable::default;
    exchange(&channel, names.foreign(), ExchangeKind::Fanout, true, none()).await?;
    exchange(&channel, names.own(), ExchangeKind::Fanout, true, none()).await?;
    let alternate = arguments([("alternate-exchange", text(names.foreign().as_str()))]);
    exchange(&channel, names.sorter(), ExchangeKind::Headers, true, alternate).await?;
    let marked = arguments([("x-match", text("all")), (PROCESS_HEADER, AMQPValue::Void)]);
    bind_exchange(&channel, names.own(), names.sorter(), "", marked).await?;
    let bounded = [("x-max-length", MAX_REJECTED.into())];
    lasting_queue(connection, names.rejected(), arguments(bounded)).await?;
    let bounded = [("x-max-length", MAX_INBOUND.into()), ("x-overflow", text("reject-publish"))];
    lasting_queue(connection, names.inbound(), arguments(bounded)).await?;
    bind(&channel, names.inbound(), names.foreign(), "".into()).await?;
    // Bound last, because foreign events arrive from here on.
    bind_exchange(&channel, names.sorter(), names.events(), "#", none()).await
}

/// Deletes the topology of [`declare`] and [`declare_inbound`]. Signal queues end with their connections.
pub(super) async fn delete(channel: &Channel, names: &Names) -> Result<(), Fault> {
    let wakes = ExecutionMode::ALL.into_iter().flat_map(|mode| (0..names.shards()).map(move |n| names.wakes(mode, n)));
    for queue in wakes.chain([names.inbound(), names.rejected()]) {
        let what = format!("deleting the queue `{queue}`");
        within(&what, channel.queue_delete(queue, QueueDeleteOptions::default())).await?;
    }
    for exchange in [names.events(), names.sorter(), names.own(), names.foreign(), names.signals()] {
        let what = format!("deleting the exchange `{exchange}`");
        within(&what, channel.exchange_delete(exchange, ExchangeDeleteOptions::default())).await?;
    }
    Ok(())
}

/// Declares a durable queue with persistent messages: a quorum queue, or a classic one where the broker has no quorum
/// queues or has a classic queue of this name.
async fn lasting_queue(connection: &BrokerConnection, name: ShortString, bounds: FieldTable) -> Result<(), Fault> {
    let channel = connection.channel().await?;
    let mut quorum = bounds.clone();
    quorum.insert("x-queue-type".into(), text("quorum"));
    let Err(fault) = queue(&channel, name.clone(), durable(), quorum).await else { return Ok(()) };
    // A failed declaration closes its channel.
    let channel = connection.channel().await?;
    queue(&channel, name.clone(), durable(), bounds).await?;
    tracing::warn!(queue = %name, %fault, "RabbitMQ has no quorum queue here; a classic one holds events on one node only");
    Ok(())
}

fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() }
}

async fn queue(
    channel: &Channel,
    name: ShortString,
    options: QueueDeclareOptions,
    arguments: FieldTable,
) -> Result<(), Fault> {
    let what = format!("declaring the queue `{name}`");
    within(&what, channel.queue_declare(name, options, arguments)).await.map(drop)
}

async fn exchange(
    channel: &Channel,
    name: ShortString,
    kind: ExchangeKind,
    durable: bool,
    arguments: FieldTable,
) -> Result<(), Fault> {
    let what = format!("declaring the exchange `{name}`");
    let options = ExchangeDeclareOptions { durable, ..ExchangeDeclareOptions::default() };
    within(&what, channel.exchange_declare(name, kind, options, arguments)).await
}

pub(super) async fn bind(
    channel: &Channel,
    queue: ShortString,
    exchange: ShortString,
    key: ShortString,
) -> Result<(), Fault> {
    let what = format!("binding the queue `{queue}`");
    let options = QueueBindOptions::default();
    within(&what, channel.queue_bind(queue, exchange, key, options, FieldTable::default())).await
}

pub(super) async fn unbind(
    channel: &Channel,
    queue: ShortString,
    exchange: ShortString,
    key: ShortString,
) -> Result<(), Fault> {
    let what = format!("unbinding the queue `{queue}`");
    within(&what, channel.queue_unbind(queue, exchange, key, FieldTable::default())).await
}

async fn bind_exchange(
    channel: &Channel,
    to: ShortString,
    from: ShortString,
    key: &str,
    arguments: FieldTable,
) -> Result<(), Fault> {
    let what = format!("binding the exchange `{to}`");
    within(&what, channel.exchange_bind(to, from, key.into(), ExchangeBindOptions::default(), arguments)).await
}
