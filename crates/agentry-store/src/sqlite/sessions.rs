//! [`SessionStore`] on SQLite: one writer at a time, ordered inbox.

use agentry_core::agent::AgentName;
use agentry_core::id::{TaskId, WorkerId};
use agentry_core::session::{SessionId, SessionMessage, SessionRecord, SessionWrite};
use agentry_core::task::TaskStatus;
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use super::db::Db;
use super::failure::Failure;
use super::rows::{collect, first, json_at, json_or_none, page_len, signed, sql_limit, status, to_json};
use super::{SqliteStore, agents, claim, recover};
use crate::{Page, SessionClaim, SessionStore, SessionView, StoreError};

const COLUMNS: &str = "id, fence, messages, turns, summary, created_at, updated_at";

/// The row of a session whose fence and owner a write holds. `None`: the fence is stale.
pub(super) fn fenced(db: &Db, write: &SessionWrite, worker: WorkerId) -> Result<Option<i64>, Failure> {
    Ok(db
        .sql("SELECT seq FROM sessions WHERE id = ?1 AND fence = ?2 AND owner = ?3")?
        .query_row((write.session.as_str(), signed(write.fence), worker.as_bytes()), |row| row.get(0))
        .optional()?)
}

/// Appends the messages of a turn, numbered on from the session's last one.
pub(super) fn append(db: &Db, seq: i64, write: &SessionWrite, task: TaskId, at: Timestamp) -> Result<(), Failure> {
    let summary = write.summary.as_ref().map(to_json).transpose()?;
    let last: i64 = db
        .sql(
            "UPDATE sessions SET messages = messages + ?2, turns = turns + 1, summary = coalesce(?3, summary),
                 updated_at = ?4
             WHERE seq = ?1 RETURNING messages",
        )?
        .query_row((seq, write.messages.len(), summary, at.0), |row| row.get(0))?;
    let before = last - signed(write.messages.len() as u64);
    for (number, message) in (before + 1..).zip(&write.messages) {
        db.sql("INSERT INTO messages (session, number, task, at, body) VALUES (?1, ?2, ?3, ?4, ?5)")?.execute((
            seq,
            number,
            task.as_bytes(),
            at.0,
            to_json(message)?,
        ))?;
    }
    Ok(())
}

/// The session has no owner until the next claim; when the same worker claims next, its fence stays.
pub(super) fn release(db: &Db, session: &str) -> Result<(), Failure> {
    db.sql("UPDATE sessions SET held = 0 WHERE id = ?1 AND held = 1")?.execute([session])?;
    Ok(())
}

/// The owner died: whoever claims next gets a new fence.
pub(super) fn forget_owner(db: &Db, session: &str) -> Result<(), Failure> {
    db.sql("UPDATE sessions SET held = 0, owner = NULL WHERE id = ?1")?.execute([session])?;
    Ok(())
}

struct Head {
    seq: i64,
    status: TaskStatus,
    ready_at: Timestamp,
}

/// Named by hand: the planner prefers `tasks_session`, which also holds every task of the session that has ended.
fn head(db: &Db, session: &str) -> Result<Option<Head>, Failure> {
    let mut statement = db.sql(
        "SELECT seq, status, ready_at FROM tasks INDEXED BY tasks_inbox
         WHERE session = ?1 AND session IS NOT NULL AND status < 3 ORDER BY seq LIMIT 1",
    )?;
    first(&mut statement, [session], |row| {
        Ok(Head { seq: row.get(0)?, status: status(row.get(1)?)?, ready_at: Timestamp(row.get(2)?) })
    })
}

/// Claims the oldest task of an inbox and with it the session.
fn claim_session(db: &mut Db, worker: WorkerId, session: &SessionId, now: Timestamp) -> Result<SessionClaim, Failure> {
    let holder = {
        let mut statement = db.sql("SELECT owner FROM sessions WHERE id = ?1 AND held = 1 AND owner IS NOT NULL")?;
        first(&mut statement, [session.as_str()], |row| Ok(WorkerId::from_bytes(row.get(0)?)))?
    };
    let Some(head) = head(db, session.as_str())? else {
        release(db, session.as_str())?;
        return Ok(SessionClaim::Empty);
    };
    if let Some(holder) = holder
        && holder != worker
        && recover::is_registered(db, holder)?
    {
        return Ok(SessionClaim::Busy);
    }
    match head.status {
        TaskStatus::Running => return Ok(SessionClaim::Busy),
        TaskStatus::Waiting => {
            release(db, session.as_str())?;
            return Ok(SessionClaim::Waiting);
        }
        _ if head.ready_at > now => {
            release(db, session.as_str())?;
            return Ok(SessionClaim::NotBefore(head.ready_at));
        }
        _ => {}
    }
    let record = own(db, worker, session, now)?;
    let mut claimed = claim::take(db, worker, head.seq, now)?;
    claimed.task = Some(std::sync::Arc::new(claim::body(db, head.seq)?));
    Ok(SessionClaim::Claimed { claimed: Box::new(claimed), session: Box::new(record) })
}

/// Makes `worker` the session's owner; the fence grows unless it was the one before, too.
fn own(db: &Db, worker: WorkerId, session: &SessionId, now: Timestamp) -> Result<SessionRecord, Failure> {
    let mut statement = db.sql(
        "INSERT INTO sessions (id, agent, fence, owner, held, messages, turns, created_at, updated_at)
             VALUES (?1, ?2, 1, ?3, 1, 0, 0, ?4, ?4)
         ON CONFLICT (id) DO UPDATE SET fence = fence + (owner IS NOT ?3), owner = ?3, held = 1
         RETURNING id, fence, messages, turns, summary, created_at, updated_at",
    )?;
    first(&mut statement, (session.as_str(), session.agent(), worker.as_bytes(), now.0), record)?
        .ok_or_else(|| Failure::Data(format!("session {session} could not be made")))
}

fn record(row: &Row<'_>) -> Result<SessionRecord, Failure> {
    Ok(SessionRecord {
        id: agents::session(row.get_ref(0)?.as_str().map_err(|error| Failure::Data(error.to_string()))?)?,
        fence: row.get(1)?,
        messages: row.get(2)?,
        turns: row.get(3)?,
        summary: json_or_none(row, 4)?,
        created_at: Timestamp(row.get(5)?),
        updated_at: Timestamp(row.get(6)?),
    })
}

fn view(conn: &Connection, row: &Row<'_>) -> Result<SessionView, Failure> {
    let record = record(row)?;
    Ok(SessionView { open_tasks: open_tasks(conn, record.id.as_str())?, record })
}

fn open_tasks(conn: &Connection, session: &str) -> Result<u64, Failure> {
    Ok(conn
        .prepare_cached(
            "SELECT count(*) FROM tasks INDEXED BY tasks_inbox
             WHERE session = ?1 AND session IS NOT NULL AND status < 3",
        )?
        .query_row([session], |row| row.get(0))?)
}

fn page(
    conn: &Connection,
    agent: Option<&AgentName>,
    before: Option<&SessionId>,
    limit: usize,
) -> Result<Page<SessionView>, Failure> {
    let limit = page_len(limit);
    let mut sql = format!("SELECT {COLUMNS} FROM sessions WHERE 1");
    let mut values = Vec::new();
    if let Some(agent) = agent {
        sql.push_str(" AND agent = ?");
        values.push(Sql::Text(agent.to_string()));
    }
    if let Some(before) = before {
        sql.push_str(" AND (updated_at, seq) < (SELECT updated_at, seq FROM sessions WHERE id = ?)");
        values.push(Sql::Text(before.to_string()));
    }
    sql.push_str(" ORDER BY updated_at DESC, seq DESC LIMIT ?");
    values.push(Sql::Integer(signed(limit as u64 + 1)));
    let mut statement = conn.prepare_cached(&sql)?;
    let mut items = collect(&mut statement, params_from_iter(values), |row| view(conn, row))?;
    let more = items.len() > limit;
    items.truncate(limit);
    Ok(Page { items, more })
}

fn delete(db: &Db, session: &SessionId) -> Result<bool, Failure> {
    if open_tasks(&db.conn, session.as_str())? > 0 {
        return Ok(false);
    }
    db.sql("DELETE FROM messages WHERE session = (SELECT seq FROM sessions WHERE id = ?1)")?
        .execute([session.as_str()])?;
    Ok(db.sql("DELETE FROM sessions WHERE id = ?1")?.execute([session.as_str()])? > 0)
}

#[async_trait]
impl SessionStore for SqliteStore {
    async fn claim_session(
        &self,
        worker: WorkerId,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<SessionClaim, StoreError> {
        let session = session.clone();
        self.write_soon(3, move |db| claim_session(db, worker, &session, now)).await
    }

    async fn messages(&self, session: &SessionId, after: u64, limit: usize) -> Result<Vec<SessionMessage>, StoreError> {
        let session = session.clone();
        self.read(move |conn| {
            let mut statement = conn.prepare_cached(
                "SELECT number, task, at, body FROM messages
                 WHERE session = (SELECT seq FROM sessions WHERE id = ?1) AND number > ?2 ORDER BY number LIMIT ?3",
            )?;
            collect(&mut statement, (session.as_str(), signed(after), sql_limit(limit)), |row| {
                Ok(SessionMessage {
                    number: row.get(0)?,
                    task: TaskId::from_bytes(row.get(1)?),
                    at: Timestamp(row.get(2)?),
                    message: json_at(row, 3)?,
                })
            })
        })
        .await
    }

    async fn session(&self, session: &SessionId) -> Result<Option<SessionView>, StoreError> {
        let session = session.clone();
        self.read(move |conn| {
            let mut statement = conn.prepare_cached(&format!("SELECT {COLUMNS} FROM sessions WHERE id = ?1"))?;
            first(&mut statement, [session.as_str()], |row| view(conn, row))
        })
        .await
    }

    async fn sessions(
        &self,
        agent: Option<&AgentName>,
        before: Option<&SessionId>,
        limit: usize,
    ) -> Result<Page<SessionView>, StoreError> {
        let (agent, before) = (agent.cloned(), before.cloned());
        self.read(move |conn| page(conn, agent.as_ref(), before.as_ref(), limit)).await
    }

    async fn delete_session(&self, session: &SessionId) -> Result<bool, StoreError> {
        let session = session.clone();
        self.write(1, move |db| delete(db, &session)).await
    }
}
