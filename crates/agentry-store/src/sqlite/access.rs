//! [`AccessStore`] and [`RecentTaskStore`] on SQLite.

use agentry_core::access::{ApiKey, AuditEntry, BrowserSession, KeyHash};
use agentry_core::id::{AuditId, KeyId};
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use rusqlite::Connection;

use super::SqliteStore;
use super::db::Db;
use super::failure::Failure;
use super::rows::value;
use crate::port::{audit_horizon, revoked_horizon, timestamp_of_id};
use crate::sql::columns::{Columns, to_json};
use crate::sql::decode::{api_key, browser_session};
use crate::sql::limits::{one_more, signed};
use crate::{
    AccessStore, MAX_BROWSER_SESSIONS_PER_KEY, MAX_KEYS, MAX_RECENT_TASKS, Page, RecentTask, RecentTaskStore,
    StoreError,
};

const KEY: &str = "SELECT id, hash, name, scope, created_at, expires_at, used_at, revoked_at FROM api_keys";

fn add(db: &Db, key: &ApiKey) -> Result<(), Failure> {
    db.execute("DELETE FROM api_keys WHERE revoked_at < ?1", [revoked_horizon(key.created_at).0])?;
    if value::<usize>(&db.conn, "SELECT count(*) FROM api_keys", [])? >= MAX_KEYS {
        return Err(Failure::Refused(StoreError::too_many_keys()));
    }
    let (id, expires_at) = (key.id.as_bytes(), key.expires_at.map(|at| at.0));
    db.execute(
        "INSERT INTO api_keys (id, hash, name, scope, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        (id, key.hash.to_hex(), &key.name, key.scope as u8, key.created_at.0, expires_at),
    )?;
    Ok(())
}

fn add_browser_session(db: &Db, session: &BrowserSession) -> Result<bool, Failure> {
    let (key, now) = (session.key.as_bytes(), session.created_at.0);
    db.execute("DELETE FROM browser_sessions WHERE ends_at <= ?1", [now])?;
    let sql = "INSERT INTO browser_sessions (hash, key, created_at, ends_at)
               SELECT ?1, id, ?3, min(?4, coalesce(expires_at, ?4), coalesce(revoked_at, ?4)) FROM api_keys
               WHERE id = ?2 AND coalesce(expires_at, ?3 + 1) > ?3 AND coalesce(revoked_at, ?3 + 1) > ?3";
    let kept = db.execute(sql, (session.hash.to_hex(), key, now, session.ends_at.0))? > 0;
    let sql = "DELETE FROM browser_sessions WHERE hash IN (SELECT hash FROM browser_sessions WHERE key = ?1
                   ORDER BY created_at DESC, hash LIMIT -1 OFFSET ?2)";
    db.execute(sql, (key, signed(MAX_BROWSER_SESSIONS_PER_KEY as u64)))?;
    Ok(kept)
}

/// Returns the newest tasks, until one is too old.
fn newest(conn: &Connection, since: Timestamp, limit: usize) -> Result<Vec<RecentTask>, Failure> {
    let mut statement = conn.prepare_cached(
        "SELECT n.name, t.status, t.id, t.finished_at FROM tasks t JOIN names n ON n.id = t.agent
         ORDER BY t.seq DESC LIMIT ?1",
    )?;
    let mut rows = statement.query([signed(limit.min(MAX_RECENT_TASKS) as u64)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let created_at = timestamp_of_id(&row.get(2)?);
        if created_at < since {
            break;
        }
        let (agent, status) = (row.agent(0)?, row.status(1)?);
        let finished_at = row.time_or_none(3)?.filter(|_| status.is_terminal());
        found.push(RecentTask { agent, status, created_at, finished_at });
    }
    Ok(found)
}

#[async_trait]
impl RecentTaskStore for SqliteStore {
    async fn recent_tasks(&self, since: Timestamp, limit: usize) -> Result<Vec<RecentTask>, StoreError> {
        self.read(move |conn| newest(conn, since, limit)).await
    }
}

#[async_trait]
impl AccessStore for SqliteStore {
    async fn add_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        let key = key.clone();
        self.write(1, move |db| add(db, &key)).await
    }

    async fn keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.rows(format!("{KEY} ORDER BY id"), [], |row| api_key(row)).await
    }

    async fn revoke_key(&self, key: KeyId, at: Timestamp) -> Result<bool, StoreError> {
        self.write(1, move |db| {
            let params = (key.as_bytes(), at.0);
            db.execute("UPDATE browser_sessions SET ends_at = min(ends_at, ?2) WHERE key = ?1", params)?;
            let sql = "UPDATE api_keys SET revoked_at = min(coalesce(revoked_at, ?2), ?2) WHERE id = ?1";
            Ok(db.execute(sql, params)? > 0)
        })
        .await
    }

    async fn key_by_hash(&self, hash: KeyHash) -> Result<Option<ApiKey>, StoreError> {
        self.row(format!("{KEY} WHERE hash = ?1"), [hash.to_hex()], |row| api_key(row)).await
    }

    async fn key(&self, key: KeyId) -> Result<Option<ApiKey>, StoreError> {
        self.row(format!("{KEY} WHERE id = ?1"), [*key.as_bytes()], |row| api_key(row)).await
    }

    async fn has_active_keys(&self, now: Timestamp) -> Result<bool, StoreError> {
        self.read(move |conn| {
            let sql = "SELECT EXISTS (SELECT 1 FROM api_keys WHERE coalesce(revoked_at, ?1 + 1) > ?1
                           AND coalesce(expires_at, ?1 + 1) > ?1)";
            value(conn, sql, [now.0])
        })
        .await
    }

    async fn record_key_use(&self, key: KeyId, at: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE api_keys SET used_at = max(coalesce(used_at, ?2), ?2) WHERE id = ?1";
        self.write_relaxed(1, move |db| db.execute(sql, (key.as_bytes(), at.0)).map(drop)).await
    }

    async fn add_browser_session(&self, session: &BrowserSession) -> Result<bool, StoreError> {
        let session = session.clone();
        self.write(1, move |db| add_browser_session(db, &session)).await
    }

    async fn browser_session(&self, hash: KeyHash) -> Result<Option<BrowserSession>, StoreError> {
        let sql = "SELECT hash, key, created_at, ends_at FROM browser_sessions WHERE hash = ?1";
        self.row(sql, [hash.to_hex()], |row| browser_session(row)).await
    }

    async fn end_browser_session(&self, hash: KeyHash) -> Result<bool, StoreError> {
        Ok(self.execute("DELETE FROM browser_sessions WHERE hash = ?1", [hash.to_hex()]).await? > 0)
    }

    async fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let (id, body, horizon) = (entry.id, to_json(entry)?, audit_horizon(entry.at));
        self.write(1, move |db| {
            db.execute("INSERT INTO audit (id, body) VALUES (?1, ?2)", (id.as_bytes(), &body))?;
            db.execute("DELETE FROM audit WHERE id < ?1", [horizon.as_bytes()]).map(drop)
        })
        .await
    }

    async fn audit_log(&self, before: Option<AuditId>, limit: usize) -> Result<Page<AuditEntry>, StoreError> {
        let sql = "SELECT body FROM audit WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2";
        let before = before.map(|id| *id.as_bytes());
        Ok(Page::cut(self.rows(sql, (before, one_more(limit)), |row| row.json(0)).await?, limit))
    }
}
