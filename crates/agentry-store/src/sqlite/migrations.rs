//! Migrations: SQL files of `migrations/`, applied in order, each with its number in one transaction.
//!
//! The number of the last one is stored as SQLite's own `user_version`, so that a file shows its version before
//! anything else of it is read.

use rusqlite::Connection;

/// Every migration, oldest first; its number is its position, from 1.
const MIGRATIONS: [&str; 8] = [
    include_str!("../../migrations/V1__state.sql"),
    include_str!("../../migrations/V2__ledger_and_budgets.sql"),
    include_str!("../../migrations/V3__access.sql"),
    include_str!("../../migrations/V4__schedule_revision.sql"),
    include_str!("../../migrations/V5__question_threads.sql"),
    include_str!("../../migrations/V6__tasks_not_completed.sql"),
    include_str!("../../migrations/V7__browser_sessions.sql"),
    include_str!("../../migrations/V8__fleet.sql"),
];

/// The schema that this version of Agentry reads and writes.
pub(crate) const SCHEMA_VERSION: u32 = MIGRATIONS.len() as u32;

/// Returns the schema of a file; 0 for an empty one.
pub(crate) fn version(conn: &Connection) -> rusqlite::Result<u32> {
    conn.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Applies missing migrations.
pub(super) fn apply(conn: &Connection) -> rusqlite::Result<()> {
    for (number, sql) in (1u32..).zip(MIGRATIONS).skip(version(conn)? as usize) {
        conn.execute_batch(&format!("BEGIN IMMEDIATE; {sql}; PRAGMA user_version = {number}; COMMIT;"))?;
    }
    Ok(())
}
