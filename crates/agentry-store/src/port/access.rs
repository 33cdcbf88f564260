//! API keys, browser sessions and the audit log.

use agentry_core::access::{ApiKey, AuditEntry, BrowserSession, KeyHash};
use agentry_core::id::{AuditId, KeyId};
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use super::Page;
use crate::StoreError;

/// Largest number of stored keys, revoked ones included; the listing is never paged.
pub const MAX_KEYS: usize = 1_000;
/// Largest number of browser sessions per key. One more ends the oldest, because whoever holds the key may sign in.
pub const MAX_BROWSER_SESSIONS_PER_KEY: usize = 32;
/// Time that a revoked key stays listed: 90 days.
pub const REVOKED_KEPT: std::time::Duration = std::time::Duration::from_secs(90 * 86_400);
/// Time that the audit log is retained: 400 days, so that a year can be compared with the one before.
pub const AUDIT_KEPT: std::time::Duration = std::time::Duration::from_secs(400 * 86_400);

/// Stores API keys, browser sessions and the audit log.
#[async_trait]
pub trait AccessStore: Send + Sync + 'static {
    /// Adds a key and deletes those that were revoked [`REVOKED_KEPT`] before its creation.
    ///
    /// # Errors
    /// [`StoreError::Full`] when there are [`MAX_KEYS`].
    async fn add_key(&self, key: &ApiKey) -> Result<(), StoreError>;

    /// Returns all keys, oldest first.
    async fn keys(&self) -> Result<Vec<ApiKey>, StoreError>;

    /// Revokes a key from `at` on and ends its browser sessions; an earlier revocation stands. Returns false for an
    /// unknown key.
    async fn revoke_key(&self, key: KeyId, at: Timestamp) -> Result<bool, StoreError>;

    /// Returns the key with this hash, valid or not.
    async fn key_by_hash(&self, hash: KeyHash) -> Result<Option<ApiKey>, StoreError>;

    /// Returns a key by its id.
    async fn key(&self, key: KeyId) -> Result<Option<ApiKey>, StoreError>;

    /// Returns whether any key is valid at `now`; if so, callers must present one.
    async fn has_active_keys(&self, now: Timestamp) -> Result<bool, StoreError>;

    /// Records that a key was used at `at`; an older time changes nothing.
    async fn record_key_use(&self, key: KeyId, at: Timestamp) -> Result<(), StoreError>;

    /// Adds a browser session that lasts until its own end or its key's, whichever is earlier. Deletes sessions that
    /// ended before its creation, and the oldest of its key beyond [`MAX_BROWSER_SESSIONS_PER_KEY`]. Returns false, and
    /// adds nothing, when its key is unknown or not valid at its creation.
    async fn add_browser_session(&self, session: &BrowserSession) -> Result<bool, StoreError>;

    /// Returns the browser session with this hash, ended or not.
    async fn browser_session(&self, hash: KeyHash) -> Result<Option<BrowserSession>, StoreError>;

    /// Deletes a browser session. Returns false for an unknown one.
    async fn end_browser_session(&self, hash: KeyHash) -> Result<bool, StoreError>;

    /// Appends an entry to the audit log and deletes entries older than [`AUDIT_KEPT`].
    async fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError>;

    /// Returns audit entries older than `before`, newest first.
    async fn audit_log(&self, before: Option<AuditId>, limit: usize) -> Result<Page<AuditEntry>, StoreError>;
}

/// Returns the time before which revoked keys are deleted at `now`.
pub(crate) fn revoked_horizon(now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::try_from(REVOKED_KEPT.as_micros()).unwrap_or(i64::MAX)))
}

/// Returns the lowest audit id that is retained at `now`.
pub(crate) fn audit_horizon(now: Timestamp) -> AuditId {
    let kept = i64::try_from(AUDIT_KEPT.as_micros()).unwrap_or(i64::MAX);
    let millis = u64::try_from(now.0.saturating_sub(kept) / 1_000).unwrap_or(0);
    AuditId::from_parts(millis, 0)
}
