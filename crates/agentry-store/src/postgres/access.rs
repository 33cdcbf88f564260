//! [`AccessStore`] and [`PulseStore`] on PostgreSQL.

use agentry_core::access::{ApiKey, AuditEntry, BrowserSession, KeyHash, Scope};
use agentry_core::id::{AuditId, KeyId, TaskId};
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use tokio_postgres::Row;

use super::failure::Failure;
use super::rows::{
    SqlId, agent_at, collect, execute, first, id_at, json_at, page_len, query, signed, status_at, time_at, to_json,
};
use super::{PostgresStore, text};
use crate::port::{audit_horizon, revoked_horizon};
use crate::{AccessStore, MAX_BROWSER_SESSIONS_PER_KEY, MAX_KEYS, MAX_PULSE, Page, PulseStore, StoreError, TaskPulse};

const KEY: &str = "SELECT id, hash, name, scope, created_at, expires_at, used_at, revoked_at FROM api_keys";

fn api_key(row: &Row) -> Result<ApiKey, Failure> {
    let scope: i16 = row.try_get(3)?;
    let known = u8::try_from(scope).ok().and_then(Scope::from_number);
    let hash = KeyHash::from_hex(row.try_get(1)?);
    let moment = |column| Ok::<_, Failure>(row.try_get::<_, Option<i64>>(column)?.map(Timestamp));
    Ok(ApiKey {
        id: KeyId::from_bytes(id_at(row, 0)?),
        hash: hash.ok_or_else(|| Failure::Data("the hash of a key is not 64 hex digits".to_owned()))?,
        name: text::unescape(row.try_get(2)?).into_owned(),
        scope: known.ok_or_else(|| Failure::Data(format!("there is no scope {scope}")))?,
        created_at: time_at(row, 4)?,
        expires_at: moment(5)?,
        last_used_at: moment(6)?,
        revoked_at: moment(7)?,
    })
}

fn browser_session(row: &Row) -> Result<BrowserSession, Failure> {
    let hash = KeyHash::from_hex(row.try_get(0)?);
    Ok(BrowserSession {
        hash: hash.ok_or_else(|| Failure::Data("the hash of a session is not 64 hex digits".to_owned()))?,
        key: KeyId::from_bytes(id_at(row, 1)?),
        created_at: time_at(row, 2)?,
        ends_at: time_at(row, 3)?,
    })
}

impl PostgresStore {
    async fn one_key(&self, condition: &str, param: &(dyn tokio_postgres::types::ToSql + Sync)) -> KeyFound {
        let sql = &format!("{KEY} WHERE {condition} = $1");
        self.db
            .retrying(|_| async move {
                first(&self.db.conn().await?, sql, &[param]).await?.map(|row| api_key(&row)).transpose()
            })
            .await
    }
}

type KeyFound = Result<Option<ApiKey>, StoreError>;

#[async_trait]
impl PulseStore for PostgresStore {
    async fn pulse(&self, since: Timestamp, limit: usize) -> Result<Vec<TaskPulse>, StoreError> {
        let first = TaskId::from_parts(u64::try_from(since.0 / 1_000).unwrap_or(0), 0);
        let (first, limit) = (&SqlId(*first.as_bytes()), &signed(limit.min(MAX_PULSE) as u64));
        self.db
            .retrying(|_| async move {
                let sql = "SELECT t.agent, coalesce(o.status, e.status), t.created_at, e.finished_at
                           FROM (SELECT id, agent, created_at FROM tasks WHERE id >= $1 ORDER BY id DESC LIMIT $2) t
                               LEFT JOIN open_tasks o ON o.id = t.id LEFT JOIN ended_tasks e ON e.id = t.id
                           WHERE o.id IS NOT NULL OR e.id IS NOT NULL ORDER BY t.id DESC";
                collect(&query(&self.db.conn().await?, sql, &[first, limit]).await?, |row| {
                    Ok(TaskPulse {
                        agent: agent_at(row, 0)?,
                        status: status_at(row, 1)?,
                        created_at: time_at(row, 2)?,
                        finished_at: row.try_get::<_, Option<i64>>(3)?.map(Timestamp),
                    })
                })
            })
            .await
    }
}

#[async_trait]
impl AccessStore for PostgresStore {
    async fn add_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        let (id, hash, name) = (&SqlId(*key.id.as_bytes()), &key.hash.to_hex(), &text::escape(&key.name));
        let (scope, created, expires) = (&(key.scope as i16), &key.created_at.0, &key.expires_at.map(|at| at.0));
        let added = self
            .db
            .retrying(|tries| async move {
                // About: two processes may each add the last one.
                let sql = "WITH old AS (DELETE FROM api_keys WHERE revoked_at < $8)
                           INSERT INTO api_keys (id, hash, name, scope, created_at, expires_at)
                           SELECT $1, $2, $3, $4, $5, $6 WHERE (SELECT count(*) FROM api_keys) < $7
                           ON CONFLICT (id) DO NOTHING";
                let (most, horizon) = (signed(MAX_KEYS as u64), revoked_horizon(key.created_at).0);
                let params: super::rows::Params<'_> = &[id, hash, name, scope, created, expires, &most, &horizon];
                Ok(execute(&self.db.conn().await?, sql, params).await? > 0 || tries.maybe_done)
            })
            .await?;
        if added { Ok(()) } else { Err(StoreError::too_many_keys()) }
    }

    async fn keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        let sql = &format!("{KEY} ORDER BY id");
        self.db.retrying(|_| async move { collect(&query(&self.db.conn().await?, sql, &[]).await?, api_key) }).await
    }

    async fn revoke_key(&self, key: KeyId, at: Timestamp) -> Result<bool, StoreError> {
        let key = &SqlId(*key.as_bytes());
        self.db
            .retrying(|_| async move {
                let sql = "WITH sessions AS (UPDATE browser_sessions SET ends_at = least(ends_at, $2) WHERE key = $1)
                           UPDATE api_keys SET revoked_at = least(revoked_at, $2) WHERE id = $1";
                Ok(execute(&self.db.conn().await?, sql, &[key, &at.0]).await? > 0)
            })
            .await
    }

    async fn key_by_hash(&self, hash: KeyHash) -> Result<Option<ApiKey>, StoreError> {
        self.one_key("hash", &hash.to_hex()).await
    }

    async fn key(&self, key: KeyId) -> Result<Option<ApiKey>, StoreError> {
        self.one_key("id", &SqlId(*key.as_bytes())).await
    }

    async fn has_keys(&self, now: Timestamp) -> Result<bool, StoreError> {
        self.db
            .retrying(|_| async move {
                let sql = "SELECT EXISTS (SELECT 1 FROM api_keys WHERE coalesce(revoked_at > $1, true)
                               AND coalesce(expires_at > $1, true))";
                let found = first(&self.db.conn().await?, sql, &[&now.0]).await?;
                found.map_or(Ok(false), |row| Ok(row.try_get(0)?))
            })
            .await
    }

    async fn key_used(&self, key: KeyId, at: Timestamp) -> Result<(), StoreError> {
        let key = &SqlId(*key.as_bytes());
        self.db
            .retrying(|_| async move {
                let sql = "UPDATE api_keys SET used_at = greatest(used_at, $2) WHERE id = $1";
                execute(&self.db.conn().await?, sql, &[key, &at.0]).await.map(drop)
            })
            .await
    }

    async fn add_browser_session(&self, session: &BrowserSession) -> Result<bool, StoreError> {
        let (hash, key) = (&session.hash.to_hex(), &SqlId(*session.key.as_bytes()));
        self.db
            .retrying(|tries| async move {
                // The sessions before this one, without those that ended: one statement does not see its own deletions.
                let sql = "WITH old AS (DELETE FROM browser_sessions WHERE ends_at <= $3),
                               more AS (DELETE FROM browser_sessions WHERE hash IN (
                                   SELECT hash FROM browser_sessions WHERE key = $2 AND ends_at > $3
                                   ORDER BY created_at DESC, hash OFFSET $5))
                           INSERT INTO browser_sessions (hash, key, created_at, ends_at)
                           SELECT $1, id, $3, least($4, expires_at, revoked_at) FROM api_keys
                           WHERE id = $2 AND coalesce(expires_at > $3, true) AND coalesce(revoked_at > $3, true)
                           ON CONFLICT (hash) DO NOTHING";
                let others = signed(MAX_BROWSER_SESSIONS_PER_KEY as u64 - 1);
                let params: super::rows::Params<'_> = &[hash, key, &session.created_at.0, &session.ends_at.0, &others];
                Ok(execute(&self.db.conn().await?, sql, params).await? > 0 || tries.maybe_done)
            })
            .await
    }

    async fn browser_session(&self, hash: KeyHash) -> Result<Option<BrowserSession>, StoreError> {
        let hash = &hash.to_hex();
        self.db
            .retrying(|_| async move {
                let sql = "SELECT hash, key, created_at, ends_at FROM browser_sessions WHERE hash = $1";
                first(&self.db.conn().await?, sql, &[hash]).await?.map(|row| browser_session(&row)).transpose()
            })
            .await
    }

    async fn end_browser_session(&self, hash: KeyHash) -> Result<bool, StoreError> {
        let hash = &hash.to_hex();
        self.db
            .retrying(|tries| async move {
                let sql = "DELETE FROM browser_sessions WHERE hash = $1";
                Ok(execute(&self.db.conn().await?, sql, &[hash]).await? > 0 || tries.maybe_done)
            })
            .await
    }

    async fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let body = &to_json(entry).map_err(|failure| failure.to_store_error())?;
        let (id, horizon) = (&SqlId(*entry.id.as_bytes()), &SqlId(*audit_horizon(entry.at).as_bytes()));
        self.db
            .retrying(|_| async move {
                let sql = "WITH old AS (DELETE FROM audit WHERE id < $3)
                           INSERT INTO audit (id, body) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";
                execute(&self.db.conn().await?, sql, &[id, body, horizon]).await.map(drop)
            })
            .await
    }

    async fn audit_log(&self, before: Option<AuditId>, limit: usize) -> Result<Page<AuditEntry>, StoreError> {
        let limit = page_len(limit);
        let (before, wanted) = (&before.map(|id| SqlId(*id.as_bytes())), &signed(limit as u64 + 1));
        let mut items: Vec<AuditEntry> = self
            .db
            .retrying(|_| async move {
                let sql = "SELECT body FROM audit WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2";
                collect(&query(&self.db.conn().await?, sql, &[before, wanted]).await?, |row| json_at(row, 0))
            })
            .await?;
        let more = items.len() > limit;
        items.truncate(limit);
        Ok(Page { items, more })
    }
}
