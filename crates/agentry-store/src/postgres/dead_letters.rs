//! [`DeadLetterStore`] on PostgreSQL.
//!
//! A dead letter has the id of what was given up (a task dies once; a message that dies again takes its old place), so
//! that the store needs no random bits of its own.

use std::collections::HashMap;
use std::sync::Arc;

use agentry_core::agent::AgentName;
use agentry_core::id::{DeadLetterId, TaskId};
use agentry_core::outbox::{OutboxBody, OutboxMessage};
use agentry_core::task::{ErrorCode, Outcome, Task, TaskError};
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use deadpool_postgres::GenericClient;
use serde_json::{Value, json};
use tokio_postgres::Row;

use super::accept;
use super::failure::Failure;
use super::pool::{Conn, Db, Tries, Tx};
use super::rows::{
    SqlId, agent_at, collect, execute, first, id_at, json_at, page_len, query, signed, time_at, to_json,
};
use super::{PostgresStore, outbox};
use crate::arrival::Arrival;
use crate::port::outbox_body;
use crate::{Accepted, DeadLetter, DeadLetterOrigin, DeadLetterState, DeadLetterStore, Page, StoreError};

const COLUMNS: &str = "id, origin, task, agent, reason, payload, created_at, state";

/// Keeps a letter. One of the same id is replaced and is the newest from then on.
async fn insert(tx: &Tx<'_>, letter: &DeadLetter) -> Result<(), Failure> {
    let sql = "INSERT INTO dead_letters (id, origin, task, agent, reason, payload, created_at, state)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
               ON CONFLICT (id) DO UPDATE SET seq = DEFAULT, origin = excluded.origin, task = excluded.task,
                   agent = excluded.agent, reason = excluded.reason, payload = excluded.payload,
                   created_at = excluded.created_at, state = excluded.state";
    let params: super::rows::Params<'_> = &[
        &SqlId(*letter.id.as_bytes()),
        &(letter.origin as i16),
        &SqlId(*letter.task.as_bytes()),
        &letter.agent.as_str(),
        &to_json(&letter.reason)?,
        &to_json(&letter.payload)?,
        &letter.created_at.0,
        &(letter.state as i16),
    ];
    execute(tx, sql, params).await.map(drop)
}

/// Keeps a task that was given up, with its input for replay.
pub(super) async fn insert_task(tx: &Tx<'_>, task: TaskId, outcome: &Outcome, at: Timestamp) -> Result<(), Failure> {
    let row = first(tx, "SELECT body FROM tasks WHERE id = $1", &[&SqlId(*task.as_bytes())]).await?;
    let asked: Task = json_at(&row.ok_or_else(|| Failure::Data(format!("task {task} has no body")))?, 0)?;
    let unknown =
        || TaskError::new(ErrorCode::Internal, format!("the task ended as {} without an error", outcome.status));
    let letter = DeadLetter {
        id: DeadLetterId::from_bytes(*task.as_bytes()),
        origin: DeadLetterOrigin::Task,
        task,
        agent: asked.agent,
        reason: outcome.error.clone().unwrap_or_else(unknown),
        payload: asked.input,
        created_at: at,
        state: DeadLetterState::Open,
    };
    insert(tx, &letter).await
}

/// Keeps messages that were given up, each with its reason. They are few: a message is tried for hours before.
pub(super) async fn insert_messages(
    tx: &Tx<'_>,
    messages: &[(OutboxMessage, &str)],
    at: Timestamp,
) -> Result<(), Failure> {
    let tasks: Vec<SqlId> = messages.iter().filter_map(|(message, _)| Some(SqlId(*message.task?.as_bytes()))).collect();
    let rows = query(tx, "SELECT id, agent FROM tasks WHERE id = ANY($1)", &[&tasks]).await?;
    let agents: HashMap<[u8; 16], AgentName> =
        rows.iter().map(|row| Ok((id_at(row, 0)?, agent_at(row, 1)?))).collect::<Result<_, Failure>>()?;
    for (message, reason) in messages {
        let task =
            message.task.ok_or_else(|| Failure::Data("a message without a task is never given up".to_owned()))?;
        let agent = agents
            .get(task.as_bytes())
            .ok_or_else(|| Failure::Data(format!("the outbox names task {task}, which is gone")))?;
        let payload = match &message.body {
            OutboxBody::Event { event, .. } => serde_json::to_value(event)?,
            OutboxBody::Callback { url, payload } => json!({ "url": url, "payload": payload }),
            OutboxBody::Slack { message } => serde_json::to_value(message.lasting())?,
        };
        let letter = DeadLetter {
            id: DeadLetterId::from_bytes(*message.id.as_bytes()),
            origin: DeadLetterOrigin::Outbox,
            task,
            agent: agent.clone(),
            reason: TaskError::new(ErrorCode::Internal, *reason),
            payload,
            created_at: at,
            state: DeadLetterState::Open,
        };
        insert(tx, &letter).await?;
    }
    Ok(())
}

fn letter(row: &Row) -> Result<DeadLetter, Failure> {
    Ok(DeadLetter {
        id: DeadLetterId::from_bytes(id_at(row, 0)?),
        origin: match row.try_get::<_, i16>(1)? {
            0 => DeadLetterOrigin::Task,
            1 => DeadLetterOrigin::Outbox,
            other => return Err(Failure::Data(format!("there is no dead-letter origin {other}"))),
        },
        task: TaskId::from_bytes(id_at(row, 2)?),
        agent: agent_at(row, 3)?,
        reason: json_at(row, 4)?,
        payload: json_at(row, 5)?,
        created_at: time_at(row, 6)?,
        state: match row.try_get::<_, i16>(7)? {
            0 => DeadLetterState::Open,
            1 => DeadLetterState::Replayed,
            2 => DeadLetterState::Dropped,
            other => return Err(Failure::Data(format!("there is no dead-letter state {other}"))),
        },
    })
}

/// A letter; with `suffix` ` FOR UPDATE` its row is locked, so that of many who decide about it one does.
async fn one(client: &impl GenericClient, id: DeadLetterId, suffix: &str) -> Result<Option<DeadLetter>, Failure> {
    let sql = format!("SELECT {COLUMNS} FROM dead_letters WHERE id = $1{suffix}");
    first(client, &sql, &[&SqlId(*id.as_bytes())]).await?.map(|row| letter(&row)).transpose()
}

const LOCK: &str = " FOR UPDATE";

async fn close(client: &impl GenericClient, id: DeadLetterId, state: DeadLetterState) -> Result<bool, Failure> {
    let sql = "UPDATE dead_letters SET state = $2 WHERE id = $1 AND state = 0";
    Ok(execute(client, sql, &[&SqlId(*id.as_bytes()), &(state as i16)]).await? > 0)
}

async fn edit(db: &Db, id: DeadLetterId, payload: &Value) -> Result<bool, Failure> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let Some(letter) = one(&tx, id, LOCK).await?.filter(|letter| letter.state == DeadLetterState::Open) else {
        return Ok(false);
    };
    if letter.origin == DeadLetterOrigin::Outbox {
        outbox_body(payload)?;
    }
    let sql = "UPDATE dead_letters SET payload = $2 WHERE id = $1";
    execute(&tx, sql, &[&SqlId(*id.as_bytes()), &to_json(payload)?]).await?;
    tx.commit().await?;
    Ok(true)
}

async fn drop_one(db: &Db, id: DeadLetterId, tries: Tries) -> Result<bool, Failure> {
    let conn = db.conn().await?;
    if close(&conn, id, DeadLetterState::Dropped).await? {
        return Ok(true);
    }
    Ok(tries.maybe_done && one(&conn, id, "").await?.is_some_and(|letter| letter.state == DeadLetterState::Dropped))
}

async fn replay(
    db: &Db,
    id: DeadLetterId,
    task: Option<&Arrival>,
    now: Timestamp,
    tries: Tries,
) -> Result<bool, Failure> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let Some(letter) = one(&tx, id, LOCK).await? else { return Ok(false) };
    if letter.state != DeadLetterState::Open {
        return Ok(tries.maybe_done && letter.state == DeadLetterState::Replayed && is_own(&tx, task).await?);
    }
    match (letter.origin, task) {
        (DeadLetterOrigin::Task, Some(arrival)) => accept_replay(db, &tx, id, arrival).await?,
        (DeadLetterOrigin::Task, None) => {
            return Err(StoreError::Broken(format!("dead letter {id} is a task: its replay needs a new one")).into());
        }
        (DeadLetterOrigin::Outbox, _) => {
            let message = letter.message(now)?;
            outbox::insert_all(&tx, &[message]).await?;
        }
    }
    close(&tx, id, DeadLetterState::Replayed).await?;
    tx.commit().await?;
    Ok(true)
}

async fn accept_replay(db: &Db, tx: &Tx<'_>, id: DeadLetterId, arrival: &Arrival) -> Result<(), Failure> {
    db.check_room(tx, 1).await?;
    match accept::accept_all(db, tx, &[arrival]).await?.pop() {
        Some(Ok(Accepted::New)) => Ok(()),
        Some(Ok(Accepted::Duplicate(of))) => {
            Err(StoreError::Broken(format!("the replay of {id} is task {of} already")).into())
        }
        Some(Err(crate::Refused::Store(error))) => Err(error.into()),
        Some(Err(refused)) => Err(StoreError::Broken(refused.to_string()).into()),
        None => Err(Failure::Data(format!("nothing is known of the replay of {id}"))),
    }
}

/// Whether the replay that is there already was an earlier try of this one.
async fn is_own(tx: &Tx<'_>, task: Option<&Arrival>) -> Result<bool, Failure> {
    let Some(arrival) = task else { return Ok(true) };
    let id = SqlId(*arrival.task.id.as_bytes());
    Ok(first(tx, "SELECT 1 FROM tasks WHERE id = $1", &[&id]).await?.is_some())
}

async fn page(
    conn: &Conn,
    only_open: bool,
    before: Option<DeadLetterId>,
    limit: usize,
) -> Result<Page<DeadLetter>, Failure> {
    let limit = page_len(limit);
    let one_more = signed(limit as u64 + 1);
    // In the text and not a parameter, so that the server sees which partial index may be used.
    let open = if only_open { " AND state = 0" } else { "" };
    let rows = match before {
        Some(before) => {
            let sql = format!(
                "SELECT {COLUMNS} FROM dead_letters
                 WHERE seq < (SELECT seq FROM dead_letters WHERE id = $1){open} ORDER BY seq DESC LIMIT $2"
            );
            query(conn, &sql, &[&SqlId(*before.as_bytes()), &one_more]).await?
        }
        None => {
            let sql = format!("SELECT {COLUMNS} FROM dead_letters WHERE true{open} ORDER BY seq DESC LIMIT $1");
            query(conn, &sql, &[&one_more]).await?
        }
    };
    let mut items = collect(&rows, letter)?;
    let more = items.len() > limit;
    items.truncate(limit);
    Ok(Page { items, more })
}

#[async_trait]
impl DeadLetterStore for PostgresStore {
    async fn dead_letters(
        &self,
        only_open: bool,
        before: Option<DeadLetterId>,
        limit: usize,
    ) -> Result<Page<DeadLetter>, StoreError> {
        self.db.retrying(|_| async move { page(&self.db.conn().await?, only_open, before, limit).await }).await
    }

    async fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, StoreError> {
        self.db.retrying(|_| async move { one(&self.db.conn().await?, id, "").await }).await
    }

    /// A message's payload must stay what it is: an event, a Slack message or `{url, payload}`.
    async fn edit_dead_letter(&self, id: DeadLetterId, payload: Value) -> Result<bool, StoreError> {
        self.db.retrying(|_| edit(&self.db, id, &payload)).await
    }

    async fn replay_dead_letter(
        &self,
        id: DeadLetterId,
        task: Option<Arc<Task>>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let task = task.map(Arrival::new).transpose()?;
        self.db.retrying(|tries| replay(&self.db, id, task.as_ref(), now, tries)).await
    }

    async fn drop_dead_letter(&self, id: DeadLetterId) -> Result<bool, StoreError> {
        self.db.retrying(|tries| drop_one(&self.db, id, tries)).await
    }
}
