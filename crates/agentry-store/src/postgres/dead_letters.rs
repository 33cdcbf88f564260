//! [`DeadLetterStore`] on PostgreSQL.

use std::collections::HashMap;
use std::sync::Arc;

use agentry_core::agent::AgentName;
use agentry_core::id::{DeadLetterId, TaskId};
use agentry_core::outbox::OutboxMessage;
use agentry_core::task::{Outcome, Task};
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use deadpool_postgres::GenericClient;
use serde_json::Value;

use super::accept;
use super::failure::Failure;
use super::pool::{Db, Tries, Tx};
use super::rows::{Params, SqlId, execute, only, row, rows};
use super::{PostgresStore, outbox};
use crate::port::outbox_body;
use crate::sql::columns::{Columns, to_json};
use crate::sql::encode::EncodedTask;
use crate::sql::{dead_letter, decode};
use crate::{DeadLetter, DeadLetterOrigin, DeadLetterState, DeadLetterStore, Page, StoreError};

const COLUMNS: &str = "id, origin, task, agent, reason, payload, created_at, state";

/// Stores a dead letter. It replaces one of the same id and becomes the newest.
async fn insert(tx: &Tx<'_>, letter: &DeadLetter) -> Result<(), Failure> {
    let sql = "INSERT INTO dead_letters (id, origin, task, agent, reason, payload, created_at, state)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
               ON CONFLICT (id) DO UPDATE SET seq = DEFAULT, origin = excluded.origin, task = excluded.task,
                   agent = excluded.agent, reason = excluded.reason, payload = excluded.payload,
                   created_at = excluded.created_at, state = excluded.state";
    let params: Params<'_> = &[
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

/// Stores a task that was given up as a dead letter, with its input for replay.
pub(super) async fn insert_task(tx: &Tx<'_>, task: TaskId, outcome: &Outcome, at: Timestamp) -> Result<(), Failure> {
    let sql = "SELECT body FROM tasks WHERE id = $1";
    let asked = only(tx, sql, &[&SqlId(*task.as_bytes())], |row| row.json(0)).await?;
    insert(tx, &dead_letter::of_task(asked, outcome, at)).await
}

/// Stores messages that were given up, each with its reason. They are few, because a message is retried for hours
/// first.
pub(super) async fn insert_messages(
    tx: &Tx<'_>,
    messages: &[(OutboxMessage, &str)],
    at: Timestamp,
) -> Result<(), Failure> {
    let tasks: Vec<SqlId> = messages.iter().filter_map(|(message, _)| Some(SqlId(*message.task?.as_bytes()))).collect();
    let sql = "SELECT id, agent FROM tasks WHERE id = ANY($1)";
    let agents = rows(tx, sql, &[&tasks], |row| Ok((row.id(0)?, row.agent(1)?))).await?;
    let agents: HashMap<TaskId, AgentName> = agents.into_iter().collect();
    for (message, reason) in messages {
        let agent = agents.get(&dead_letter::task_of(message)?).cloned();
        insert(tx, &dead_letter::of_message(message, agent, reason, at)?).await?;
    }
    Ok(())
}

/// Returns a dead letter; the `suffix` ` FOR UPDATE` locks its row, so that only one of several decisions succeeds.
async fn one(client: &impl GenericClient, id: DeadLetterId, suffix: &str) -> Result<Option<DeadLetter>, Failure> {
    let sql = format!("SELECT {COLUMNS} FROM dead_letters WHERE id = $1{suffix}");
    row(client, &sql, &[&SqlId(*id.as_bytes())], decode::dead_letter).await
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
    task: Option<&EncodedTask>,
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
        (DeadLetterOrigin::Task, Some(submission)) => accept_replay(db, &tx, id, submission).await?,
        (DeadLetterOrigin::Task, None) => return Err(dead_letter::needs_a_task(id).into()),
        (DeadLetterOrigin::Outbox, _) => {
            let message = letter.message(now)?;
            outbox::insert_all(&tx, &[message]).await?;
        }
    }
    close(&tx, id, DeadLetterState::Replayed).await?;
    tx.commit().await?;
    Ok(true)
}

async fn accept_replay(db: &Db, tx: &Tx<'_>, id: DeadLetterId, submission: &EncodedTask) -> Result<(), Failure> {
    db.check_room(tx, 1).await?;
    match accept::accept_all(db, tx, &[submission]).await?.pop() {
        Some(accepted) => Ok(dead_letter::check_replay(id, accepted)?),
        None => Err(Failure::Data(format!("nothing is known of the replay of {id}"))),
    }
}

/// Returns whether the existing replay was an earlier try of this one.
async fn is_own(tx: &Tx<'_>, task: Option<&EncodedTask>) -> Result<bool, Failure> {
    let Some(submission) = task else { return Ok(true) };
    let id = SqlId(*submission.task.id.as_bytes());
    Ok(row(tx, "SELECT 1 FROM tasks WHERE id = $1", &[&id], |_| Ok(())).await?.is_some())
}

#[async_trait]
impl DeadLetterStore for PostgresStore {
    async fn dead_letters(
        &self,
        only_open: bool,
        before: Option<DeadLetterId>,
        limit: usize,
    ) -> Result<Page<DeadLetter>, StoreError> {
        // A literal and not a parameter, so that the planner can use the partial index.
        let open = if only_open { " AND state = 0" } else { "" };
        let end = format!("{open} ORDER BY seq DESC LIMIT $");
        let sql = format!("SELECT {COLUMNS} FROM dead_letters WHERE ");
        let Some(before) = before else {
            return self.db.page(&format!("{sql} true{end}1"), &[], limit, decode::dead_letter).await;
        };
        let sql = format!("{sql} seq < (SELECT seq FROM dead_letters WHERE id = $1){end}2");
        self.db.page(&sql, &[&SqlId(*before.as_bytes())], limit, decode::dead_letter).await
    }

    async fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, StoreError> {
        self.db.retrying(|_| async move { one(&self.db.conn().await?, id, "").await }).await
    }

    /// The payload of a message must remain an event, a Slack message or `{url, payload}`.
    async fn edit_dead_letter(&self, id: DeadLetterId, payload: Value) -> Result<bool, StoreError> {
        self.db.retrying(|_| edit(&self.db, id, &payload)).await
    }

    async fn replay_dead_letter(
        &self,
        id: DeadLetterId,
        task: Option<Arc<Task>>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let task = task.map(EncodedTask::new).transpose()?;
        self.db.retrying(|tries| replay(&self.db, id, task.as_ref(), now, tries)).await
    }

    async fn drop_dead_letter(&self, id: DeadLetterId) -> Result<bool, StoreError> {
        self.db.retrying(|tries| drop_one(&self.db, id, tries)).await
    }
}
