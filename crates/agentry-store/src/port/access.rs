//! API keys, sessions of the dashboard, and the audit log.

use agentry_core::access::{ApiKey, AuditEntry, BrowserSession, KeyHash};
use agentry_core::id::{AuditId, KeyId};
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use super::Page;
use crate::StoreError;

/// Keys that are kept at most, revoked ones included; the listing is never paged.
pub const MAX_KEYS: usize = 1_000;
/// Sessions of one key that are kept at most. One more ends the oldest: whoever has the key may sign in.
pub const MAX_BROWSER_SESSIONS_PER_KEY: usize = 32;
/// How long a revoked key is listed: 90 days.
pub const REVOKED_KEPT: std::time::Duration = std::time::Duration::from_secs(90 * 86_400);
/// How long the audit log is kept: 400 days, so that a year can be compared with the one before.
pub const AUDIT_KEPT: std::time::Duration = std::time::Duration::from_secs(400 * 86_400);

/// Who may do what, and what was done.
#[async_trait]
pub trait AccessStore: Send + Sync + 'static {
    /// Makes a key, and forgets those that were revoked [`REVOKED_KEPT`] before it was made.
    ///
    /// # Errors
    /// [`StoreError::Full`] when there are [`MAX_KEYS`].
    async fn add_key(&self, key: &ApiKey) -> Result<(), StoreError>;

    /// All keys, oldest first.
    async fn keys(&self) -> Result<Vec<ApiKey>, StoreError>;

    /// Ends a key from `at` on, and its sessions with it; an earlier end stands. False: unknown.
    async fn revoke_key(&self, key: KeyId, at: Timestamp) -> Result<bool, StoreError>;

    /// The key with this hash, good or not.
    async fn key_by_hash(&self, hash: KeyHash) -> Result<Option<ApiKey>, StoreError>;

    /// A key.
    async fn key(&self, key: KeyId) -> Result<Option<ApiKey>, StoreError>;

    /// Whether any key is good at `now`: then callers need one.
    async fn has_keys(&self, now: Timestamp) -> Result<bool, StoreError>;

    /// Says that a key was used; an older moment changes nothing.
    async fn key_used(&self, key: KeyId, at: Timestamp) -> Result<(), StoreError>;

    /// Keeps a session of the dashboard, until its own end or its key's, whichever is earlier. Forgets sessions that ended
    /// before it was opened, and the oldest of its key beyond [`MAX_BROWSER_SESSIONS_PER_KEY`]. False: its key is unknown
    /// or not good when it is opened, and nothing was kept.
    async fn add_browser_session(&self, session: &BrowserSession) -> Result<bool, StoreError>;

    /// The session with this hash, whether or not it has ended.
    async fn browser_session(&self, hash: KeyHash) -> Result<Option<BrowserSession>, StoreError>;

    /// Forgets a session. False: unknown.
    async fn end_browser_session(&self, hash: KeyHash) -> Result<bool, StoreError>;

    /// Adds a line to the audit log and forgets those older than [`AUDIT_KEPT`].
    async fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError>;

    /// The audit log, newest first, older than `before`.
    async fn audit_log(&self, before: Option<AuditId>, limit: usize) -> Result<Page<AuditEntry>, StoreError>;
}

/// Keys revoked before this moment are forgotten at `now`.
pub(crate) fn revoked_horizon(now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::try_from(REVOKED_KEPT.as_micros()).unwrap_or(i64::MAX)))
}

/// Ids of the audit log from before what is kept at `now`.
pub(crate) fn audit_horizon(now: Timestamp) -> AuditId {
    let kept = i64::try_from(AUDIT_KEPT.as_micros()).unwrap_or(i64::MAX);
    let millis = u64::try_from(now.0.saturating_sub(kept) / 1_000).unwrap_or(0);
    AuditId::from_parts(millis, 0)
}
