//! [`AccessStore`] and [`PulseStore`] on SQLite.

use agentry_core::access::{ApiKey, AuditEntry, BrowserSession, KeyHash, Scope};
use agentry_core::id::{AuditId, KeyId};
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use rusqlite::{Connection, Row};

use super::db::Db;
use super::failure::Failure;
use super::rows::{collect, first, json_at, page_len, signed, status, to_json};
use super::{SqliteStore, agents};
use crate::port::{audit_horizon, moment_of, revoked_horizon};
use crate::{AccessStore, MAX_BROWSER_SESSIONS_PER_KEY, MAX_KEYS, MAX_PULSE, Page, PulseStore, StoreError, TaskPulse};

const KEY: &str = "SELECT id, hash, name, scope, created_at, expires_at, used_at, revoked_at FROM api_keys";

fn api_key(row: &Row<'_>) -> Result<ApiKey, Failure> {
    let scope: u8 = row.get(3)?;
    let hash = KeyHash::from_hex(&row.get::<_, String>(1)?);
    let moment = |column| Ok::<_, Failure>(row.get::<_, Option<i64>>(column)?.map(Timestamp));
    Ok(ApiKey {
        id: KeyId::from_bytes(row.get(0)?),
        hash: hash.ok_or_else(|| Failure::Data("the hash of a key is not 64 hex digits".to_owned()))?,
        name: row.get(2)?,
        scope: Scope::from_number(scope).ok_or_else(|| Failure::Data(format!("there is no scope {scope}")))?,
        created_at: Timestamp(row.get(4)?),
        expires_at: moment(5)?,
        last_used_at: moment(6)?,
        revoked_at: moment(7)?,
    })
}

fn add(db: &Db, key: &ApiKey) -> Result<(), Failure> {
    db.sql("DELETE FROM api_keys WHERE revoked_at < ?1")?.execute([revoked_horizon(key.created_at).0])?;
    let kept: usize = db.sql("SELECT count(*) FROM api_keys")?.query_row([], |row| row.get(0))?;
    if kept >= MAX_KEYS {
        return Err(Failure::Refused(StoreError::too_many_keys()));
    }
    db.sql("INSERT INTO api_keys (id, hash, name, scope, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute((
            key.id.as_bytes(),
            key.hash.to_hex(),
            &key.name,
            key.scope as u8,
            key.created_at.0,
            key.expires_at.map(|at| at.0),
        ))?;
    Ok(())
}

fn browser_session(row: &Row<'_>) -> Result<BrowserSession, Failure> {
    let hash = KeyHash::from_hex(&row.get::<_, String>(0)?);
    Ok(BrowserSession {
        hash: hash.ok_or_else(|| Failure::Data("the hash of a session is not 64 hex digits".to_owned()))?,
        key: KeyId::from_bytes(row.get(1)?),
        created_at: Timestamp(row.get(2)?),
        ends_at: Timestamp(row.get(3)?),
    })
}

fn add_browser_session(db: &Db, session: &BrowserSession) -> Result<bool, Failure> {
    let (key, now) = (session.key.as_bytes(), session.created_at.0);
    db.sql("DELETE FROM browser_sessions WHERE ends_at <= ?1")?.execute([now])?;
    let sql = "INSERT INTO browser_sessions (hash, key, created_at, ends_at)
               SELECT ?1, id, ?3, min(?4, coalesce(expires_at, ?4), coalesce(revoked_at, ?4)) FROM api_keys
               WHERE id = ?2 AND coalesce(expires_at, ?3 + 1) > ?3 AND coalesce(revoked_at, ?3 + 1) > ?3";
    let kept = db.sql(sql)?.execute((session.hash.to_hex(), key, now, session.ends_at.0))? > 0;
    let sql = "DELETE FROM browser_sessions WHERE hash IN (SELECT hash FROM browser_sessions WHERE key = ?1
                   ORDER BY created_at DESC, hash LIMIT -1 OFFSET ?2)";
    db.sql(sql)?.execute((key, signed(MAX_BROWSER_SESSIONS_PER_KEY as u64)))?;
    Ok(kept)
}

fn log(conn: &Connection, before: Option<AuditId>, limit: usize) -> Result<Page<AuditEntry>, Failure> {
    let limit = page_len(limit);
    let mut statement =
        conn.prepare_cached("SELECT body FROM audit WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2")?;
    let before = before.map(|id| id.as_bytes().to_vec());
    let mut items = collect(&mut statement, (before, signed(limit as u64 + 1)), |row| json_at(row, 0))?;
    let more = items.len() > limit;
    items.truncate(limit);
    Ok(Page { items, more })
}

/// The newest tasks, until one is too old.
fn newest(conn: &Connection, since: Timestamp, limit: usize) -> Result<Vec<TaskPulse>, Failure> {
    let mut statement = conn.prepare_cached(
        "SELECT n.name, t.status, t.id, t.finished_at FROM tasks t JOIN names n ON n.id = t.agent
         ORDER BY t.seq DESC LIMIT ?1",
    )?;
    let mut rows = statement.query([signed(limit.min(MAX_PULSE) as u64)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let created_at = moment_of(&row.get(2)?);
        if created_at < since {
            break;
        }
        let status = status(row.get(1)?)?;
        let finished_at = if status.is_terminal() { Some(Timestamp(row.get(3)?)) } else { None };
        found.push(TaskPulse { agent: agents::name_at(row, 0)?, status, created_at, finished_at });
    }
    Ok(found)
}

#[async_trait]
impl PulseStore for SqliteStore {
    async fn pulse(&self, since: Timestamp, limit: usize) -> Result<Vec<TaskPulse>, StoreError> {
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
        self.read(|conn| collect(&mut *conn.prepare_cached(&format!("{KEY} ORDER BY id"))?, [], api_key)).await
    }

    async fn revoke_key(&self, key: KeyId, at: Timestamp) -> Result<bool, StoreError> {
        self.write(1, move |db| {
            db.sql("UPDATE browser_sessions SET ends_at = min(ends_at, ?2) WHERE key = ?1")?
                .execute((key.as_bytes(), at.0))?;
            let sql = "UPDATE api_keys SET revoked_at = min(coalesce(revoked_at, ?2), ?2) WHERE id = ?1";
            Ok(db.sql(sql)?.execute((key.as_bytes(), at.0))? > 0)
        })
        .await
    }

    async fn key_by_hash(&self, hash: KeyHash) -> Result<Option<ApiKey>, StoreError> {
        self.read(move |conn| {
            first(&mut *conn.prepare_cached(&format!("{KEY} WHERE hash = ?1"))?, [hash.to_hex()], api_key)
        })
        .await
    }

    async fn key(&self, key: KeyId) -> Result<Option<ApiKey>, StoreError> {
        self.read(move |conn| {
            first(&mut *conn.prepare_cached(&format!("{KEY} WHERE id = ?1"))?, [key.as_bytes()], api_key)
        })
        .await
    }

    async fn has_keys(&self, now: Timestamp) -> Result<bool, StoreError> {
        self.read(move |conn| {
            let sql = "SELECT EXISTS (SELECT 1 FROM api_keys WHERE coalesce(revoked_at, ?1 + 1) > ?1
                           AND coalesce(expires_at, ?1 + 1) > ?1)";
            Ok(conn.prepare_cached(sql)?.query_row([now.0], |row| row.get(0))?)
        })
        .await
    }

    async fn key_used(&self, key: KeyId, at: Timestamp) -> Result<(), StoreError> {
        self.write_soon(1, move |db| {
            db.sql("UPDATE api_keys SET used_at = max(coalesce(used_at, ?2), ?2) WHERE id = ?1")?
                .execute((key.as_bytes(), at.0))?;
            Ok(())
        })
        .await
    }

    async fn add_browser_session(&self, session: &BrowserSession) -> Result<bool, StoreError> {
        let session = session.clone();
        self.write(1, move |db| add_browser_session(db, &session)).await
    }

    async fn browser_session(&self, hash: KeyHash) -> Result<Option<BrowserSession>, StoreError> {
        self.read(move |conn| {
            let sql = "SELECT hash, key, created_at, ends_at FROM browser_sessions WHERE hash = ?1";
            first(&mut *conn.prepare_cached(sql)?, [hash.to_hex()], browser_session)
        })
        .await
    }

    async fn end_browser_session(&self, hash: KeyHash) -> Result<bool, StoreError> {
        self.write(1, move |db| {
            Ok(db.sql("DELETE FROM browser_sessions WHERE hash = ?1")?.execute([hash.to_hex()])? > 0)
        })
        .await
    }

    async fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let body = to_json(entry).map_err(|failure| failure.to_store_error())?;
        let (id, horizon) = (entry.id, audit_horizon(entry.at));
        self.write(1, move |db| {
            db.sql("INSERT INTO audit (id, body) VALUES (?1, ?2)")?.execute((id.as_bytes(), &body))?;
            db.sql("DELETE FROM audit WHERE id < ?1")?.execute([horizon.as_bytes()])?;
            Ok(())
        })
        .await
    }

    async fn audit_log(&self, before: Option<AuditId>, limit: usize) -> Result<Page<AuditEntry>, StoreError> {
        self.read(move |conn| log(conn, before, limit)).await
    }
}
