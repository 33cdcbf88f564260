//! [`DeadLetterStore`] on SQLite.

use std::sync::Arc;

use agentry_core::id::DeadLetterId;
use agentry_core::outbox::OutboxMessage;
use agentry_core::task::{Outcome, Task};
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use rusqlite::Connection;
use serde_json::Value;

use super::accept;
use super::db::Db;
use super::failure::Failure;
use super::rows::row;
use super::{SqliteStore, claim, outbox};
use crate::port::outbox_body;
use crate::sql::columns::{Columns, to_json};
use crate::sql::encode::EncodedTask;
use crate::sql::limits::one_more;
use crate::sql::{dead_letter, decode};
use crate::{DeadLetter, DeadLetterOrigin, DeadLetterState, DeadLetterStore, Page, StoreError};

const COLUMNS: &str = "id, origin, task, agent, reason, payload, created_at, state";

fn insert(db: &Db, letter: &DeadLetter) -> Result<(), Failure> {
    db.execute(
        &format!("INSERT OR REPLACE INTO dead_letters ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"),
        (
            letter.id.as_bytes(),
            letter.origin as u8,
            letter.task.as_bytes(),
            letter.agent.as_str(),
            to_json(&letter.reason)?,
            to_json(&letter.payload)?,
            letter.created_at.0,
            letter.state as u8,
        ),
    )
    .map(drop)
}

/// Stores a task that was given up as a dead letter, with its input for replay.
pub(super) fn insert_task(db: &Db, seq: i64, outcome: &Outcome, at: Timestamp) -> Result<(), Failure> {
    insert(db, &dead_letter::of_task(claim::body(db, seq)?, outcome, at))
}

/// Stores a message that was given up as a dead letter.
pub(super) fn insert_message(db: &Db, message: &OutboxMessage, reason: &str, at: Timestamp) -> Result<(), Failure> {
    let task = dead_letter::task_of(message)?;
    let sql = "SELECT n.name FROM tasks t JOIN names n ON n.id = t.agent WHERE t.id = ?1";
    let agent = row(&db.conn, sql, [task.as_bytes()], |row| row.agent(0))?;
    insert(db, &dead_letter::of_message(message, agent, reason, at)?)
}

fn one(conn: &Connection, id: DeadLetterId) -> Result<Option<DeadLetter>, Failure> {
    row(conn, &format!("SELECT {COLUMNS} FROM dead_letters WHERE id = ?1"), [id.as_bytes()], |row| {
        decode::dead_letter(row)
    })
}

fn open_one(db: &Db, id: DeadLetterId) -> Result<Option<DeadLetter>, Failure> {
    Ok(one(&db.conn, id)?.filter(|letter| letter.state == DeadLetterState::Open))
}

fn close(db: &Db, id: DeadLetterId, state: DeadLetterState) -> Result<bool, Failure> {
    let sql = "UPDATE dead_letters SET state = ?2 WHERE id = ?1 AND state = 0";
    Ok(db.execute(sql, (id.as_bytes(), state as u8))? > 0)
}

fn edit(db: &Db, id: DeadLetterId, payload: &Value) -> Result<bool, Failure> {
    let Some(letter) = open_one(db, id)? else { return Ok(false) };
    if letter.origin == DeadLetterOrigin::Outbox {
        outbox_body(payload)?;
    }
    db.execute("UPDATE dead_letters SET payload = ?2 WHERE id = ?1", (id.as_bytes(), to_json(payload)?))?;
    Ok(true)
}

fn replay(db: &mut Db, id: DeadLetterId, task: Option<&EncodedTask>, now: Timestamp) -> Result<bool, Failure> {
    let Some(letter) = open_one(db, id)? else { return Ok(false) };
    match (letter.origin, task) {
        (DeadLetterOrigin::Task, Some(submission)) => dead_letter::check_replay(id, accept::accept(db, submission)?)?,
        (DeadLetterOrigin::Task, None) => return Err(dead_letter::needs_a_task(id).into()),
        (DeadLetterOrigin::Outbox, _) => outbox::insert_at(db, &letter.message(now)?, now)?,
    }
    close(db, id, DeadLetterState::Replayed)
}

#[async_trait]
impl DeadLetterStore for SqliteStore {
    async fn dead_letters(
        &self,
        only_open: bool,
        before: Option<DeadLetterId>,
        limit: usize,
    ) -> Result<Page<DeadLetter>, StoreError> {
        let open = if only_open { " AND state = 0" } else { "" };
        let sql = format!(
            "SELECT {COLUMNS} FROM dead_letters
             WHERE (?1 IS NULL OR seq < (SELECT seq FROM dead_letters WHERE id = ?1)){open} ORDER BY seq DESC LIMIT ?2"
        );
        let params = (before.map(|id| *id.as_bytes()), one_more(limit));
        Ok(Page::cut(self.rows(sql, params, |row| decode::dead_letter(row)).await?, limit))
    }

    async fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, StoreError> {
        self.read(move |conn| one(conn, id)).await
    }

    /// The payload of a message must remain an event, a Slack message or `{url, payload}`.
    async fn edit_dead_letter(&self, id: DeadLetterId, payload: Value) -> Result<bool, StoreError> {
        self.write(1, move |db| edit(db, id, &payload)).await
    }

    async fn replay_dead_letter(
        &self,
        id: DeadLetterId,
        task: Option<Arc<Task>>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let task = task.map(EncodedTask::new).transpose()?;
        self.write(3, move |db| replay(db, id, task.as_ref(), now)).await
    }

    async fn drop_dead_letter(&self, id: DeadLetterId) -> Result<bool, StoreError> {
        self.write(1, move |db| close(db, id, DeadLetterState::Dropped)).await
    }
}
