//! PostgreSQL for tests: the server of `AGENTRY_TEST_POSTGRES_URL`, or the usual one of this machine, with a schema for
//! each test.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::id::{TaskId, WorkerId};
use agentry_core::time::Timestamp;
use agentry_store::StateStore;
use agentry_store::contract::build::AgeHeartbeats;
use agentry_store::postgres::{PostgresOptions, PostgresStore};
use async_trait::async_trait;
use tokio_postgres::NoTls;

pub const HINT: &str = "PostgreSQL 15 or newer is needed for this test: run `cargo xtask services`, or name one with \
                        AGENTRY_TEST_POSTGRES_URL";

pub fn url() -> String {
    std::env::var("AGENTRY_TEST_POSTGRES_URL")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned())
}

/// Opens a connection besides the stores'.
pub async fn client() -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(&url(), NoTls).await.expect(HINT);
    tokio::spawn(connection);
    client
}

/// A schema of a test, which is dropped with this.
pub struct Schema(pub String);

impl Schema {
    pub fn new() -> Self {
        Self(format!("t_{}", TaskId::generate().to_string().replace('-', "")))
    }

    pub fn options(&self) -> PostgresOptions {
        self.options_at(&url())
    }

    pub fn options_at(&self, url: &str) -> PostgresOptions {
        let and = if url.contains('?') { '&' } else { '?' };
        // The name lets a test find the connections of its own stores.
        let url = format!("{url}{and}application_name={}", self.0);
        PostgresOptions { schema: self.0.clone(), connections: 4, ..PostgresOptions::new(url) }
    }

    pub async fn store(&self) -> Arc<dyn StateStore> {
        self.store_at(&url()).await
    }

    pub async fn store_at(&self, url: &str) -> Arc<dyn StateStore> {
        Arc::new(PostgresStore::connect(self.options_at(url)).await.expect(HINT))
    }

    /// Opens a connection besides the stores', in the schema.
    pub async fn client(&self) -> tokio_postgres::Client {
        let client = client().await;
        client.batch_execute(&format!("SET search_path = {}", self.0)).await.unwrap();
        client
    }

    /// Terminates connections of the test's stores; returns their number.
    pub async fn terminate(&self, client: &tokio_postgres::Client) -> usize {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
        client.query(sql, &[&self.0]).await.unwrap().len()
    }

    /// Makes the last heartbeat of a worker `age` old, after others without a gap. The server stamps heartbeats, so
    /// they are moved in its table.
    pub async fn age(&self, worker: WorkerId, age: Duration) {
        let age = i64::try_from(age.as_micros()).unwrap();
        let sql = format!(
            "UPDATE {}.workers SET heartbeat_at = server.now - {age}, steady_since = server.now - {age} - 60000000
             FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now) AS server WHERE id = '{worker}'",
            self.0
        );
        assert_eq!(client().await.execute(&sql, &[]).await.unwrap(), 1, "worker {worker} is not registered");
    }
}

#[async_trait]
impl AgeHeartbeats for Schema {
    async fn age(&self, _: &Arc<dyn StateStore>, worker: WorkerId, _: Timestamp, age: Duration) {
        Schema::age(self, worker, age).await;
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                client().await.batch_execute(&format!("DROP SCHEMA IF EXISTS {} CASCADE", self.0)).await.unwrap();
            });
        });
    }
}

/// Opens a store in a schema of its own.
pub fn open() -> (Schema, Arc<dyn StateStore>) {
    let schema = Schema::new();
    let store = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(schema.store()));
    (schema, store)
}
