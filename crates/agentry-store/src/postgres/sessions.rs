//! [`SessionStore`] on PostgreSQL: reading sessions and removing them. Claims are in `sessions_claim`.

use agentry_core::agent::AgentName;
use agentry_core::id::{TaskId, WorkerId};
use agentry_core::session::{SessionId, SessionMessage, SessionRecord};
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::failure::Failure;
use super::pool::{Conn, Db};
use super::rows::{
    collect, execute, first, id_at, json_at, json_or_none, page_len, query, session_at, signed, sql_limit, time_at,
    u64_at,
};
use super::{PostgresStore, sessions_claim, text};
use crate::{Page, SessionClaim, SessionStore, SessionView, StoreError};

/// A session with the number of its open tasks; `s` is the session.
const VIEW: &str = "SELECT s.id, s.fence, s.messages, s.turns, s.summary, s.created_at, s.updated_at,
        (SELECT count(*) FROM open_tasks o WHERE o.session = s.id)
    FROM sessions s";

fn view(row: &Row) -> Result<SessionView, Failure> {
    let record = SessionRecord {
        id: session_at(row, 0)?,
        fence: u64_at(row, 1)?,
        messages: u64_at(row, 2)?,
        turns: u64_at(row, 3)?,
        summary: json_or_none(row, 4)?,
        created_at: time_at(row, 5)?,
        updated_at: time_at(row, 6)?,
    };
    Ok(SessionView { record, open_tasks: u64_at(row, 7)? })
}

async fn page(
    conn: &Conn,
    agent: Option<&AgentName>,
    before: Option<&SessionId>,
    limit: usize,
) -> Result<Page<SessionView>, Failure> {
    let limit = page_len(limit);
    let agent = agent.map(AgentName::as_str);
    let before = before.map(|session| text::escape(session.as_str()));
    let one_more = signed(limit as u64 + 1);
    let mut sql = format!("{VIEW} WHERE true");
    let mut params: Vec<&(dyn ToSql + Sync)> = Vec::new();
    if let Some(agent) = &agent {
        params.push(agent);
        sql.push_str(&format!(" AND s.agent = ${}", params.len()));
    }
    if let Some(before) = &before {
        params.push(before);
        let cursor = format!("(SELECT b.updated_at, b.seq FROM sessions b WHERE b.id = ${})", params.len());
        sql.push_str(&format!(" AND (s.updated_at, s.seq) < {cursor}"));
    }
    params.push(&one_more);
    sql.push_str(&format!(" ORDER BY s.updated_at DESC, s.seq DESC LIMIT ${}", params.len()));
    let mut items = collect(&query(conn, &sql, &params).await?, view)?;
    let more = items.len() > limit;
    items.truncate(limit);
    Ok(Page { items, more })
}

/// Whoever claims from the session's inbox must touch its row; while this transaction holds it, nobody begins a turn.
async fn delete(db: &Db, session: &str, maybe_done: bool) -> Result<bool, Failure> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let Some(row) = first(&tx, "SELECT seq FROM sessions WHERE id = $1 FOR UPDATE", &[&session]).await? else {
        return Ok(maybe_done);
    };
    let seq: i64 = row.try_get(0)?;
    if first(&tx, "SELECT 1 FROM open_tasks WHERE session = $1 LIMIT 1", &[&session]).await?.is_some() {
        return Ok(false);
    }
    execute(&tx, "DELETE FROM messages WHERE session = $1", &[&seq]).await?;
    execute(&tx, "DELETE FROM sessions WHERE seq = $1 AND id = $2", &[&seq, &session]).await?;
    tx.commit().await?;
    Ok(true)
}

fn message(row: &Row) -> Result<SessionMessage, Failure> {
    Ok(SessionMessage {
        number: u64_at(row, 0)?,
        task: TaskId::from_bytes(id_at(row, 1)?),
        at: time_at(row, 2)?,
        message: json_at(row, 3)?,
    })
}

#[async_trait]
impl SessionStore for PostgresStore {
    async fn claim_session(
        &self,
        worker: WorkerId,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<SessionClaim, StoreError> {
        sessions_claim::claim_session(self, worker, session, now).await
    }

    async fn messages(&self, session: &SessionId, after: u64, limit: usize) -> Result<Vec<SessionMessage>, StoreError> {
        let session = &text::escape(session.as_str());
        self.db
            .retrying(|_| async move {
                let sql = "SELECT number, task, at, body FROM messages
                           WHERE session = (SELECT seq FROM sessions WHERE id = $1) AND number > $2
                           ORDER BY number LIMIT $3";
                let conn = self.db.conn().await?;
                collect(&query(&conn, sql, &[session, &signed(after), &sql_limit(limit)]).await?, message)
            })
            .await
    }

    async fn session(&self, session: &SessionId) -> Result<Option<SessionView>, StoreError> {
        let session = &text::escape(session.as_str());
        self.db
            .retrying(|_| async move {
                let conn = self.db.conn().await?;
                first(&conn, &format!("{VIEW} WHERE s.id = $1"), &[session]).await?.map(|row| view(&row)).transpose()
            })
            .await
    }

    async fn sessions(
        &self,
        agent: Option<&AgentName>,
        before: Option<&SessionId>,
        limit: usize,
    ) -> Result<Page<SessionView>, StoreError> {
        self.db.retrying(|_| async move { page(&self.db.conn().await?, agent, before, limit).await }).await
    }

    async fn delete_session(&self, session: &SessionId) -> Result<bool, StoreError> {
        let session = &text::escape(session.as_str());
        self.db.retrying(|tries| delete(&self.db, session, tries.maybe_done)).await
    }
}
