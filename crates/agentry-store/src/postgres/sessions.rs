//! [`SessionStore`] on PostgreSQL: reading and deleting sessions. Claims are in `sessions_claim`.

use agentry_core::agent::AgentName;
use agentry_core::id::WorkerId;
use agentry_core::session::{SessionId, SessionMessage};
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::failure::Failure;
use super::pool::{Db, Tries};
use super::rows::{execute, row};
use super::{PostgresStore, sessions_claim, text};
use crate::sql::columns::Columns;
use crate::sql::decode;
use crate::sql::limits::{signed, sql_limit};
use crate::{Page, SessionClaim, SessionStore, SessionView, StoreError};

/// A session with the number of its open tasks; `s` is the session.
const VIEW: &str = "SELECT s.id, s.fence, s.messages, s.turns, s.summary, s.created_at, s.updated_at,
        (SELECT count(*) FROM open_tasks o WHERE o.session = s.id)
    FROM sessions s";

fn view(row: &Row) -> Result<SessionView, Failure> {
    Ok(SessionView { record: decode::session(row, 0)?, open_tasks: row.count(7)? })
}

/// A claim from the session's inbox must lock its row; while this transaction holds it, no turn starts.
async fn delete(db: &Db, session: &str, tries: Tries) -> Result<bool, Failure> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let lock = "SELECT seq FROM sessions WHERE id = $1 FOR UPDATE";
    let locked = row(&tx, lock, &[&session], |row| row.number(0)).await?;
    let Some(seq) = locked else { return Ok(tries.maybe_done) };
    let open = "SELECT 1 FROM open_tasks WHERE session = $1 LIMIT 1";
    if row(&tx, open, &[&session], |_| Ok(())).await?.is_some() {
        return Ok(false);
    }
    execute(&tx, "DELETE FROM messages WHERE session = $1", &[&seq]).await?;
    execute(&tx, "DELETE FROM sessions WHERE seq = $1 AND id = $2", &[&seq, &session]).await?;
    tx.commit().await?;
    Ok(true)
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
        let sql = "SELECT number, task, at, body FROM messages
                   WHERE session = (SELECT seq FROM sessions WHERE id = $1) AND number > $2
                   ORDER BY number LIMIT $3";
        let session = text::escape(session.as_str());
        self.db.rows(sql, &[&session, &signed(after), &sql_limit(limit)], decode::message).await
    }

    async fn session(&self, session: &SessionId) -> Result<Option<SessionView>, StoreError> {
        self.db.row(&format!("{VIEW} WHERE s.id = $1"), &[&text::escape(session.as_str())], view).await
    }

    async fn sessions(
        &self,
        agent: Option<&AgentName>,
        before: Option<&SessionId>,
        limit: usize,
    ) -> Result<Page<SessionView>, StoreError> {
        let agent = agent.map(AgentName::as_str);
        let before = before.map(|session| text::escape(session.as_str()));
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
        sql.push_str(&format!(" ORDER BY s.updated_at DESC, s.seq DESC LIMIT ${}", params.len() + 1));
        self.db.page(&sql, &params, limit, view).await
    }

    async fn delete_session(&self, session: &SessionId) -> Result<bool, StoreError> {
        let session = &text::escape(session.as_str());
        self.db.retrying(|tries| delete(&self.db, session, tries)).await
    }
}
