//! Migrations: SQL files of `migrations/postgres/`, applied in order, each with its number in one transaction.
//!
//! Several processes may start at once: an advisory lock, held by a session of its own, lets one of them migrate while
//! the others wait; they then find nothing left to do.

use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use super::failure::{Failure, describe};
use super::options::{Planner, PostgresOptions};
use crate::StoreError;

/// Every migration, oldest first; its number is its position, from 1.
const MIGRATIONS: [&str; 8] = [
    include_str!("../../migrations/postgres/V1__state.sql"),
    include_str!("../../migrations/postgres/V2__ledger_and_budgets.sql"),
    include_str!("../../migrations/postgres/V3__access.sql"),
    include_str!("../../migrations/postgres/V4__schedule_revision.sql"),
    include_str!("../../migrations/postgres/V5__question_threads.sql"),
    include_str!("../../migrations/postgres/V6__browser_sessions.sql"),
    include_str!("../../migrations/postgres/V7__steady_heartbeats.sql"),
    include_str!("../../migrations/postgres/V8__fleet.sql"),
];

/// The schema that this version of Agentry reads and writes.
const SCHEMA_VERSION: i32 = MIGRATIONS.len() as i32;
/// Oldest supported (and tested) server version.
const MIN_SERVER: i32 = 150_000;
/// First key of the advisory lock (the second is a hash of the schema): "agry". Locks of workers have one key of 64
/// bits, which PostgreSQL keeps apart.
const LOCK: i32 = 0x6167_7279;
/// Timeout of migrations, including the wait for another process that migrates: a large table needs minutes.
pub(super) const MIGRATION_TIMEOUT: Duration = Duration::from_secs(300);

/// Checks the server and applies missing migrations.
pub(super) async fn run(options: &PostgresOptions) -> Result<(), Failure> {
    let config = options.config(Planner::General)?;
    let (client, connection) = config.connect(NoTls).await.map_err(Failure::connecting)?;
    // Ends with the client, whose drop closes the connection and frees the lock.
    let serve = async {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection for migrations ended");
        }
    };
    let (migrated, ()) = tokio::join!(migrate(client, options.checked_schema()?), serve);
    migrated
}

async fn migrate(mut client: Client, schema: &str) -> Result<(), Failure> {
    let server: i32 =
        client.query_one("SELECT current_setting('server_version_num')::integer", &[]).await?.try_get(0)?;
    if server < MIN_SERVER {
        return Err(refused(format!(
            "PostgreSQL {}.{} is too old: Agentry needs version {} or newer",
            server / 10_000,
            server % 10_000,
            MIN_SERVER / 10_000
        )));
    }
    client.batch_execute("SET statement_timeout = 0").await?;
    client.execute("SELECT pg_advisory_lock($1, hashtext($2))", &[&LOCK, &schema]).await?;
    // Checked first: creating a schema needs a right that the owner of an existing one may lack.
    let exists: bool =
        client.query_one("SELECT to_regnamespace($1::text) IS NOT NULL", &[&schema]).await?.try_get(0)?;
    if !exists {
        client.batch_execute(&format!("CREATE SCHEMA {schema}")).await?;
    }
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS schema_versions (
                 version    integer     PRIMARY KEY,
                 applied_at timestamptz NOT NULL DEFAULT now()
             )",
        )
        .await?;
    let found: i32 =
        client.query_one("SELECT coalesce(max(version), 0) FROM schema_versions", &[]).await?.try_get(0)?;
    if found > SCHEMA_VERSION {
        return Err(refused(format!(
            "PostgreSQL schema `{schema}` is of version {found}, written by a newer Agentry; this one knows versions up \
             to {SCHEMA_VERSION}: run the newer Agentry or use another schema"
        )));
    }
    for (number, sql) in (1i32..).zip(MIGRATIONS).skip(usize::try_from(found).unwrap_or(0)) {
        let tx = client.transaction().await?;
        tx.batch_execute(sql).await.map_err(|error| {
            Failure::Data(format!("migration {number} of PostgreSQL schema `{schema}`: {}", describe(&error)))
        })?;
        tx.execute("INSERT INTO schema_versions (version) VALUES ($1)", &[&number]).await?;
        tx.commit().await?;
        tracing::info!(schema, number, "migrated PostgreSQL");
    }
    Ok(())
}

fn refused(why: String) -> Failure {
    StoreError::Broken(why).into()
}
