//! [`DeadLetterStore`] on SQLite.
//!
//! A dead letter has the id of what was given up (a task dies once; a message that dies again takes its old place), so
//! that the store needs no random bits of its own.

use std::sync::Arc;

use agentry_core::id::{DeadLetterId, TaskId};
use agentry_core::outbox::{OutboxBody, OutboxMessage};
use agentry_core::task::{ErrorCode, Outcome, Task, TaskError};
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use rusqlite::{Connection, Row};
use serde_json::{Value, json};

use super::accept;
use super::db::Db;
use super::failure::Failure;
use super::rows::{collect, first, json_at, page_len, signed, to_json};
use super::{SqliteStore, agents, claim, outbox};
use crate::arrival::Arrival;
use crate::port::outbox_body;
use crate::{Accepted, DeadLetter, DeadLetterOrigin, DeadLetterState, DeadLetterStore, Page, StoreError};

const COLUMNS: &str = "id, origin, task, agent, reason, payload, created_at, state";

fn insert(db: &Db, letter: &DeadLetter) -> Result<(), Failure> {
    db.sql(&format!("INSERT OR REPLACE INTO dead_letters ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"))?
        .execute((
            letter.id.as_bytes(),
            letter.origin as u8,
            letter.task.as_bytes(),
            letter.agent.as_str(),
            to_json(&letter.reason)?,
            to_json(&letter.payload)?,
            letter.created_at.0,
            letter.state as u8,
        ))?;
    Ok(())
}

/// Keeps a task that was given up, with its input for replay.
pub(super) fn insert_task(
    db: &Db,
    seq: i64,
    task: TaskId,
    agent: i64,
    outcome: &Outcome,
    at: Timestamp,
) -> Result<(), Failure> {
    let name: String = db.sql("SELECT name FROM names WHERE id = ?1")?.query_row([agent], |row| row.get(0))?;
    let unknown =
        || TaskError::new(ErrorCode::Internal, format!("the task ended as {} without an error", outcome.status));
    insert(
        db,
        &DeadLetter {
            id: DeadLetterId::from_bytes(*task.as_bytes()),
            origin: DeadLetterOrigin::Task,
            task,
            agent: agents::name(&name)?,
            reason: outcome.error.clone().unwrap_or_else(unknown),
            payload: claim::body(db, seq)?.input.clone(),
            created_at: at,
            state: DeadLetterState::Open,
        },
    )
}

/// Keeps a message that was given up.
pub(super) fn insert_message(db: &Db, message: &OutboxMessage, reason: &str, at: Timestamp) -> Result<(), Failure> {
    let task = message.task.ok_or_else(|| Failure::Data("a message without a task is never given up".to_owned()))?;
    let agent = {
        let mut statement = db.sql("SELECT n.name FROM tasks t JOIN names n ON n.id = t.agent WHERE t.id = ?1")?;
        first(&mut statement, [task.as_bytes()], |row| agents::name_at(row, 0))?
    };
    let payload = match &message.body {
        OutboxBody::Event { event, .. } => serde_json::to_value(event)?,
        OutboxBody::Callback { url, payload } => json!({ "url": url, "payload": payload }),
        OutboxBody::Slack { message } => serde_json::to_value(message.lasting())?,
    };
    insert(
        db,
        &DeadLetter {
            id: DeadLetterId::from_bytes(*message.id.as_bytes()),
            origin: DeadLetterOrigin::Outbox,
            task,
            agent: agent.ok_or_else(|| Failure::Data(format!("the outbox names task {task}, which is gone")))?,
            reason: TaskError::new(ErrorCode::Internal, reason),
            payload,
            created_at: at,
            state: DeadLetterState::Open,
        },
    )
}

fn letter(row: &Row<'_>) -> Result<DeadLetter, Failure> {
    Ok(DeadLetter {
        id: DeadLetterId::from_bytes(row.get(0)?),
        origin: match row.get::<_, u8>(1)? {
            0 => DeadLetterOrigin::Task,
            1 => DeadLetterOrigin::Outbox,
            other => return Err(Failure::Data(format!("there is no dead-letter origin {other}"))),
        },
        task: TaskId::from_bytes(row.get(2)?),
        agent: agents::name_at(row, 3)?,
        reason: json_at(row, 4)?,
        payload: json_at(row, 5)?,
        created_at: Timestamp(row.get(6)?),
        state: match row.get::<_, u8>(7)? {
            0 => DeadLetterState::Open,
            1 => DeadLetterState::Replayed,
            2 => DeadLetterState::Dropped,
            other => return Err(Failure::Data(format!("there is no dead-letter state {other}"))),
        },
    })
}

fn one(conn: &Connection, id: DeadLetterId) -> Result<Option<DeadLetter>, Failure> {
    let mut statement = conn.prepare_cached(&format!("SELECT {COLUMNS} FROM dead_letters WHERE id = ?1"))?;
    first(&mut statement, [id.as_bytes()], letter)
}

fn open_one(db: &Db, id: DeadLetterId) -> Result<Option<DeadLetter>, Failure> {
    Ok(one(&db.conn, id)?.filter(|letter| letter.state == DeadLetterState::Open))
}

fn close(db: &Db, id: DeadLetterId, state: DeadLetterState) -> Result<bool, Failure> {
    let closed = db
        .sql("UPDATE dead_letters SET state = ?2 WHERE id = ?1 AND state = 0")?
        .execute((id.as_bytes(), state as u8))?;
    Ok(closed > 0)
}

fn edit(db: &Db, id: DeadLetterId, payload: &Value) -> Result<bool, Failure> {
    let Some(letter) = open_one(db, id)? else { return Ok(false) };
    if letter.origin == DeadLetterOrigin::Outbox {
        outbox_body(payload)?;
    }
    db.sql("UPDATE dead_letters SET payload = ?2 WHERE id = ?1")?.execute((id.as_bytes(), to_json(payload)?))?;
    Ok(true)
}

fn replay(db: &mut Db, id: DeadLetterId, task: Option<&Arrival>, now: Timestamp) -> Result<bool, Failure> {
    let Some(letter) = open_one(db, id)? else { return Ok(false) };
    match (letter.origin, task) {
        (DeadLetterOrigin::Task, Some(arrival)) => match accept::accept(db, arrival)? {
            Ok(Accepted::New) => {}
            Ok(Accepted::Duplicate(of)) => {
                return Err(StoreError::Broken(format!("the replay of {id} is task {of} already")).into());
            }
            Err(crate::Refused::Store(error)) => return Err(error.into()),
            Err(refused) => return Err(StoreError::Broken(refused.to_string()).into()),
        },
        (DeadLetterOrigin::Task, None) => {
            return Err(StoreError::Broken(format!("dead letter {id} is a task: its replay needs a new one")).into());
        }
        (DeadLetterOrigin::Outbox, _) => {
            let message = letter.message(now)?;
            outbox::insert(db, &message, now)?;
        }
    }
    close(db, id, DeadLetterState::Replayed)
}

fn page(
    conn: &Connection,
    only_open: bool,
    before: Option<DeadLetterId>,
    limit: usize,
) -> Result<Page<DeadLetter>, Failure> {
    let limit = page_len(limit);
    let open = if only_open { " AND state = 0" } else { "" };
    let mut statement = conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM dead_letters
         WHERE (?1 IS NULL OR seq < (SELECT seq FROM dead_letters WHERE id = ?1)){open} ORDER BY seq DESC LIMIT ?2"
    ))?;
    let before = before.map(|id| *id.as_bytes());
    let mut items = collect(&mut statement, (before, signed(limit as u64 + 1)), letter)?;
    let more = items.len() > limit;
    items.truncate(limit);
    Ok(Page { items, more })
}

#[async_trait]
impl DeadLetterStore for SqliteStore {
    async fn dead_letters(
        &self,
        only_open: bool,
        before: Option<DeadLetterId>,
        limit: usize,
    ) -> Result<Page<DeadLetter>, StoreError> {
        self.read(move |conn| page(conn, only_open, before, limit)).await
    }

    async fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, StoreError> {
        self.read(move |conn| one(conn, id)).await
    }

    /// A message's payload must stay what it is: an event, a Slack message or `{url, payload}`.
    async fn edit_dead_letter(&self, id: DeadLetterId, payload: Value) -> Result<bool, StoreError> {
        self.write(1, move |db| edit(db, id, &payload)).await
    }

    async fn replay_dead_letter(
        &self,
        id: DeadLetterId,
        task: Option<Arc<Task>>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let task = task.map(Arrival::new).transpose()?;
        self.write(3, move |db| replay(db, id, task.as_ref(), now)).await
    }

    async fn drop_dead_letter(&self, id: DeadLetterId) -> Result<bool, StoreError> {
        self.write(1, move |db| close(db, id, DeadLetterState::Dropped)).await
    }
}
