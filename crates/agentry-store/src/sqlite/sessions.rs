//! [`SessionStore`] on SQLite: one writer at a time, ordered inbox.

use std::sync::Arc;

use agentry_core::agent::AgentName;
use agentry_core::id::WorkerId;
use agentry_core::session::{SessionId, SessionMessage, SessionRecord, SessionWrite};
use agentry_core::task::TaskStatus;
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, Row, params_from_iter};

use super::db::Db;
use super::failure::Failure;
use super::rows::{row, rows, value};
use super::{SqliteStore, claim, recover};
use crate::sql::columns::Columns;
use crate::sql::decode;
use crate::sql::encode::EncodedWrite;
use crate::sql::limits::{one_more, signed, sql_limit};
use crate::{Page, SessionClaim, SessionStore, SessionView, StoreError};

const COLUMNS: &str = "id, fence, messages, turns, summary, created_at, updated_at";

/// Returns the row of a session whose fence and owner match a write; `None` when the fence is stale.
pub(super) fn fenced(db: &Db, write: &SessionWrite, worker: WorkerId) -> Result<Option<i64>, Failure> {
    let sql = "SELECT seq FROM sessions WHERE id = ?1 AND fence = ?2 AND owner = ?3";
    let params = (write.session.as_str(), signed(write.fence), worker.as_bytes());
    row(&db.conn, sql, params, |row| row.number(0))
}

/// Appends the messages of a turn, numbered from the last one of session row `seq`.
pub(super) fn append(db: &Db, seq: i64, write: &EncodedWrite) -> Result<(), Failure> {
    let (task, at) = (write.advance.lease.task, write.advance.at);
    let sql = "UPDATE sessions SET messages = messages + ?2, turns = turns + 1, summary = coalesce(?3, summary),
                   updated_at = ?4
               WHERE seq = ?1 RETURNING messages";
    let last: i64 = value(&db.conn, sql, (seq, write.messages.len(), &write.summary, at.0))?;
    let before = last - signed(write.messages.len() as u64);
    for (number, body) in (before + 1..).zip(&write.messages) {
        let sql = "INSERT INTO messages (session, number, task, at, body) VALUES (?1, ?2, ?3, ?4, ?5)";
        db.execute(sql, (seq, number, task.as_bytes(), at.0, body))?;
    }
    Ok(())
}

/// Releases the session until the next claim; when the same worker claims next, its fence stays.
pub(super) fn release(db: &Db, session: &str) -> Result<(), Failure> {
    db.execute("UPDATE sessions SET held = 0 WHERE id = ?1 AND held = 1", [session]).map(drop)
}

/// Removes a dead owner: the next claim gets a new fence.
pub(super) fn forget_owner(db: &Db, session: &str) -> Result<(), Failure> {
    db.execute("UPDATE sessions SET held = 0, owner = NULL WHERE id = ?1", [session]).map(drop)
}

struct Head {
    seq: i64,
    status: TaskStatus,
    ready_at: Timestamp,
}

/// The index is named, because the planner prefers `tasks_session`, which also holds every ended task of the session.
fn head(db: &Db, session: &str) -> Result<Option<Head>, Failure> {
    let sql = "SELECT seq, status, ready_at FROM tasks INDEXED BY tasks_inbox
               WHERE session = ?1 AND session IS NOT NULL AND status < 3 ORDER BY seq LIMIT 1";
    row(&db.conn, sql, [session], |row| {
        Ok(Head { seq: row.number(0)?, status: row.status(1)?, ready_at: row.time(2)? })
    })
}

/// Claims the oldest task of an inbox and with it the session.
fn claim_session(db: &mut Db, worker: WorkerId, session: &SessionId, now: Timestamp) -> Result<SessionClaim, Failure> {
    let sql = "SELECT owner FROM sessions WHERE id = ?1 AND held = 1 AND owner IS NOT NULL";
    let holder = row(&db.conn, sql, [session.as_str()], |row| row.id(0))?;
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
    claimed.task = Some(Arc::new(claim::body(db, head.seq)?));
    Ok(SessionClaim::Claimed { claimed: Box::new(claimed), session: Box::new(record) })
}

/// Makes `worker` the session's owner; the fence grows unless it was the previous owner, too.
fn own(db: &Db, worker: WorkerId, session: &SessionId, now: Timestamp) -> Result<SessionRecord, Failure> {
    let sql = "INSERT INTO sessions (id, agent, fence, owner, held, messages, turns, created_at, updated_at)
                   VALUES (?1, ?2, 1, ?3, 1, 0, 0, ?4, ?4)
               ON CONFLICT (id) DO UPDATE SET fence = fence + (owner IS NOT ?3), owner = ?3, held = 1
               RETURNING id, fence, messages, turns, summary, created_at, updated_at";
    let params = (session.as_str(), session.agent(), worker.as_bytes(), now.0);
    row(&db.conn, sql, params, |row| decode::session(row, 0))?
        .ok_or_else(|| Failure::Data(format!("session {session} could not be made")))
}

fn view(conn: &Connection, row: &Row<'_>) -> Result<SessionView, Failure> {
    let record = decode::session(row, 0)?;
    Ok(SessionView { open_tasks: open_tasks(conn, record.id.as_str())?, record })
}

fn open_tasks(conn: &Connection, session: &str) -> Result<u64, Failure> {
    let sql = "SELECT count(*) FROM tasks INDEXED BY tasks_inbox
               WHERE session = ?1 AND session IS NOT NULL AND status < 3";
    value(conn, sql, [session])
}

fn page(
    conn: &Connection,
    agent: Option<&AgentName>,
    before: Option<&SessionId>,
    limit: usize,
) -> Result<Page<SessionView>, Failure> {
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
    values.push(Sql::Integer(one_more(limit)));
    Ok(Page::cut(rows(conn, &sql, params_from_iter(values), |row| view(conn, row))?, limit))
}

fn delete(db: &Db, session: &SessionId) -> Result<bool, Failure> {
    if open_tasks(&db.conn, session.as_str())? > 0 {
        return Ok(false);
    }
    let messages = "DELETE FROM messages WHERE session = (SELECT seq FROM sessions WHERE id = ?1)";
    db.execute(messages, [session.as_str()])?;
    Ok(db.execute("DELETE FROM sessions WHERE id = ?1", [session.as_str()])? > 0)
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
        self.write_relaxed(3, move |db| claim_session(db, worker, &session, now)).await
    }

    async fn messages(&self, session: &SessionId, after: u64, limit: usize) -> Result<Vec<SessionMessage>, StoreError> {
        let sql = "SELECT number, task, at, body FROM messages
                   WHERE session = (SELECT seq FROM sessions WHERE id = ?1) AND number > ?2 ORDER BY number LIMIT ?3";
        self.rows(sql, (session.to_string(), signed(after), sql_limit(limit)), |row| decode::message(row)).await
    }

    async fn session(&self, session: &SessionId) -> Result<Option<SessionView>, StoreError> {
        let session = session.to_string();
        self.read(move |conn| {
            let sql = format!("SELECT {COLUMNS} FROM sessions WHERE id = ?1");
            row(conn, &sql, [session], |row| view(conn, row))
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
