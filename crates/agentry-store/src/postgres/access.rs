//! [`AccessStore`] and [`RecentTaskStore`] on PostgreSQL.

use agentry_core::access::{ApiKey, AuditEntry, BrowserSession, KeyHash};
use agentry_core::id::{AuditId, KeyId, TaskId};
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use tokio_postgres::types::ToSql;

use super::rows::{Params, SqlId};
use super::{PostgresStore, text};
use crate::port::{audit_horizon, revoked_horizon};
use crate::sql::columns::{Columns, to_json};
use crate::sql::decode;
use crate::sql::limits::signed;
use crate::{
    AccessStore, MAX_BROWSER_SESSIONS_PER_KEY, MAX_KEYS, MAX_RECENT_TASKS, Page, RecentTask, RecentTaskStore,
    StoreError,
};

const KEY: &str = "SELECT id, hash, name, scope, created_at, expires_at, used_at, revoked_at FROM api_keys";

impl PostgresStore {
    async fn one_key(&self, condition: &str, param: &(dyn ToSql + Sync)) -> Result<Option<ApiKey>, StoreError> {
        self.db.row(&format!("{KEY} WHERE {condition} = $1"), &[param], decode::api_key).await
    }
}

#[async_trait]
impl RecentTaskStore for PostgresStore {
    async fn recent_tasks(&self, since: Timestamp, limit: usize) -> Result<Vec<RecentTask>, StoreError> {
        let first = TaskId::from_parts(u64::try_from(since.0 / 1_000).unwrap_or(0), 0);
        let sql = "SELECT t.agent, coalesce(o.status, e.status), t.created_at, e.finished_at
                   FROM (SELECT id, agent, created_at FROM tasks WHERE id >= $1 ORDER BY id DESC LIMIT $2) t
                       LEFT JOIN open_tasks o ON o.id = t.id LEFT JOIN ended_tasks e ON e.id = t.id
                   WHERE o.id IS NOT NULL OR e.id IS NOT NULL ORDER BY t.id DESC";
        let params: Params<'_> = &[&SqlId(*first.as_bytes()), &signed(limit.min(MAX_RECENT_TASKS) as u64)];
        self.db
            .rows(sql, params, |row| {
                let (agent, status) = (row.agent(0)?, row.status(1)?);
                Ok(RecentTask { agent, status, created_at: row.time(2)?, finished_at: row.time_or_none(3)? })
            })
            .await
    }
}

#[async_trait]
impl AccessStore for PostgresStore {
    async fn add_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        // The bound is approximate: two processes may each add the last key.
        let sql = "WITH old AS (DELETE FROM api_keys WHERE revoked_at < $8)
                   INSERT INTO api_keys (id, hash, name, scope, created_at, expires_at)
                   SELECT $1, $2, $3, $4, $5, $6 WHERE (SELECT count(*) FROM api_keys) < $7
                   ON CONFLICT (id) DO NOTHING";
        let params: Params<'_> = &[
            &SqlId(*key.id.as_bytes()),
            &key.hash.to_hex(),
            &text::escape(&key.name),
            &(key.scope as i16),
            &key.created_at.0,
            &key.expires_at.map(|at| at.0),
            &signed(MAX_KEYS as u64),
            &revoked_horizon(key.created_at).0,
        ];
        if self.db.touches(sql, params).await? { Ok(()) } else { Err(StoreError::too_many_keys()) }
    }

    async fn keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.db.rows(&format!("{KEY} ORDER BY id"), &[], decode::api_key).await
    }

    async fn revoke_key(&self, key: KeyId, at: Timestamp) -> Result<bool, StoreError> {
        let sql = "WITH sessions AS (UPDATE browser_sessions SET ends_at = least(ends_at, $2) WHERE key = $1)
                   UPDATE api_keys SET revoked_at = least(revoked_at, $2) WHERE id = $1";
        Ok(self.db.execute(sql, &[&SqlId(*key.as_bytes()), &at.0]).await? > 0)
    }

    async fn key_by_hash(&self, hash: KeyHash) -> Result<Option<ApiKey>, StoreError> {
        self.one_key("hash", &hash.to_hex()).await
    }

    async fn key(&self, key: KeyId) -> Result<Option<ApiKey>, StoreError> {
        self.one_key("id", &SqlId(*key.as_bytes())).await
    }

    async fn has_active_keys(&self, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM api_keys WHERE coalesce(revoked_at > $1, true)
                       AND coalesce(expires_at > $1, true))";
        self.db.only(sql, &[&now.0], |row| row.flag(0)).await
    }

    async fn record_key_use(&self, key: KeyId, at: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE api_keys SET used_at = greatest(used_at, $2) WHERE id = $1";
        self.db.execute(sql, &[&SqlId(*key.as_bytes()), &at.0]).await.map(drop)
    }

    async fn add_browser_session(&self, session: &BrowserSession) -> Result<bool, StoreError> {
        // Counts the sessions before this one without the ended ones, because a statement does not see its own
        // deletions.
        let sql = "WITH old AS (DELETE FROM browser_sessions WHERE ends_at <= $3),
                       more AS (DELETE FROM browser_sessions WHERE hash IN (
                           SELECT hash FROM browser_sessions WHERE key = $2 AND ends_at > $3
                           ORDER BY created_at DESC, hash OFFSET $5))
                   INSERT INTO browser_sessions (hash, key, created_at, ends_at)
                   SELECT $1, id, $3, least($4, expires_at, revoked_at) FROM api_keys
                   WHERE id = $2 AND coalesce(expires_at > $3, true) AND coalesce(revoked_at > $3, true)
                   ON CONFLICT (hash) DO NOTHING";
        let (hash, key) = (session.hash.to_hex(), SqlId(*session.key.as_bytes()));
        let others = signed(MAX_BROWSER_SESSIONS_PER_KEY as u64 - 1);
        self.db.touches(sql, &[&hash, &key, &session.created_at.0, &session.ends_at.0, &others]).await
    }

    async fn browser_session(&self, hash: KeyHash) -> Result<Option<BrowserSession>, StoreError> {
        let sql = "SELECT hash, key, created_at, ends_at FROM browser_sessions WHERE hash = $1";
        self.db.row(sql, &[&hash.to_hex()], decode::browser_session).await
    }

    async fn end_browser_session(&self, hash: KeyHash) -> Result<bool, StoreError> {
        self.db.touches("DELETE FROM browser_sessions WHERE hash = $1", &[&hash.to_hex()]).await
    }

    async fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let sql = "WITH old AS (DELETE FROM audit WHERE id < $3)
                   INSERT INTO audit (id, body) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";
        let (id, horizon) = (SqlId(*entry.id.as_bytes()), SqlId(*audit_horizon(entry.at).as_bytes()));
        self.db.execute(sql, &[&id, &to_json(entry)?, &horizon]).await.map(drop)
    }

    async fn audit_log(&self, before: Option<AuditId>, limit: usize) -> Result<Page<AuditEntry>, StoreError> {
        let sql = "SELECT body FROM audit WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2";
        let before = before.map(|id| SqlId(*id.as_bytes()));
        self.db.page(sql, &[&before], limit, |row| row.json(0)).await
    }
}
