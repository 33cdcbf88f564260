//! A bare skeleton of a task on the same machine and servers, as the limit of what a platform over them can reach.
//!
//! Embedded: one writer thread that inserts and updates tasks by integer keys in group commits. On the cluster: a durable
//! quorum queue, and the result as a row by `UNNEST` group commits before the acknowledgement. Neither has HTTP, JSON or
//! an answer to each caller, so the skeleton is lighter than any platform.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agentry_lab::LabError;
use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::consumer::consume;
use crate::model::{Engine, Profile};
use crate::run::{Lab, RunError};
use crate::sut::Servers;

/// Tasks that a client hands over at once.
const BATCH: i64 = 200;
/// Batches of a group commit at most.
const GROUP: usize = 5;
/// Callers on the cluster, each of which waits for its task to end before it sends another one.
const CALLERS: u64 = 2_000;
/// Deliveries that a consumer holds unacknowledged.
const PREFETCH: u16 = 500;
/// Consumers, each with a connection to PostgreSQL: one commits while the other gathers.
const CONSUMERS: usize = 2;
const BODY: &str = "{\"agent\":\"noop\",\"input\":\"a task\",\"source\":\"api\",\"timeout\":300}";
const RESULT: &str = "Simulated answer to: a task";

/// Describes the skeleton of an engine.
pub(super) fn source(engine: Engine) -> &'static str {
    match engine {
        Engine::Embedded => {
            "one SQLite writer thread, an insert and an update a task, group commits of up to 1,000, in the same run"
        }
        Engine::Cluster => "a quorum queue and a row of the result by group commit, 2,000 at once, in the same run",
    }
}

/// Tasks per second that end, durable, in the skeleton of the run's engine.
pub(super) async fn rate(lab: &mut Lab) -> Result<f64, RunError> {
    lab.progress.tick("a bare skeleton");
    let window = match lab.profile {
        Profile::Quick | Profile::Ci => Duration::from_secs(3),
        _ => Duration::from_secs(10),
    };
    if lab.engine == Engine::Cluster {
        return Ok(cluster(lab.servers().await?, window).await?);
    }
    let folder = tempfile::tempdir().map_err(LabError::file(std::env::temp_dir()))?;
    let written = tokio::task::spawn_blocking(move || sqlite(folder.path(), window)).await;
    let failed = |error: &dyn std::fmt::Display| LabError::Server(format!("the skeleton on SQLite: {error}"));
    Ok(written.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?)
}

/// New tasks are inserted in the same commit in which those before them end.
fn sqlite(folder: &Path, window: Duration) -> rusqlite::Result<f64> {
    let connection = rusqlite::Connection::open(folder.join("skeleton.db"))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE tasks (id INTEGER PRIMARY KEY, status INTEGER NOT NULL, body TEXT NOT NULL, result TEXT);",
    )?;
    let (began, mut ended, mut next, mut open) = (Instant::now(), 0_u64, 0_i64, 0..0);
    while began.elapsed() < window {
        let transaction = connection.unchecked_transaction()?;
        let mut update = transaction.prepare_cached("UPDATE tasks SET status = 3, result = ?2 WHERE id = ?1")?;
        let mut insert = transaction.prepare_cached("INSERT INTO tasks VALUES (?1, 0, ?2, NULL)")?;
        for id in open {
            update.execute((id, RESULT))?;
            ended += 1;
        }
        open = next..next + BATCH * GROUP as i64;
        next = open.end;
        for id in open.clone() {
            insert.execute((id, BODY))?;
        }
        drop((update, insert));
        transaction.commit()?;
    }
    Ok(ended as f64 / began.elapsed().as_secs_f64())
}

async fn cluster(servers: &mut Servers, window: Duration) -> Result<f64, LabError> {
    let failed = |error: lapin::Error| LabError::Server(format!("the skeleton on RabbitMQ: {error}"));
    let client = servers.postgres.connect().await?;
    let made =
        client.batch_execute("CREATE TABLE IF NOT EXISTS skeleton (id bigint PRIMARY KEY, result text NOT NULL)");
    made.await.map_err(|error| of_postgres(&error))?;
    let url = servers.urls().rabbitmq;
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.map_err(failed)?;
    let (queue, publisher) = declare(&connection).await.map_err(failed)?;
    let ended = Arc::new(AtomicU64::new(0));
    let mut consumers = JoinSet::new();
    for _ in 0..CONSUMERS {
        let (channel, consumer) = consume(&connection, queue.clone(), PREFETCH).await.map_err(failed)?;
        let (client, ended) = (servers.postgres.connect().await?, Arc::clone(&ended));
        consumers.spawn(async move { work(channel, consumer, client, &ended).await });
    }
    let began = Instant::now();
    // As many are published as have ended, so that always as many are under way.
    let mut sent = 0;
    while began.elapsed() < window {
        let due = (ended.load(Ordering::Relaxed) + CALLERS).saturating_sub(sent);
        join_all((sent..sent + due).map(|id| publish(&publisher, &queue, id)))
            .await
            .into_iter()
            .collect::<Result<(), _>>()
            .map_err(failed)?;
        sent += due;
        tokio::task::yield_now().await;
        if let Some(Ok(stopped)) = consumers.try_join_next() {
            stopped?;
        }
    }
    Ok(ended.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64())
}

fn of_postgres(error: &tokio_postgres::Error) -> LabError {
    LabError::Server(format!("the skeleton on PostgreSQL: {error}"))
}

/// A durable quorum queue, and a channel that confirms.
async fn declare(connection: &Connection) -> lapin::Result<(ShortString, Channel)> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let queue: ShortString = "bench.skeleton".into();
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.clone(), durable, arguments).await?;
    Ok((queue, channel))
}

/// Publishes a task and waits until the broker has confirmed it.
async fn publish(channel: &Channel, queue: &ShortString, id: u64) -> lapin::Result<()> {
    let body = [&id.to_be_bytes(), BODY.as_bytes()].concat();
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default().with_delivery_mode(2));
    channel.basic_publish("".into(), queue.clone(), options, &body, properties).await?.await?;
    Ok(())
}

/// Takes what has arrived, writes its results with one commit, acknowledges it.
async fn work(channel: Channel, mut consumer: Consumer, client: Client, ended: &AtomicU64) -> Result<(), LabError> {
    let failed = |error: lapin::Error| LabError::Server(format!("the skeleton on RabbitMQ: {error}"));
    let sql = "INSERT INTO skeleton SELECT * FROM unnest($1::bigint[], $2::text[]) ON CONFLICT DO NOTHING";
    let insert = client.prepare(sql).await.map_err(|error| of_postgres(&error))?;
    while let Some(first) = consumer.next().await {
        let mut batch: Vec<Delivery> = vec![first.map_err(failed)?];
        while batch.len() < usize::from(PREFETCH)
            && let Some(Some(more)) = consumer.next().now_or_never()
        {
            batch.push(more.map_err(failed)?);
        }
        let id = |delivery: &Delivery| {
            let bytes = delivery.data.first_chunk::<8>().copied().unwrap_or_default();
            i64::from_be_bytes(bytes)
        };
        let ids: Vec<i64> = batch.iter().map(id).collect();
        let written = client.execute(&insert, &[&ids, &vec![RESULT; ids.len()]]).await;
        written.map_err(|error| of_postgres(&error))?;
        let last = batch.last().map_or(0, |delivery| delivery.delivery_tag);
        channel.basic_ack(last, BasicAckOptions { multiple: true }).await.map_err(failed)?;
        ended.fetch_add(ids.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skeleton_ends_what_it_begins() {
        let folder = tempfile::tempdir().unwrap();
        let rate = sqlite(folder.path(), Duration::from_millis(200)).unwrap();
        assert!(rate > 0.0, "{rate}");
        let left = rusqlite::Connection::open(folder.path().join("skeleton.db")).unwrap();
        let open: i64 = left.query_row("SELECT count(*) FROM tasks WHERE status = 0", [], |row| row.get(0)).unwrap();
        assert_eq!(open, BATCH * GROUP as i64, "only those of the last commit");
    }
}
