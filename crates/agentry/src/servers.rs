//! Probes of the servers of the cluster engine, for `doctor`, and cleanup, for `demo`.

use std::time::{Duration, Instant, SystemTime};

use agentry_bus::rabbitmq::{RabbitBus, RabbitOptions};
use agentry_config::Cluster;
use lapin::{Connection, ConnectionProperties};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::{Client, NoTls};

/// Timeout of all requests to one server.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of RabbitMQ's greeting that are read at most: its properties take some hundred.
const MAX_GREETING: usize = 4_096;

/// Information about a PostgreSQL server.
pub struct PostgresInfo {
    /// Version number, such as 150013.
    pub version_number: i32,
    /// Version, for people.
    pub version: String,
    /// Round-trip time of a query.
    pub round_trip: Duration,
    /// Offset of its clock from ours, in milliseconds.
    pub clock_ms: f64,
    /// True if it refuses writes.
    pub read_only: bool,
    /// True if this user may create or write the schema.
    pub may_write: bool,
    /// Its limit of connections.
    pub max_connections: i64,
}

/// Information about a RabbitMQ or Redis server.
pub struct ServerInfo {
    /// Version.
    pub version: String,
    /// Round-trip time of a query.
    pub round_trip: Duration,
}

async fn with_timeout<T>(asking: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = || Err(format!("no answer within {} s", PROBE_TIMEOUT.as_secs()));
    tokio::time::timeout(PROBE_TIMEOUT, asking).await.unwrap_or_else(|_| late())
}

/// Returns an error with its causes, without the address.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

async fn connect_postgres(url: &SecretString) -> Result<Client, String> {
    let (client, connection) = tokio_postgres::connect(url.expose_secret(), NoTls).await.map_err(|e| causes(&e))?;
    // Ends with the client.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to PostgreSQL ended");
        }
    });
    Ok(client)
}

/// Probes PostgreSQL.
pub async fn postgres(cluster: &Cluster) -> Result<PostgresInfo, String> {
    const QUESTIONS: &str = "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
         current_setting('max_connections')::bigint,
         pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool,
         CASE WHEN to_regnamespace($1) IS NULL THEN has_database_privilege(current_database(), 'CREATE')
              ELSE has_schema_privilege(to_regnamespace($1)::oid, 'CREATE') END";
    with_timeout(async {
        let client = connect_postgres(&cluster.postgres_url).await?;
        let row = client.query_one(QUESTIONS, &[&cluster.postgres_schema]).await.map_err(|error| causes(&error))?;
        let clock = client.prepare("SELECT extract(epoch FROM clock_timestamp())::float8").await;
        let clock = clock.map_err(|error| causes(&error))?;
        let (asked_at, asked) = (SystemTime::now(), Instant::now());
        let theirs: f64 = client.query_one(&clock, &[]).await.map_err(|error| causes(&error))?.get(0);
        let round_trip = asked.elapsed();
        // It read its clock about half way.
        let ours = asked_at + round_trip / 2;
        let ours = ours.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Ok(PostgresInfo {
            version_number: row.get(0),
            version: row.get(1),
            max_connections: row.get(2),
            read_only: row.get(3),
            may_write: row.get(4),
            round_trip,
            clock_ms: (theirs - ours) * 1_000.0,
        })
    })
    .await
}

/// Probes RabbitMQ.
pub async fn rabbitmq(cluster: &Cluster) -> Result<ServerInfo, String> {
    with_timeout(async {
        let connection = connect_rabbitmq(&cluster.rabbitmq_url).await?;
        let asked = Instant::now();
        connection.create_channel().await.map_err(|error| causes(&error))?;
        let round_trip = asked.elapsed();
        let version = greeting(&cluster.rabbitmq_url).await.unwrap_or_else(|| "of unknown version".to_owned());
        // The result of closing does not matter.
        let _ = connection.close(200, "OK".into()).await;
        Ok(ServerInfo { version, round_trip })
    })
    .await
}

async fn connect_rabbitmq(url: &SecretString) -> Result<Connection, String> {
    let properties = ConnectionProperties::default().with_connection_name("agentry doctor".into());
    Connection::connect(url.expose_secret(), properties).await.map_err(|error| causes(&error))
}

/// Returns the version in RabbitMQ's first frame, which the client library does not expose.
async fn greeting(url: &SecretString) -> Option<String> {
    let uri: lapin::uri::AMQPUri = url.expose_secret().parse().ok()?;
    let mut stream = tokio::net::TcpStream::connect((uri.authority.host.as_str(), uri.authority.port)).await.ok()?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await.ok()?;
    let mut bytes = vec![0; MAX_GREETING];
    let read = stream.read(&mut bytes).await.ok()?;
    version_in(&bytes[..read])
}

/// Finds the version in a field table: name, `S`, four bytes of length, and the text.
fn version_in(greeting: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"\x07versionS";
    let at = greeting.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let length = u32::from_be_bytes(greeting.get(at..at + 4)?.try_into().ok()?);
    let text = greeting.get(at + 4..at + 4 + usize::try_from(length).ok()?)?;
    String::from_utf8(text.to_vec()).ok()
}

/// Probes Redis.
pub async fn redis(url: &SecretString) -> Result<ServerInfo, String> {
    with_timeout(async {
        // Its errors may repeat the address.
        let client = redis::Client::open(url.expose_secret()).map_err(|error| error.category().to_owned())?;
        let mut connection =
            client.get_multiplexed_async_connection().await.map_err(|error| error.category().to_owned())?;
        let info: String =
            redis::cmd("INFO").arg("server").query_async(&mut connection).await.map_err(|e| causes(&e))?;
        let asked = Instant::now();
        let _pong: String = redis::cmd("PING").query_async(&mut connection).await.map_err(|error| causes(&error))?;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("of unknown version");
        Ok(ServerInfo { version: version.trim().to_owned(), round_trip: asked.elapsed() })
    })
    .await
}

/// Removes everything that a deployment with this schema and prefix left on its servers.
pub async fn remove_all(cluster: &Cluster) -> Result<(), String> {
    let (postgres, rabbitmq) = tokio::join!(with_timeout(drop_schema(cluster)), with_timeout(delete_names(cluster)));
    postgres.and(rabbitmq)
}

async fn drop_schema(cluster: &Cluster) -> Result<(), String> {
    let client = connect_postgres(&cluster.postgres_url).await?;
    // The settings let only plain names through, so it needs no quotes.
    let sql = format!("DROP SCHEMA IF EXISTS {} CASCADE", cluster.postgres_schema);
    client.batch_execute(&sql).await.map_err(|error| causes(&error))
}

async fn delete_names(cluster: &Cluster) -> Result<(), String> {
    let url = cluster.rabbitmq_url.expose_secret();
    let (prefix, shards) = (cluster.rabbitmq_prefix.clone(), cluster.rabbitmq_shards);
    let options = RabbitOptions { prefix, shards, ..RabbitOptions::new(url) };
    RabbitBus::remove_all(&options).await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_in_the_greeting() {
        let greeting = b"\x01\x00\x00\x07productS\x00\x00\x00\x08RabbitMQ\x07versionS\x00\x00\x00\x063.10.8\x05PLAIN";
        assert_eq!(version_in(greeting).as_deref(), Some("3.10.8"));
        assert_eq!(version_in(b"\x07versionS\x00\x00\x00\xff3"), None, "cut off");
        assert_eq!(version_in(b"HTTP/1.1 400 Bad Request"), None);
    }
}
