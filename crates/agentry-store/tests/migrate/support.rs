//! A schema of a test's own on a real server, and a folder to move from.

use std::path::Path;
use std::sync::Arc;

use agentry_core::id::TaskId;
use agentry_store::StateStore;
use agentry_store::migrate::{MigrateError, Migration, Report, migrate};
use agentry_store::postgres::{PostgresOptions, PostgresStore};
use agentry_store::sqlite::{SqliteOptions, SqliteStore};
use tokio_postgres::NoTls;

const HINT: &str = "PostgreSQL 15 or newer is needed for this test: run `cargo xtask services`, or name one with \
                    AGENTRY_TEST_POSTGRES_URL";

fn url() -> String {
    std::env::var("AGENTRY_TEST_POSTGRES_URL")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned())
}

/// A connection beside the stores'.
pub async fn client() -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(&url(), NoTls).await.expect(HINT);
    tokio::spawn(connection);
    client
}

/// A schema of a test; it goes when this is dropped.
pub struct Schema(pub String);

impl Schema {
    pub fn new() -> Self {
        Self(format!("t_{}", TaskId::generate().to_string().replace('-', "")))
    }

    pub fn options(&self) -> PostgresOptions {
        PostgresOptions { schema: self.0.clone(), connections: 4, ..PostgresOptions::new(url()) }
    }

    pub async fn store(&self) -> Arc<dyn StateStore> {
        Arc::new(PostgresStore::connect(self.options()).await.expect(HINT))
    }

    /// Runs SQL in the schema.
    pub async fn run(&self, sql: &str) {
        client().await.batch_execute(&format!("SET search_path = {}; {sql}", self.0)).await.unwrap();
    }

    /// Whether the schema holds no task, event or anything else that a folder brings.
    pub async fn is_empty(&self) -> bool {
        let store = self.store().await;
        store.tasks(&Default::default(), None, 1).await.unwrap().items.is_empty()
            && store.recent_events(1).await.unwrap().is_empty()
            && store.sessions(None, None, 1).await.unwrap().items.is_empty()
            && store.schedules(None, 1).await.unwrap().items.is_empty()
            && store.counts().await.unwrap() == Default::default()
    }

    /// Moves a folder here.
    pub async fn take(&self, folder: &Path) -> Result<Report, MigrateError> {
        migrate(&Migration { from: folder.to_owned(), to: self.options() }, |_| {}).await
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

/// The store of a folder.
pub fn sqlite(folder: &Path) -> Arc<dyn StateStore> {
    Arc::new(SqliteStore::open(folder, SqliteOptions::default()).unwrap())
}
