//! The PostgreSQL backend: any number of processes on one database.
//!
//! Frequent writes (accept, claim, advance) are sent in batches: one statement over arrays for all waiting callers, one
//! commit, then their answers. Every other write is a transaction of its own. A transaction that appends to a task's
//! journal locks its row of `open_tasks` first; everything else follows from that order.

mod accept;
mod access;
mod advance;
mod batch;
mod budgets;
mod cancel;
mod claim;
mod clarifications;
mod counts;
mod dead_letters;
mod deployment;
mod events;
pub(crate) mod failure;
mod fleet;
mod liveness;
mod migrations;
pub(crate) mod options;
mod outbox;
mod pool;
mod prune;
mod recover;
pub(crate) mod rows;
mod schedules;
mod sessions;
mod sessions_claim;
mod single_write;
mod task_list;
mod tasks;
pub(crate) mod text;
mod usage;
mod write;

use std::sync::Arc;

pub use options::{DEFAULT_CONNECTIONS, DEFAULT_MAX_QUEUED, DEFAULT_SCHEMA, MIN_CONNECTIONS, PostgresOptions};
pub use pool::PoolStatus;

use prometheus_client::registry::Registry;

use crate::StoreError;
use pool::Db;

/// The state store on PostgreSQL.
pub struct PostgresStore {
    db: Arc<Db>,
    batches: batch::Batches,
    locks: liveness::WorkerLocks,
}

impl PostgresStore {
    /// Connects and migrates the schema if necessary. Any number of processes may do so at once.
    ///
    /// Dropping the store lets waiting batches finish in the background and closes the connections.
    ///
    /// # Errors
    /// The reason for which the server cannot be used, with advice.
    pub async fn connect(options: PostgresOptions) -> Result<Self, StoreError> {
        let db = Arc::new(Db::new(options)?);
        db.retrying_within(migrations::MIGRATION_TIMEOUT, |_| migrations::run(&db.options)).await?;
        Ok(Self { batches: batch::Batches::start(&db), locks: liveness::WorkerLocks::default(), db })
    }

    /// Returns the state of the connection pools, without the connections that hold workers' locks.
    #[must_use]
    pub fn pool_status(&self) -> PoolStatus {
        self.db.status()
    }

    /// Registers its metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.db.register(registry);
    }
}
